"""Forty calls on three backends, of which the first takes ten a minute. No caller sees a 429."""

import collections
import itertools
import time

from openai import AzureOpenAI

from world import API_VERSION, DEPLOYMENT, OTHER, QUIET, SERVED, URL, columns

QUESTION = [{"role": "user", "content": "Tell me about tollgates"}]
COLOURS = [SERVED, OTHER, QUIET]

client = AzureOpenAI(azure_endpoint=URL, api_key="lab-key-a", api_version=API_VERSION, max_retries=0)
calls = []
for _ in range(40):
    began = time.perf_counter()
    answer = client.chat.completions.with_raw_response.create(model=DEPLOYMENT, messages=QUESTION)
    calls.append((answer.headers["x-ms-region"], (time.perf_counter() - began) * 1000))

regions = [region for region, _milliseconds in calls]
first = regions[0]
at_first = len(list(itertools.takewhile(lambda region: region == first, regions)))
print(f"{first}: the first {at_first} calls, and none of the others: {regions.count(first) == at_first}")
others = collections.Counter(region for region in regions if region != first)
for region, count in sorted(others.items()):
    print(f"{region}: {count} calls")
print(f"{len(calls)} calls, none refused")

colours = dict(zip(dict.fromkeys(regions), COLOURS))
columns("Forty calls, by the backend that answered", [(milliseconds, colours[region]) for region, milliseconds in calls],
        "milliseconds of each call", list(colours.items()))
