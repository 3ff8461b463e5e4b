"""A backend fails; its breaker opens after the third failure, and closes when a probe went well."""

import json

from openai import APIStatusError, AzureOpenAI

from world import API_VERSION, DEPLOYMENT, OTHER, REFUSED, SERVED, SIMULATORS, URL, behave, columns, fetch, status, wait_until

QUESTION = [{"role": "user", "content": "Tell me about tollgates"}]
client = AzureOpenAI(azure_endpoint=URL, api_key="lab-key-a", api_version=API_VERSION, max_retries=0)
bars = []


def call():
    try:
        client.chat.completions.create(model=DEPLOYMENT, messages=QUESTION)
        return 200
    except APIStatusError as error:
        return error.status_code


def asked():
    return len(json.loads(fetch(f"{SIMULATORS['east']}/__simulator/requests")))


def calls(what, count):
    before = asked()
    got = [call() for _ in range(count)]
    reached = asked() - before
    for at, code in enumerate(got):
        bars.append((code, SERVED if code == 200 else OTHER if at < reached else REFUSED))
    print(f"{what}: {got}, of which the backend saw {reached}; its breaker is {state()}")


def state():
    return status()["backends"][0]["state"]


calls("well", 3)
behave("east", status={"code": 500})
calls("failing", 6)
behave("east")
wait_until("the breaker lets a call through", lambda: state() != "open")
print(f"three seconds later: its breaker is {state()}")
calls("a probe, and more", 3)
columns("A backend that fails for a while", bars, "status of each call",
        [("served", SERVED), ("failed at the backend", OTHER), ("not sent there: the breaker is open", REFUSED)])
