"""Questions that mean the same, one that doesn't, and another team's: which of them the model answers."""

import time

from openai import AzureOpenAI

from world import API_VERSION, DEPLOYMENT, OTHER, SERVED, URL, metrics, rows, wait_until

QUESTIONS = [
    ("lab-key-a", "How do I brew coffee?"),
    ("lab-key-a", "How do I brew coffee?"),
    ("lab-key-a", "What's the best way to make coffee?"),
    ("lab-key-a", "How do I not brew coffee?"),
    ("lab-key-b", "How do I brew coffee?"),
]

bars = []
for key, question in QUESTIONS:
    team = AzureOpenAI(azure_endpoint=URL, api_key=key, api_version=API_VERSION)
    began = time.perf_counter()
    answer = team.chat.completions.with_raw_response.create(model=DEPLOYMENT, messages=[{"role": "user", "content": question}])
    milliseconds = (time.perf_counter() - began) * 1000
    result, distance = answer.headers["x-tollgate-cache"], answer.headers.get("x-tollgate-cache-distance", "")
    told = f"distance about {float(distance):.3f}, " if distance else ""
    print(f"team-{key[-1]}: {question:36} {result}, {told}about {milliseconds:.0f} ms")
    bars.append((f"team-{key[-1]}: {'hit' if result == 'hit' else 'the model'}", milliseconds, SERVED if result == "hit" else OTHER))

counted = wait_until("five look-ups", lambda: (found := metrics("tollgate_cache_lookups_total")) and sum(found.values()) == len(QUESTIONS) and found)
for name, count in sorted(counted.items()):
    print(f"{name}: {count:.0f}")
rows("How long each question took", bars, "milliseconds", [("answered from the cache", SERVED), ("answered by the model", OTHER)])
