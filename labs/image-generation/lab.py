"""An image by the official client. What it used is read from the answer, as of any operation that says it."""

import base64
import json

from openai import AzureOpenAI

from world import API_VERSION, URL, behave, metrics, wait_until

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
answer = {"created": 1760000000, "data": [{"b64_json": PIXEL}], "usage": {"input_tokens": 12, "output_tokens": 272, "total_tokens": 284}}
behave("east", status={"code": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(answer)})

client = AzureOpenAI(azure_endpoint=URL, api_key="lab-key-a", api_version=API_VERSION)
image = client.images.generate(model="gpt-image-1", prompt="a tollgate in the rain", size="1024x1024")
print("an image:", base64.b64decode(image.data[0].b64_json)[1:4].decode(), f"of {image.usage.total_tokens} tokens")
for name, tokens in wait_until("it is counted", lambda: metrics("tollgate_total_tokens_total")).items():
    print(f"{name}: {tokens:.0f}")
