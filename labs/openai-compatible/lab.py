"""One client, one key, one limit: chat and embeddings on a machine of one's own, and a model of somebody else's."""

from openai import OpenAI

from world import URL, behave, metrics, wait_until

client = OpenAI(base_url=f"{URL}/v1", api_key="lab-key-a", max_retries=0)


def ask(model):
    answer = client.chat.completions.with_raw_response.create(model=model, messages=[{"role": "user", "content": "What is a tollgate?"}])
    print(f"{model:18} {answer.headers['x-ms-region']}, answered as {answer.parse().model}")


ask("phi3")
ask("gemini-2.5-flash")
vector = client.embeddings.create(model="mxbai-embed-large", input="a tollgate").data[0].embedding
print(f"mxbai-embed-large  {len(vector) > 100} that it is a vector")
ask("assistant")
behave("ollama", status={"code": 503})
ask("assistant")


def counted():
    found = metrics("tollgate_total_tokens_total")
    return found if len(found) == 5 else None


names = {name.split('"')[1] for name in wait_until("all are counted", counted)}
print("counted alike:", ", ".join(sorted(names)))
