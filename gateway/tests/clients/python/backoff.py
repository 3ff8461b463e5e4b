"""Two calls of which the second meets a token limit: the client waits as long as it is told, by itself."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ["TOLLGATE_URL"] + "/v1", api_key=os.environ["TOLLGATE_KEY"])
question = [{"role": "user", "content": "What is a tollgate?"}]
statuses = []
for _ in range(2):
    answer = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=question)
    statuses.append(str(answer.http_response.status_code))
print("ok", *statuses)
