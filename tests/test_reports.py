"""What providers report with an answer, in the forms their LlamaIndex classes hand it on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse

from llama_index.packs.mixture_of_agents import Usage
from llama_index.packs.mixture_of_agents.reports import details_of, usage_of, was_cut

OPENAI = SimpleNamespace(
    choices=[SimpleNamespace(finish_reason="length")],
    usage=SimpleNamespace(
        prompt_tokens=100,
        completion_tokens=50,
        prompt_tokens_details=SimpleNamespace(cached_tokens=64),
        completion_tokens_details=SimpleNamespace(reasoning_tokens=32),
    ),
)
OPENAI_RESPONSES = {
    "usage": {
        "input_tokens": 10,
        "output_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 4},
    }
}
ANTHROPIC = {
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 5,
        "output_tokens": 9,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 200,
    },
}
GOOGLE = {
    "usage_metadata": {
        "prompt_token_count": 20,
        "candidates_token_count": 8,
        "thoughts_token_count": 30,
        "cached_content_token_count": 16,
    },
    "candidates": [{"finish_reason": "STOP"}],
}
OLLAMA = {"prompt_eval_count": 4, "eval_count": 6, "done_reason": "stop"}
LOCAL = {
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    "finish_reason": "stop",
    "sparse_moe": {"layers": [{"layer": 0, "load": [1, 2]}]},
}


def said(raw: Any) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role="assistant", content="x"), raw=raw)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (OPENAI, Usage(prompt_tokens=100, completion_tokens=50, cached_tokens=64, reasoning_tokens=32)),
        (OPENAI_RESPONSES, Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=3, reasoning_tokens=4)),
        # What came from the cache or went into it was read too.
        (ANTHROPIC, Usage(prompt_tokens=1205, completion_tokens=9, cached_tokens=1000)),
        # Thinking was written too.
        (GOOGLE, Usage(prompt_tokens=20, completion_tokens=38, cached_tokens=16, reasoning_tokens=30)),
        (OLLAMA, Usage(prompt_tokens=4, completion_tokens=6)),
        (LOCAL, Usage(prompt_tokens=3, completion_tokens=2)),
        (None, Usage()),
        ("text", Usage()),
        ({"usage": {"prompt_tokens": True, "completion_tokens": "7"}}, Usage()),
    ],
)
def test_tokens_are_found_where_each_provider_puts_them(raw: Any, usage: Usage) -> None:
    assert usage_of(said(raw)) == usage


@pytest.mark.parametrize(
    ("raw", "details"),
    [
        (OPENAI, {"finish_reason": "length"}),
        (ANTHROPIC, {"finish_reason": "end_turn"}),
        (GOOGLE, {"finish_reason": "STOP"}),
        (OLLAMA, {"finish_reason": "stop"}),
        (LOCAL, {"finish_reason": "stop", "sparse_moe": LOCAL["sparse_moe"]}),
        (None, {}),
        ({"finish_reason": None}, {}),
    ],
)
def test_why_it_ended_and_how_it_was_routed_is_kept(raw: Any, details: dict[str, Any]) -> None:
    assert details_of(said(raw)) == details


def test_a_total_knows_parts_where_anyone_reported_them() -> None:
    parts = [
        Usage(prompt_tokens=1, completion_tokens=2, cached_tokens=1),
        Usage(prompt_tokens=3, completion_tokens=4, estimated=True),
    ]
    total = Usage.total(parts)
    assert (total.prompt_tokens, total.completion_tokens, total.cached_tokens) == (4, 6, 1)
    assert (total.reasoning_tokens, total.estimated, total.cost_usd) == (None, True, None)


@pytest.mark.parametrize(("ending", "is_cut"), [("length", True), ("MAX_TOKENS", True), ("stop", False)])
def test_an_answer_that_was_as_long_as_it_might_be_was_cut(ending: str, is_cut: bool) -> None:
    assert was_cut({"finish_reason": ending}) is is_cut
    assert not was_cut({})
