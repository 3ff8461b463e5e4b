"""The official OpenAI client for Python against a running gateway: TOLLGATE_URL, TOLLGATE_KEY in the environment."""

import asyncio
import io
import json

import openai
from pydantic import BaseModel

import cases
from cases import (
    AUDIO_MODEL,
    CHAT_MODEL,
    COMPLETION_MODEL,
    EMBEDDING_MODEL,
    FORBIDDEN_MODEL,
    QUESTION,
    UNKNOWN_MODEL,
    case,
    equal,
    raises,
)

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather at a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Fact(BaseModel):
    subject: str
    year: int
    certain: bool
    sources: list[str]


def check_usage(usage):
    assert usage is not None, "no usage"
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0, usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens")


def check_stream(chunks):
    """The text of a stream whose caller asked for no usage: it must see none of the gateway's own asking."""
    assert len(chunks) > 2, chunks
    for chunk in chunks:
        assert chunk.usage is None, f"usage that nobody asked for: {chunk}"
    # Azure's first chunk has no choices but the prompt's filter results; a usage chunk has neither.
    for chunk in chunks[1:]:
        assert chunk.choices, f"a chunk without choices: {chunk}"
    equal([c.choices[0].finish_reason for c in chunks if c.choices][-1], "stop", "finish_reason")
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text, "an empty answer"
    return text


def check_stream_with_usage(chunks):
    equal(chunks[-1].choices, [], "choices of the last chunk")
    check_usage(chunks[-1].usage)
    for chunk in chunks[:-1]:
        assert chunk.usage is None, f"usage before the end: {chunk}"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


# --- chat


@case
def chat_answers_with_usage(flavour):
    answer = flavour.make().chat.completions.create(model=CHAT_MODEL, messages=QUESTION)
    assert answer.choices[0].message.content, answer
    equal(answer.choices[0].finish_reason, "stop", "finish_reason")
    check_usage(answer.usage)


@case
async def chat_answers(flavour):
    async with flavour.make() as client:
        answer = await client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION)
    assert answer.choices[0].message.content, answer
    check_usage(answer.usage)


@case
def a_stream_that_asks_for_no_usage_gets_none(flavour):
    stream = flavour.make().chat.completions.create(model=CHAT_MODEL, messages=QUESTION, stream=True)
    check_stream(list(stream))


@case
def a_stream_that_refuses_usage_gets_none(flavour):
    stream = flavour.make().chat.completions.create(
        model=CHAT_MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": False}
    )
    check_stream(list(stream))


@case
def a_stream_that_asks_for_usage_gets_it_last(flavour):
    stream = flavour.make().chat.completions.create(
        model=CHAT_MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    check_stream_with_usage(list(stream))


@case
async def streams_come_with_and_without_usage(flavour):
    async with flavour.make() as client:
        plain = await client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION, stream=True)
        check_stream([chunk async for chunk in plain])
        asked = await client.chat.completions.create(
            model=CHAT_MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        check_stream_with_usage([chunk async for chunk in asked])


@case
def the_stream_helper_gathers_a_whole_answer(flavour):
    with flavour.make().chat.completions.stream(model=CHAT_MODEL, messages=QUESTION) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds, kinds
    assert whole.choices[0].message.content, whole


@case
def a_stream_that_is_left_early_can_be_followed_by_another_call(flavour):
    client = flavour.make()
    with client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION, stream=True) as stream:
        next(iter(stream))
    assert client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION).choices[0].message.content


@case
def a_stream_and_a_whole_answer_say_the_same(flavour):
    client = flavour.make()
    whole = client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION)
    stream = client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION, stream=True)
    equal(check_stream(list(stream)), whole.choices[0].message.content, "text")


@case
def a_tool_is_called_and_its_result_taken(flavour):
    client = flavour.make()
    messages = [{"role": "user", "content": "What is the weather in Oslo?"}]
    choice = {"type": "function", "function": {"name": "weather"}}
    first = client.chat.completions.create(
        model=CHAT_MODEL, messages=messages, tools=[WEATHER], tool_choice=choice
    ).choices[0]
    call = first.message.tool_calls[0]
    equal(call.function.name, "weather", "function name")
    assert isinstance(json.loads(call.function.arguments), dict), call
    messages += [
        first.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": -3}'},
    ]
    second = client.chat.completions.create(model=CHAT_MODEL, messages=messages)
    assert second.choices[0].message.content, second


@case
def a_streamed_tool_call_has_whole_arguments(flavour):
    stream = flavour.make().chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        stream=True,
    )
    parts = [
        call
        for chunk in stream
        if chunk.choices
        for call in chunk.choices[0].delta.tool_calls or []
    ]
    equal(parts[0].function.name, "weather", "function name")
    arguments = "".join(part.function.arguments or "" for part in parts)
    assert isinstance(json.loads(arguments), dict), arguments


