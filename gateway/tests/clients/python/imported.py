"""One call of the official client for each operation of an imported document that the client has.

TOLLGATE_OPERATIONS holds a line an operation: its id, its method and its path on the gateway. For each one that the
client has a method for, the method is called, and `ok ID` is printed; the others are printed as `none ID`.
"""

import os
import re

import openai

URL = os.environ["TOLLGATE_URL"].rstrip("/")
settings = {"api_key": os.environ["TOLLGATE_KEY"], "max_retries": 0, "timeout": 30}
version = "2024-10-21"
classic = openai.AzureOpenAI(azure_endpoint=URL, api_version=version, **settings)
v1 = openai.OpenAI(base_url=URL + "/openai/v1", **settings)
models = openai.OpenAI(base_url=URL + "/models", default_query={"api-version": version}, **settings)

QUESTION = [{"role": "user", "content": "What is a tollgate?"}]
SOUND = ("a.wav", b"RIFF")
grader = {"type": "string_check", "name": "g", "input": "a", "operation": "eq", "reference": "a"}
source = {"type": "custom", "item_schema": {}}
data = {"type": "jsonl", "source": {"type": "file_id", "id": "f"}}


class Made:
    """Only a response that was made can be asked for."""

    id = "none-yet"


def respond(client):
    Made.id = client.responses.create(model="chat", input="hi").id


def threads(client):
    return client.beta.threads


