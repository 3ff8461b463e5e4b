"""What the cases share: the clients under test, how a case is declared, and how all of them are run.

The client is the one from PyPI, unmodified. A case is a sentence about what its user sees. `run` prints one line a
case, `ok NAME`, and ends with status 1 at the first that fails, with the details.
"""

import asyncio
import inspect
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Any, Callable

import openai

URL = os.environ["TOLLGATE_URL"].rstrip("/")
KEY = os.environ["TOLLGATE_KEY"]
API_VERSION = "2024-10-21"

CHAT_MODEL = "gpt-4o"
EMBEDDING_MODEL = "text-embedding-3-small"
COMPLETION_MODEL = "gpt-3.5-turbo-instruct"
AUDIO_MODEL = "whisper-1"
FORBIDDEN_MODEL = "gpt-4.1"  # in the APIs, but not in the product that KEY was issued for
UNKNOWN_MODEL = "no-such-model"

QUESTION = [{"role": "user", "content": "What is a tollgate?"}]


@dataclass
class Flavour:
    """One way to reach the gateway with one class of the client."""

    name: str
    make: Callable[..., Any]  # keyword arguments go to the client's constructor


def azure(kind):
    def make(**arguments):
        # A failed case must not be hidden by the client's own second try.
        settings = {"azure_endpoint": URL, "api_key": KEY, "api_version": API_VERSION, "max_retries": 0, "timeout": 30}
        return kind(**(settings | arguments))

    return make


def plain(kind, path):
    def make(**arguments):
        settings = {"base_url": URL + path, "api_key": KEY, "max_retries": 0, "timeout": 30}
        return kind(**(settings | arguments))

    return make


BLOCKING = [
    Flavour("AzureOpenAI", azure(openai.AzureOpenAI)),
    Flavour("OpenAI", plain(openai.OpenAI, "/v1")),
    Flavour("OpenAI at /openai/v1", plain(openai.OpenAI, "/openai/v1")),
]
ASYNCHRONOUS = [
    Flavour("AsyncAzureOpenAI", azure(openai.AsyncAzureOpenAI)),
    Flavour("AsyncOpenAI", plain(openai.AsyncOpenAI, "/v1")),
]

_cases: list[tuple[str, Callable[[Flavour], Any], Flavour]] = []


def case(function):
    """Declares a case, once for each flavour that its colour (def, async def) fits."""
    sentence = function.__name__.replace("_", " ")
    for flavour in ASYNCHRONOUS if inspect.iscoroutinefunction(function) else BLOCKING:
        _cases.append((f"{flavour.name}: {sentence}", function, flavour))
    return function


def equal(found, wanted, what="value"):
    assert found == wanted, f"{what}: found {found!r}, wanted {wanted!r}"


def raises(kind, call):
    """The error of this very class that the call ends with."""
    try:
        answer = call()
    except openai.OpenAIError as error:
        assert type(error) is kind, f"found {type(error).__name__} ({error}), wanted {kind.__name__}"
        return error
    raise AssertionError(f"no error but {answer!r}, wanted {kind.__name__}")


def run():
    for name, function, flavour in _cases:
        try:
            outcome = function(flavour)
            if inspect.isawaitable(outcome):
                asyncio.run(outcome)
        except Exception:
            print(f"failed {name}", flush=True)
            traceback.print_exc()
            sys.exit(1)
        print(f"ok {name}", flush=True)
