"""Developers call with tokens of the directory, each with a limit of their own; then tokens that aren't good."""

import json

from openai import APIStatusError, AzureOpenAI

from world import API_VERSION, DEPLOYMENT, SERVERS, URL, fetch


def token(**claims):
    query = "&".join(f"{name}={value}" for name, value in claims.items())
    return json.loads(fetch(f"{SERVERS['entra']}/token?{query}"))["access_token"]


def ask(what, shown, count=1):
    client = AzureOpenAI(azure_endpoint=URL, azure_ad_token=shown, api_version=API_VERSION, max_retries=0)
    answers = []
    for _ in range(count):
        try:
            client.chat.completions.create(model=DEPLOYMENT, messages=[{"role": "user", "content": "Tell me about tollgates"}])
            answers.append("served")
        except APIStatusError as error:
            answers.append(f"{error.status_code} {error.code}")
    print(f"{what:24}", ", ".join(answers))


alice = token(appid="application-a", oid="alice")
ask("alice", alice, 5)
ask("bob, a limit of his own", token(appid="application-a", oid="bob"), 1)
ask("without the role", token(appid="application-a", oid="carol", roles="reader"))
ask("another application", token(appid="application-b", oid="alice"))
ask("a changed signature", alice[:-8] + "AAAAAAAA")
ask("a key that isn't one", "lab-key-a")
