"""Calls of two teams and three users, streamed and not; then what /metrics says of them."""

import re

from openai import AzureOpenAI

from world import API_VERSION, DEPLOYMENT, OTHER, SERVED, URL, metrics, rows, wait_until

QUESTION = [{"role": "user", "content": "Tell me about tollgates"}]
CALLS = [("lab-key-a", "alice", 3), ("lab-key-a", "bob", 1), ("lab-key-b", "carol", 2), ("lab-key-b", None, 1)]

for key, user, count in CALLS:
    client = AzureOpenAI(azure_endpoint=URL, api_key=key, api_version=API_VERSION)
    headers = {"x-user-id": user} if user else {}
    for number in range(count):
        # The caller of a stream doesn't ask for its usage: it is counted all the same, and the extra chunk kept from it.
        stream = number == 0
        answer = client.chat.completions.create(model=DEPLOYMENT, messages=QUESTION, stream=stream, extra_headers=headers)
        if stream:
            assert all(chunk.usage is None for chunk in answer)


def totals():
    found = metrics("openai_total_tokens_total")
    return found if len(found) == len(CALLS) else None


bars = []
for name, tokens in sorted(wait_until("four series", totals).items()):
    labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
    print(f"{labels['subscription_id']:8} {labels['user_id']:6} from {labels['client_ip']}: {tokens:.0f} tokens")
    bars.append((f"{labels['subscription_id']}, {labels['user_id']}", tokens, SERVED if labels["subscription_id"] == "team-a" else OTHER))
rows("Tokens by subscription and user", bars, "openai_total_tokens_total")
