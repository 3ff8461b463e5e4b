"""Three teams in two products use models; one runs out of its month; what each cost center owes; one is cut off."""

import subprocess

from openai import APIStatusError, AzureOpenAI

from world import API_VERSION, FOLDER, OTHER, SERVED, TOLLGATE, URL, logged, reload, rows, wait_until

CALLS = [("search", "gpt-4o", 8), ("search", "gpt-4o-mini", 4), ("support", "gpt-4o-mini", 10), ("intern", "gpt-4o-mini", 2)]


def ask(team, model):
    client = AzureOpenAI(azure_endpoint=URL, api_key=f"lab-key-{team}", api_version=API_VERSION, max_retries=0)
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Tell me about tollgates"}])
        return "served"
    except APIStatusError as error:
        return f"{error.status_code} {error.code}"


for team, model, count in CALLS:
    answers = [ask(team, model) for _ in range(count)]
    print(f"{team:8} {model:12}", ", ".join(f"{answers.count(kind)} {kind}" for kind in dict.fromkeys(answers)))


def report(*options):
    output = subprocess.run([TOLLGATE, "usage", "report", FOLDER / "usage", "--prices", FOLDER / "prices.toml", *options],
                            capture_output=True, text=True, check=True)
    return output.stdout


# Lines are written in groups, within a second.
wait_until("the usage log is written", lambda: len(logged()) == sum(count for _team, _model, count in CALLS))
print(report("--by", "attributes.cost-center,model"), end="")
reload("2-suspended.toml")
print("intern, suspended by a reload:", ask("intern", "gpt-4o-mini"))

by_team = [row.split(",") for row in report("--by", "subscription,model", "--format", "csv").splitlines()]
cost = next(at for at, name in enumerate(by_team[0]) if "cost" in name.lower())
rows("What each team's calls cost", [(f"{row[0]}, {row[1]}", float(row[cost]), SERVED if row[1] == "gpt-4o" else OTHER)
                                     for row in by_team[1:] if row[0] in ("search", "support", "intern")], "US dollars, by the example prices")
