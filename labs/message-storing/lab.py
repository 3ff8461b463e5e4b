"""An audited team and one that isn't call, streamed and not; then what was kept of it, and who may read it."""

import stat

from openai import AzureOpenAI

from world import API_VERSION, DEPLOYMENT, FOLDER, URL, logged, wait_until

for team, question in (("bank", "What is our limit?"), ("clinic", "What does this finding mean?")):
    client = AzureOpenAI(azure_endpoint=URL, api_key=f"lab-key-{team}", api_version=API_VERSION)
    messages = [{"role": "user", "content": question}]
    client.chat.completions.create(model=DEPLOYMENT, messages=messages)
    for _chunk in client.chat.completions.create(model=DEPLOYMENT, messages=messages, stream=True):
        pass

for line in wait_until("two messages", lambda: len(found := logged("messages")) >= 2 and found):
    said = line["request"]["messages"][-1]["content"]
    answer = line["completion"][0] if line["stream"] else line["response"]["choices"][0]["message"]["content"]
    print(f"{line['subscription']}, {'stream' if line['stream'] else 'answer'}: {said} -> {answer[:26]}...")
files = list((FOLDER / "messages").iterdir())
print(f"the clinic's are nowhere: {all('finding' not in file.read_text() for file in files)}")
print(f"who may read them: {', '.join(sorted({stat.filemode(file.stat().st_mode) for file in files}))}")