@case
def structured_output_is_parsed(flavour):
    answer = flavour.make().chat.completions.parse(model=CHAT_MODEL, messages=QUESTION, response_format=Fact)
    assert isinstance(answer.choices[0].message.parsed, Fact), answer


@case
async def structured_output_and_tools_work(flavour):
    async with flavour.make() as client:
        answer = await client.chat.completions.parse(model=CHAT_MODEL, messages=QUESTION, response_format=Fact)
        assert isinstance(answer.choices[0].message.parsed, Fact), answer
        called = await client.chat.completions.create(
            model=CHAT_MODEL,
            messages=QUESTION,
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "weather"}},
        )
        equal(called.choices[0].message.tool_calls[0].function.name, "weather", "function name")


@case
def a_text_outside_ascii_comes_back_whole(flavour):
    question = [{"role": "user", "content": "Mauthäuschen — 料金所 — 🛃"}]
    stream = flavour.make().chat.completions.create(model=CHAT_MODEL, messages=question, stream=True)
    assert "\ufffd" not in check_stream(list(stream))


# --- the other operations


@case
def embeddings_come_as_floats_and_as_base64(flavour):
    client = flavour.make()
    texts = ["a tollgate", "a bridge"]
    # Without encoding_format the client asks for base64 and decodes it itself.
    packed = client.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    floats = client.embeddings.create(model=EMBEDDING_MODEL, input=texts, encoding_format="float")
    equal(len(packed.data), 2, "embeddings")
    equal(len(packed.data[0].embedding), len(floats.data[0].embedding), "dimensions")
    for found, wanted in zip(packed.data[1].embedding, floats.data[1].embedding):
        assert abs(found - wanted) < 1e-6, (found, wanted)
    assert packed.data[0].embedding != packed.data[1].embedding, "two texts, one embedding"
    assert packed.usage.prompt_tokens > 0, packed.usage


@case
async def embeddings_come(flavour):
    async with flavour.make() as client:
        answer = await client.embeddings.create(model=EMBEDDING_MODEL, input="a tollgate")
    assert len(answer.data[0].embedding) > 100, answer


@case
def responses_are_created_streamed_and_retrieved(flavour):
    client = flavour.make()
    answer = client.responses.create(model=CHAT_MODEL, input="What is a tollgate?")
    assert answer.output_text, answer
    equal(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens, "total_tokens")
    events = list(client.responses.create(model=CHAT_MODEL, input="What is a tollgate?", stream=True))
    equal(events[0].type, "response.created", "first event")
    equal(events[-1].type, "response.completed", "last event")
    assert events[-1].response.usage.output_tokens > 0, events[-1]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    equal(text, events[-1].response.output_text, "text")
    equal(client.responses.retrieve(answer.id).id, answer.id, "id")


@case
async def responses_stream(flavour):
    async with flavour.make() as client:
        stream = await client.responses.create(model=CHAT_MODEL, input="What is a tollgate?", stream=True)
        events = [event async for event in stream]
    equal(events[-1].type, "response.completed", "last event")


@case
def completions_answer_whole_and_streamed(flavour):
    client = flavour.make()
    answer = client.completions.create(model=COMPLETION_MODEL, prompt="A tollgate is")
    assert answer.choices[0].text, answer
    check_usage(answer.usage)
    chunks = list(client.completions.create(model=COMPLETION_MODEL, prompt="A tollgate is", stream=True))
    for chunk in chunks:
        assert chunk.choices and chunk.usage is None, f"usage that nobody asked for: {chunk}"
    assert "".join(chunk.choices[0].text for chunk in chunks)
    asked = list(
        client.completions.create(
            model=COMPLETION_MODEL, prompt="A tollgate is", stream=True, stream_options={"include_usage": True}
        )
    )
    check_usage(asked[-1].usage)


@case
def models_are_listed(flavour):
    models = list(flavour.make().models.list())
    assert models and all(model.id for model in models), models
    # The client escapes the slash of such a name.
    for name in (models[0].id, "meta-llama/Llama-3.1-8B"):
        assert flavour.make().models.retrieve(name)._request_id


@case
def an_audio_file_is_uploaded_and_transcribed(flavour):
    sound = io.BytesIO(b"RIFF" + bytes(range(256)) * 400)
    answer = flavour.make().audio.transcriptions.create(model=AUDIO_MODEL, file=("speech.wav", sound, "audio/wav"))
    assert answer.text, answer


# --- refusals


@case
def a_wrong_key_is_an_authentication_error(flavour):
    client = flavour.make(api_key="not-a-key-of-anyone")
    error = raises(
        openai.AuthenticationError,
        lambda: client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION),
    )
    equal(error.status_code, 401, "status")
    equal(error.code, "invalid_subscription_key", "code")
    assert error.body["message"] and error.body["type"], error.body
    assert "not-a-key-of-anyone" not in str(error), "the key is told back"


