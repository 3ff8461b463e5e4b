"""Two backends in turn; then a client that keeps its cookie; then a response that goes on from another, without one."""

from openai import OpenAI

from world import DEPLOYMENT, URL


def client():
    return OpenAI(base_url=f"{URL}/openai/v1", api_key="lab-key-a")


def chat(one):
    answer = one.chat.completions.with_raw_response.create(model=DEPLOYMENT, messages=[{"role": "user", "content": "Hello"}])
    return answer.headers["x-ms-region"]


print(f"eight clients of one call each: {len({chat(client()) for _ in range(8)})} backends")
one = client()  # the official client keeps cookies
print(f"one client with eight calls:    {len({chat(one) for _ in range(8)})} backend")

pairs = 0
for _ in range(8):
    begun = client().responses.with_raw_response.create(model=DEPLOYMENT, input="Hello")
    # Another client, without the cookie: the id says where it belongs.
    goes_on = client().responses.with_raw_response.create(model=DEPLOYMENT, input="Go on", previous_response_id=begun.parse().id)
    pairs += begun.headers["x-ms-region"] == goes_on.headers["x-ms-region"]
print(f"previous_response_id:           {pairs} of 8 went to the backend that holds the response")
