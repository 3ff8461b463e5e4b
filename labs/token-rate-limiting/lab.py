"""Thirty calls of one team against 1,200 tokens a minute, then one of another team, then one that waits by itself."""

from openai import AzureOpenAI, RateLimitError

from world import API_VERSION, DEPLOYMENT, REFUSED, SERVED, URL, columns

QUESTION = [{"role": "user", "content": "Tell me about tollgates"}]


def client(key, **options):
    return AzureOpenAI(azure_endpoint=URL, api_key=key, api_version=API_VERSION, **options)


bars, refusal = [], None
team_a = client("lab-key-a", max_retries=0)  # so that refusals can be seen
for _ in range(30):
    try:
        answer = team_a.chat.completions.with_raw_response.create(model=DEPLOYMENT, messages=QUESTION)
        bars.append((int(answer.headers["x-tokens-consumed"]), SERVED))
    except RateLimitError as error:
        refusal = error
        bars.append((0, REFUSED))
served = [tokens for tokens, colour in bars if colour == SERVED]
print(f"team-a: {len(served)} of 30 calls served, {sum(served)} tokens; {30 - len(served)} refused")
print(f"the last refusal: {refusal.status_code} {refusal.code}, Retry-After about {refusal.response.headers['retry-after']}")

client("lab-key-b", max_retries=0).chat.completions.create(model=DEPLOYMENT, messages=QUESTION)
print("team-b has a limit of its own: served")

waiting = client("lab-key-a", max_retries=5).chat.completions.create(model=DEPLOYMENT, messages=QUESTION)
print(f"team-a again, with the client's own retries: served, {waiting.usage.total_tokens} tokens")

columns("Thirty calls against 1,200 tokens a minute", bars, "tokens of each call",
        [("served", SERVED), ("refused: no tokens, no call to the model", REFUSED)])
