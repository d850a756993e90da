"""What never reaches a file: keys always, contents where asked."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock

from llama_index.packs.mixture_of_agents import ConfigurationError, MixtureOfAgentsPack, Proposer
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.records.traces.redaction import (
    SECRET,
    Redact,
    Redaction,
    cleaned,
    scrubbed,
    summary,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

KEYS = [
    "sk-proj-Abcdef0123456789Abcdef",
    "sk-ant-api03-Abcdef0123456789",
    "gsk_0123456789abcdefghij",
    "hf_abcdefghij0123456789",
    "AIzaSyA-0123456789abcdefghijklmnopqrs",
    "AKIAABCDEFGHIJKLMNOP",
    "ghp_0123456789abcdefghijABCDEFGHIJ",
    "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJ",
    "xai-0123456789abcdefghij",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("around", ["{}", "the key {}, keep it", "url?key={}&x=1", "({})", "{}\n"])
def test_what_looks_like_a_key_is_taken_out(key: str, around: str) -> None:
    assert scrubbed(around.replace("{}", key)) == around.replace("{}", SECRET)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer [secret]"),
        ("authorization = 'Basic abcdef0123456789=='", "authorization = 'Basic [secret]'"),
        ("curl -H 'x-api-key: abcdef0123456789'", "curl -H 'x-api-key: [secret]'"),
        ('{"api_key": "abcdef0123456789"}', '{"api_key": "[secret]"}'),
        ("Bearer abcdef0123456789", "Bearer [secret]"),
    ],
)
def test_what_stands_behind_the_name_of_a_key_is_taken_out(said: str, left: str) -> None:
    assert scrubbed(said) == left


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("ProxyError: http://me:hunter2@proxy:3128/", "ProxyError: http://[secret]@proxy:3128/"),
        ("postgres://:pw@db/x and http://a:b@c", "postgres://[secret]@db/x and http://[secret]@c"),
        (
            "401 for url 'https://h/v1/x?key=abcdefghij&alt=sse'",
            "401 for url 'https://h/v1/x?key=[secret]&alt=sse'",
        ),
        ("url: /v1/models?a=1&access_token=abcdefghij", "url: /v1/models?a=1&access_token=[secret]"),
        ("https://b/x?X-Amz-Signature=0123456789abcdef", "https://b/x?X-Amz-Signature=[secret]"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\n-----END RSA PRIVATE KEY-----\nbehind",
            "[secret]\nbehind",
        ),
    ],
)
def test_what_addresses_and_key_files_hold_is_taken_out(said: str, left: str) -> None:
    assert scrubbed(said) == left
    assert scrubbed(left) == left


@pytest.mark.parametrize(
    "said",
    [
        "http://localhost:8000/a@b, mailto:me@example.org, and 10:30@home",
        "https://h/search?q=key&monkey=banana&keyboard=qwerty",
        "for key in keys: total += prices[key]  # key=value",
        "scikit-learn calls itself sk-learn-and-other-names-like-this",
        "a task-oriented-approach-to-2-problems-and-more",
        "The bearer of good news was authorized by the key holder.",
        "api_key = os.environ",
        "the answer is 0123456789012345678901234567890123456789",
    ],
)
def test_plain_words_stay(said: str) -> None:
    assert scrubbed(said) == said


@given(st.text(max_size=200), st.sampled_from(KEYS), st.text(max_size=50))
def test_a_scrubbed_text_stays_as_it_is(before: str, key: str, behind: str) -> None:
    once = scrubbed(f"{before} {key} {behind}")
    assert scrubbed(once) == once
    assert key not in once


@pytest.mark.parametrize(
    "text",
    [
        "sk-",
        "Bearer ",
        "api_key=",
        "eyJ-",
        "eyJabcdefgh.",
        "AIza-",
        "key: ",
        "://a:",
        "?key=",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_a_text_made_to_take_long_does_not(text: str) -> None:
    started = time.perf_counter()
    scrubbed(text * (500_000 // len(text)))
    assert time.perf_counter() - started < 5


def test_fields_named_like_secrets_are_emptied_and_counts_of_tokens_are_not() -> None:
    given = {
        "api_key": "x",
        "OPENAI_API_KEY": "x",
        "default_headers": {"X-Org": "me"},
        "auth_token": "x",
        "nested": [{"password": "x", "max_tokens": 5}],
        "openai_api_key": None,
        "prompt_tokens": 7,
        "key": "of a map",
        "secret": ["a", "b"],
    }
    assert cleaned(given) == {
        "api_key": SECRET,
        "OPENAI_API_KEY": SECRET,
        "default_headers": {"X-Org": SECRET},
        "auth_token": SECRET,
        "nested": [{"password": SECRET, "max_tokens": 5}],
        "openai_api_key": None,
        "prompt_tokens": 7,
        "key": "of a map",
        "secret": [SECRET, SECRET],
    }


def test_values_that_json_has_not_become_those_it_has() -> None:
    value = cleaned({"nan": float("nan"), 3: {1, 2}, "object": object()})
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert value["object"] == "<object object>"


def traced(path: Path, redact: Redact, question: Any = "Tell me of Ada, ada@example.org") -> str:
    judge = ScriptedLLM("Ada answers ada@example.org. The answer is 4", model="judge")
    ada = Proposer(ScriptedLLM("Ada proposes. The answer is 4", model="ada"), role="You are Ada.")
    bob = ScriptedLLM([ValueError("Ada failed")], model="bob")
    options: dict[str, Any] = {"finish": "vote", "config": {"role": "Ada's", "layer": 2}}
    MixtureOfAgentsPack(judge, [ada, bob], 2, trace=Trace(path, redact=redact), **options).run(question)
    return path.read_text()


def test_no_key_is_in_a_trace(tmp_path: Path) -> None:
    text = traced(tmp_path / "t.jsonl", False, f"Use {KEYS[0]} or Bearer abcdef0123456789, Ada")
    assert KEYS[0] not in text
    assert "abcdef0123456789" not in text
    assert text.count(SECRET) >= 2


def test_all_contents_can_be_left_out(tmp_path: Path) -> None:
    image = ChatMessage(
        role=MessageRole.USER, blocks=[TextBlock(text="Tell me of Ada"), ImageBlock(image=b"\x89PNG\xff")]
    )
    text = traced(tmp_path / "t.jsonl", True, [image])
    assert "Ada" not in text
    assert "iVBO" not in text
    (run,) = read_trace(tmp_path / "t.jsonl")
    assert run.started.redacted
    assert (run.status, len(run.calls)) == ("degraded", 2)
    assert run.question_text.splitlines()[0] == summary("Tell me of Ada")
    assert run.ended is not None
    assert run.ended.usage.prompt_tokens is None  # bob's call failed
    assert run.answer == summary("Ada proposes. The answer is 4")


class LookingUp:
    """An agent's run that looks one thing up."""

    async def stream_events(self) -> AsyncIterator[Any]:
        said = SimpleNamespace(content="Ada, 36", is_error=False)
        yield SimpleNamespace(tool_name="look_up", tool_kwargs={"of": "Ada"}, tool_output=said)

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return "A woman of 36."


