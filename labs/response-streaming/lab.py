"""A stream through the gateway: when each token comes, and that it is counted though nobody asked for its usage."""

import time

from openai import AzureOpenAI

from world import API_VERSION, DEPLOYMENT, SERVED, URL, columns, metrics, wait_until

client = AzureOpenAI(azure_endpoint=URL, api_key="lab-key-a", api_version=API_VERSION)
began, came, usage_seen = time.perf_counter(), [], False
for chunk in client.chat.completions.create(model=DEPLOYMENT, messages=[{"role": "user", "content": "Tell me about tollgates"}], stream=True):
    usage_seen |= chunk.usage is not None
    if chunk.choices and chunk.choices[0].delta.content:
        came.append((time.perf_counter() - began) * 1000)
print(f"{len(came)} tokens, the first after about {came[0]:.0f} ms, the last after about {came[-1]:.0f} ms")
print(f"the caller, who didn't ask for it, saw the usage: {usage_seen}")
for name, tokens in wait_until("the stream is counted", lambda: metrics("tollgate_completion_tokens_total")).items():
    print(f"{name}: {tokens:.0f}")
columns("When each token of a stream came", [(milliseconds, SERVED) for milliseconds in came], "milliseconds after the call")