@case
def a_wrong_key_on_a_stream_is_an_authentication_error(flavour):
    client = flavour.make(api_key="not-a-key-of-anyone")
    error = raises(
        openai.AuthenticationError,
        lambda: client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION, stream=True),
    )
    equal(error.code, "invalid_subscription_key", "code")


@case
def no_key_is_an_authentication_error(flavour):
    without = {"Authorization": openai.Omit(), "api-key": openai.Omit()}
    client = flavour.make()
    error = raises(
        openai.AuthenticationError,
        lambda: client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION, extra_headers=without),
    )
    equal(error.code, "missing_subscription_key", "code")


@case
def an_unknown_model_is_not_found(flavour):
    client = flavour.make()
    error = raises(
        openai.NotFoundError,
        lambda: client.chat.completions.create(model=UNKNOWN_MODEL, messages=QUESTION),
    )
    equal(error.code, "DeploymentNotFound", "code")


@case
def a_model_outside_the_product_is_denied(flavour):
    client = flavour.make()
    error = raises(
        openai.PermissionDeniedError,
        lambda: client.chat.completions.create(model=FORBIDDEN_MODEL, messages=QUESTION),
    )
    equal(error.code, "model_not_allowed", "code")


@case
def a_body_without_messages_is_a_bad_request(flavour):
    client = flavour.make()
    error = raises(
        openai.BadRequestError,
        lambda: client.chat.completions.create(
            model=CHAT_MODEL, messages=QUESTION, extra_body={"messages": None}
        ),
    )
    equal(error.code, "invalid_request_body", "code")


@case
def a_path_outside_of_every_api_is_not_found(flavour):
    client = flavour.make()
    url = f"{cases.URL}/elsewhere/chat/completions"
    error = raises(openai.NotFoundError, lambda: client.post(url, cast_to=object, body={"model": CHAT_MODEL}))
    equal(error.code, "not_found", "code")


@case
async def refusals_are_told_apart(flavour):
    async with flavour.make(api_key="not-a-key-of-anyone") as client:
        try:
            await client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION)
            raise AssertionError("a wrong key was let in")
        except openai.AuthenticationError as error:
            equal(error.code, "invalid_subscription_key", "code")
    async with flavour.make() as client:
        try:
            await client.chat.completions.create(model=UNKNOWN_MODEL, messages=QUESTION, stream=True)
            raise AssertionError("an unknown model was found")
        except openai.NotFoundError as error:
            equal(error.code, "DeploymentNotFound", "code")


# --- headers and connections


@case
def an_unknown_header_and_an_unknown_field_pass(flavour):
    client = flavour.make(default_headers={"x-team": "red"}, default_query={"x-trace": "1"})
    answer = client.chat.completions.create(
        model=CHAT_MODEL, messages=QUESTION, extra_body={"a_field_of_next_year": {"deep": [1, 2.50, None]}}
    )
    assert answer.choices[0].message.content, answer


@case
def a_key_in_another_header_is_taken(flavour):
    without = {"Authorization": openai.Omit(), "api-key": openai.Omit()}
    headers = without | {"Ocp-Apim-Subscription-Key": cases.KEY}
    client = flavour.make()
    assert client.chat.completions.create(model=CHAT_MODEL, messages=QUESTION, extra_headers=headers).choices


@case
def an_answer_carries_a_request_id(flavour):
    client = flavour.make()
    raw = client.chat.completions.with_raw_response.create(model=CHAT_MODEL, messages=QUESTION)
    assert raw.headers.get("x-request-id"), dict(raw.headers)
    equal(raw.parse()._request_id, raw.headers["x-request-id"], "request id of the parsed answer")
    assert not [name for name in raw.headers if name.startswith("x-ratelimit-")], dict(raw.headers)


@case
def a_connection_is_used_again(flavour):
    client = flavour.make()
    ports = set()
    for _ in range(3):
        raw = client.chat.completions.with_raw_response.create(model=CHAT_MODEL, messages=QUESTION)
        raw.parse()
        ports.add(raw.http_response.extensions["network_stream"].get_extra_info("client_addr"))
    stream = client.chat.completions.with_raw_response.create(model=CHAT_MODEL, messages=QUESTION, stream=True)
    ports.add(stream.http_response.extensions["network_stream"].get_extra_info("client_addr"))
    list(stream.parse())
    equal(len(ports), 1, f"connections {ports}")


@case
async def calls_at_once_do_not_mix(flavour):
    async with flavour.make() as client:
        texts = [f"number {number}" for number in range(12)]
        alone = [await client.embeddings.create(model=EMBEDDING_MODEL, input=text) for text in texts]
        at_once = await asyncio.gather(
            *(client.embeddings.create(model=EMBEDDING_MODEL, input=text) for text in texts)
        )
    for text, one, other in zip(texts, alone, at_once):
        equal(other.data[0].embedding, one.data[0].embedding, f"embedding of {text!r}")


cases.run()