class Clerk:
    """An agent that looks things up."""

    name = "clerk"

    def run(self, **asked: Any) -> LookingUp:
        return LookingUp()


@pytest.mark.parametrize("redact", [True, ["Ada"], lambda text: "-"])
def test_what_an_agents_tools_said_is_left_out_too(redact: Redact) -> None:
    uses = [{"tool": "look_up", "arguments": {"of": "Ada"}, "output": "Ada, 36", "is_error": False}]
    routing = {"layers": [{"layer": 0, "overflow": "drop"}]}
    details = {"finish_reason": "stop", "retries": 1, "tool_calls": uses, "sparse_moe": routing}
    kept = Redaction(redact).details(details)
    assert "Ada" not in json.dumps(kept)
    assert (kept["finish_reason"], kept["retries"], kept["sparse_moe"]) == ("stop", 1, routing)
    assert (kept["tool_calls"][0]["tool"], kept["tool_calls"][0]["is_error"]) == ("look_up", False)
    assert Redaction(False).details(details) == details


async def test_no_details_of_an_agents_work_are_in_a_trace_without_texts(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t.jsonl", redact=True)
    pack = MixtureOfAgentsPack(ScriptedLLM("judged", model="judge"), [Clerk()], 2, trace=trace)
    response = await pack.arun("Who?")
    assert "Ada" in json.dumps(response.proposals[0].details)
    assert "Ada" not in (tmp_path / "t.jsonl").read_text()


def test_a_summary_tells_length_and_equality_and_nothing_for_nothing() -> None:
    assert summary("abc") == summary("abc") != summary("abd")
    assert summary("abc").startswith("[redacted: 3 characters, sha256 ")
    assert (summary(""), summary("\ud800")[:25]) == ("", "[redacted: 1 characters, ")


def test_patterns_take_out_what_they_match(tmp_path: Path) -> None:
    text = traced(tmp_path / "t.jsonl", [r"\w+@\w+\.org", re.compile("ada", re.IGNORECASE)])
    assert "example.org" not in text
    assert "Ada" not in text
    assert "[redacted] proposes" in text


def test_a_function_says_what_stands_there_instead(tmp_path: Path) -> None:
    text = traced(tmp_path / "t.jsonl", lambda said: said.replace("Ada", "N. N."))
    assert "N. N. proposes" in text
    assert "Ada" not in text


def test_structure_is_not_redacted() -> None:
    message = {"role": "user", "blocks": [{"block_type": "text", "text": "user text"}]}
    redacted = Redaction(["user|text"]).message(message)
    assert redacted == {
        "role": "user",
        "blocks": [{"block_type": "text", "text": "[redacted] [redacted]"}],
    }


@pytest.mark.parametrize("redact", [3, "text", None, [3], ["("]])
def test_what_redacts_nothing_is_refused(redact: Any) -> None:
    with pytest.raises(ConfigurationError, match="redact"):
        Trace(redact=redact)
