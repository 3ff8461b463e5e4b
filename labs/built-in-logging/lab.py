"""A call, a stream, one that its caller leaves, and one that is refused; then what the usage log says of each."""

from openai import APIStatusError, AzureOpenAI

from world import API_VERSION, DEPLOYMENT, URL, logged, wait_until

client = AzureOpenAI(azure_endpoint=URL, api_key="lab-key-a", api_version=API_VERSION, max_retries=0)
question = {"model": DEPLOYMENT, "messages": [{"role": "user", "content": "Tell me about tollgates"}]}

client.chat.completions.create(**question, user="alice")
for _chunk in client.chat.completions.create(**question, user="bob", stream=True):
    pass
try:
    client.chat.completions.create(model="no-such-model", messages=question["messages"])
except APIStatusError:
    pass

for line in wait_until("three lines", lambda: len(logged()) == 3 and logged()):
    shown = {name: line[name] for name in ("subscription", "model", "backend", "status", "stream", "total_tokens", "source", "end", "user", "attributes")}
    print(" ".join(f"{name}={value}" for name, value in shown.items() if value not in ("", None)))
print(f"not in it: {'tollgates' not in str(logged())} that the prompt isn't, {'lab-key' not in str(logged())} that the key isn't")
