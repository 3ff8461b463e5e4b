"""A reasoning model by the Azure AI Inference client, streamed and not, and what of it was reasoning."""

from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential

from world import URL, behave, metrics, wait_until

behave("foundry", content={"tokens": 60, "reasoning-tokens": 45})
client = ChatCompletionsClient(endpoint=f"{URL}/models", credential=AzureKeyCredential("lab-key-a"))
question = {"model": "DeepSeek-R1", "messages": [UserMessage("What is a tollgate?")]}

answer = client.complete(**question)
print(f"an answer: {answer.usage.completion_tokens} completion tokens")
# Servers of this schema needn't know `stream_options`, so the gateway doesn't add it: who wants exact figures of a stream asks.
stream = client.complete(**question, stream=True, model_extras={"stream_options": {"include_usage": True}})
pieces = [update for update in stream if update.choices]
print(f"a stream:  {len(pieces) > 1} that it came in pieces")
for name, tokens in sorted(wait_until("both are counted", lambda: (found := metrics("llm_completion")) and max(found.values()) >= 210 and found).items()):
    print(f"{name}: {tokens:.0f}")
