# Zero to production, as a notebook: each cell that begins with `# %%` can be run by itself in an editor that knows them.

# %% The client: a base URL and a key, and nothing else that isn't Azure OpenAI's own
import collections
import itertools

from openai import AzureOpenAI, RateLimitError

from world import API_VERSION, DEPLOYMENT, URL, metrics, reload, wait_until

client = AzureOpenAI(azure_endpoint=URL, api_key="lab-key-a", api_version=API_VERSION, max_retries=0)
numbers = itertools.count(1)


def ask(question=None):
    """The headers of an answer. Without a question of its own, each is another one."""
    question = question or f"Tell me about tollgate number {next(numbers)}"
    return client.chat.completions.with_raw_response.create(model=DEPLOYMENT, messages=[{"role": "user", "content": question}]).headers


def regions(count):
    return dict(sorted(collections.Counter(ask()["x-ms-region"] for _ in range(count)).items()))


# %% Step 1: one backend
print("1. one backend: ", regions(4))

# %% Step 2: two backends, by turns. The file is another, the process the same: no call is lost
reload("2-balancing.toml")
print("2. two backends:", regions(4))

# %% Step 3: who used how much, and where
reload("3-metrics.toml")
regions(4)
for name, tokens in sorted(wait_until("two series", lambda: (found := metrics("openai_total_tokens_total")) and sum(found.values()) >= 400 and found).items()):
    print(f"3. {name}: about {tokens:.0f}")

# %% Step 4: a limit for each subscription
reload("4-limits.toml")
served = 0
try:
    while served < 30:
        ask()
        served += 1
except RateLimitError as refusal:
    print(f"4. {served} calls of about 100 tokens served of 600 tokens a minute, then {refusal.status_code} {refusal.code}")

# %% Step 5: a question that was answered needs no tokens, and so no limit refuses it
reload("5-cache.toml")

def attempt(question):
    try:
        return ask(question).get("x-tollgate-cache")
    except RateLimitError:
        return None


wait_until("there are tokens again", lambda: attempt("How do I brew coffee?"))
wait_until("the limit is used up", lambda: attempt(None) is None)
print("5. the limit is used up again; the question from before:", attempt("What's the best way to make coffee?"))