CALLS = {
    "POST /chat/completions": lambda c: c.chat.completions.create(model="chat", messages=QUESTION),
    "POST /completions": lambda c: c.completions.create(model="chat", prompt="Once"),
    "POST /embeddings": lambda c: c.embeddings.create(model="chat", input="hi"),
    "POST /audio/transcriptions": lambda c: c.audio.transcriptions.create(model="chat", file=SOUND),
    "POST /audio/translations": lambda c: c.audio.translations.create(model="chat", file=SOUND),
    "POST /audio/speech": lambda c: c.audio.speech.create(model="chat", input="hi", voice="alloy"),
    "POST /images/generations": lambda c: c.images.generate(model="chat", prompt="a gate"),
    "GET /assistants": lambda c: c.beta.assistants.list(),
    "POST /assistants": lambda c: c.beta.assistants.create(model="chat"),
    "GET /assistants/{}": lambda c: c.beta.assistants.retrieve("a"),
    "POST /assistants/{}": lambda c: c.beta.assistants.update("a", name="n"),
    "DELETE /assistants/{}": lambda c: c.beta.assistants.delete("a"),
    "POST /threads": lambda c: threads(c).create(),
    "GET /threads/{}": lambda c: threads(c).retrieve("t"),
    "POST /threads/{}": lambda c: threads(c).update("t", metadata={}),
    "DELETE /threads/{}": lambda c: threads(c).delete("t"),
    "GET /threads/{}/messages": lambda c: threads(c).messages.list("t"),
    "POST /threads/{}/messages": lambda c: threads(c).messages.create("t", role="user", content="hi"),
    "GET /threads/{}/messages/{}": lambda c: threads(c).messages.retrieve("m", thread_id="t"),
    "POST /threads/{}/messages/{}": lambda c: threads(c).messages.update("m", thread_id="t", metadata={}),
    "POST /threads/runs": lambda c: threads(c).create_and_run(assistant_id="a"),
    "GET /threads/{}/runs": lambda c: threads(c).runs.list("t"),
    "POST /threads/{}/runs": lambda c: threads(c).runs.create("t", assistant_id="a"),
    "GET /threads/{}/runs/{}": lambda c: threads(c).runs.retrieve("r", thread_id="t"),
    "POST /threads/{}/runs/{}": lambda c: threads(c).runs.update("r", thread_id="t", metadata={}),
    "POST /threads/{}/runs/{}/submit_tool_outputs": lambda c: threads(c).runs.submit_tool_outputs(
        "r", thread_id="t", tool_outputs=[]
    ),
    "POST /threads/{}/runs/{}/cancel": lambda c: threads(c).runs.cancel("r", thread_id="t"),
    "GET /threads/{}/runs/{}/steps": lambda c: threads(c).runs.steps.list("r", thread_id="t"),
    "GET /threads/{}/runs/{}/steps/{}": lambda c: threads(c).runs.steps.retrieve("s", thread_id="t", run_id="r"),
    "GET /vector_stores": lambda c: c.vector_stores.list(),
    "POST /vector_stores": lambda c: c.vector_stores.create(name="n"),
    "GET /vector_stores/{}": lambda c: c.vector_stores.retrieve("v"),
    "POST /vector_stores/{}": lambda c: c.vector_stores.update("v", name="n"),
    "DELETE /vector_stores/{}": lambda c: c.vector_stores.delete("v"),
    "GET /vector_stores/{}/files": lambda c: c.vector_stores.files.list("v"),
    "POST /vector_stores/{}/files": lambda c: c.vector_stores.files.create("v", file_id="f"),
    "GET /vector_stores/{}/files/{}": lambda c: c.vector_stores.files.retrieve("f", vector_store_id="v"),
    "POST /vector_stores/{}/files/{}": lambda c: c.vector_stores.files.update("f", vector_store_id="v", attributes={}),
    "DELETE /vector_stores/{}/files/{}": lambda c: c.vector_stores.files.delete("f", vector_store_id="v"),
    "GET /vector_stores/{}/files/{}/content": lambda c: c.vector_stores.files.content("f", vector_store_id="v"),
    "POST /vector_stores/{}/search": lambda c: c.vector_stores.search("v", query="hi"),
    "POST /vector_stores/{}/file_batches": lambda c: c.vector_stores.file_batches.create("v", file_ids=["f"]),
    "GET /vector_stores/{}/file_batches/{}": lambda c: c.vector_stores.file_batches.retrieve("b", vector_store_id="v"),
    "POST /vector_stores/{}/file_batches/{}/cancel": lambda c: c.vector_stores.file_batches.cancel(
        "b", vector_store_id="v"
    ),
    "GET /vector_stores/{}/file_batches/{}/files": lambda c: c.vector_stores.file_batches.list_files(
        "b", vector_store_id="v"
    ),
    "POST /responses": respond,
    "GET /responses/{}": lambda c: c.responses.retrieve(Made.id),
    "DELETE /responses/{}": lambda c: c.responses.delete(Made.id),
    "GET /responses/{}/input_items": lambda c: c.responses.input_items.list(Made.id),
    "GET /containers": lambda c: c.containers.list(),
    "POST /containers": lambda c: c.containers.create(name="n"),
    "GET /containers/{}": lambda c: c.containers.retrieve("c"),
    "DELETE /containers/{}": lambda c: c.containers.delete("c"),
    "POST /containers/{}/files": lambda c: c.containers.files.create("c", file_id="f"),
    "GET /containers/{}/files": lambda c: c.containers.files.list("c"),
    "GET /containers/{}/files/{}": lambda c: c.containers.files.retrieve("f", container_id="c"),
    "DELETE /containers/{}/files/{}": lambda c: c.containers.files.delete("f", container_id="c"),
    "GET /containers/{}/files/{}/content": lambda c: c.containers.files.content.retrieve("f", container_id="c"),
    "GET /evals": lambda c: c.evals.list(),
    "POST /evals": lambda c: c.evals.create(data_source_config=source, testing_criteria=[grader]),
    "GET /evals/{}": lambda c: c.evals.retrieve("e"),
    "POST /evals/{}": lambda c: c.evals.update("e", name="n"),
    "DELETE /evals/{}": lambda c: c.evals.delete("e"),
    "GET /evals/{}/runs": lambda c: c.evals.runs.list("e"),
    "POST /evals/{}/runs": lambda c: c.evals.runs.create("e", data_source=data),
    "GET /evals/{}/runs/{}": lambda c: c.evals.runs.retrieve("r", eval_id="e"),
    "DELETE /evals/{}/runs/{}": lambda c: c.evals.runs.delete("r", eval_id="e"),
    "GET /evals/{}/runs/{}/output_items": lambda c: c.evals.runs.output_items.list("r", eval_id="e"),
    "GET /evals/{}/runs/{}/output_items/{}": lambda c: c.evals.runs.output_items.retrieve("o", eval_id="e", run_id="r"),
    "POST /files": lambda c: c.files.create(file=("a.jsonl", b"{}"), purpose="batch"),
    "GET /files": lambda c: c.files.list(),
    "GET /files/{}": lambda c: c.files.retrieve("f"),
    "DELETE /files/{}": lambda c: c.files.delete("f"),
    "GET /files/{}/content": lambda c: c.files.content("f"),
    "POST /fine_tuning/alpha/graders/run": lambda c: c.fine_tuning.alpha.graders.run(grader=grader, model_sample="a"),
    "POST /fine_tuning/alpha/graders/validate": lambda c: c.fine_tuning.alpha.graders.validate(grader=grader),
    "POST /fine_tuning/jobs": lambda c: c.fine_tuning.jobs.create(model="chat", training_file="f"),
    "GET /fine_tuning/jobs": lambda c: c.fine_tuning.jobs.list(),
    "GET /fine_tuning/jobs/{}": lambda c: c.fine_tuning.jobs.retrieve("j"),
    "POST /fine_tuning/jobs/{}/cancel": lambda c: c.fine_tuning.jobs.cancel("j"),
    "GET /fine_tuning/jobs/{}/checkpoints": lambda c: c.fine_tuning.jobs.checkpoints.list("j"),
    "GET /fine_tuning/jobs/{}/events": lambda c: c.fine_tuning.jobs.list_events("j"),
    "POST /fine_tuning/jobs/{}/pause": lambda c: c.fine_tuning.jobs.pause("j"),
    "POST /fine_tuning/jobs/{}/resume": lambda c: c.fine_tuning.jobs.resume("j"),
    "GET /models": lambda c: c.models.list(),
    "GET /models/{}": lambda c: c.models.retrieve("m"),
}


def client_and_path(path):
    if path.startswith("/models"):
        return models, path.removeprefix("/models")
    if path.startswith("/openai/v1/"):
        return v1, path.removeprefix("/openai/v1")
    path = path.removeprefix("/openai")
    return classic, re.sub(r"^/deployments/\{[^}]*\}", "", path)


for line in os.environ["TOLLGATE_OPERATIONS"].splitlines():
    name, method, path = line.split("\t")
    client, path = client_and_path(path)
    call = CALLS.get(f"{method} " + re.sub(r"\{[^}]*\}", "{}", path))
    if call is None:
        print("none", name)
        continue
    try:
        call(client)
    except openai.APIStatusError as error:
        raise SystemExit(f"{name}: {error.status_code} {error.response.text}")
    print("ok", name)
