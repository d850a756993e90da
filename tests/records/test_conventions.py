"""A run in the words of the GenAI conventions: names, attributes, and what is left out."""

from __future__ import annotations

import json

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records import conventions
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Usage


def _call(identity: ModelIdentity | None = None, sampling: Sampling | None = None, turn: int = 0) -> Call:
    return Call(
        "run", 1, 0, "poet", [], sampling or Sampling(), turn=turn, identity=identity or ModelIdentity()
    )


@pytest.mark.parametrize(
    ("class_name", "provider"),
    [
        ("OpenAI", "openai"),
        ("MistralAI", "mistral_ai"),
        ("AzureOpenAI", "azure.ai.openai"),
        ("GoogleGenAI", "gcp.gemini"),
        ("Ollama", "ollama"),
        ("OpenAILike", "openailike"),
        ("TogetherLLM", "together"),
        ("", "unknown"),
    ],
)
def test_providers_are_named_as_the_conventions_do_or_by_their_class(class_name: str, provider: str) -> None:
    assert conventions.provider_of(ModelIdentity(class_name=class_name)) == provider


def test_a_call_to_a_model_is_a_chat_and_one_to_an_agent_invokes_it() -> None:
    model = ModelIdentity(class_name="OpenAI", model="gpt-4o")
    agent = ModelIdentity(class_name="FunctionAgent", model="librarian", is_agent=True)
    assert conventions.call_name(_call(model)) == "chat gpt-4o"
    assert conventions.call_name(_call(agent)) == "invoke_agent librarian"
    assert conventions.model_attributes(model)["gen_ai.request.model"] == "gpt-4o"
    assert conventions.model_attributes(agent)["gen_ai.agent.name"] == "librarian"
    assert "gen_ai.request.model" not in conventions.model_attributes(agent)
    assert conventions.is_in_process(agent)
    assert conventions.is_in_process(ModelIdentity(class_name="SparseMoELLM"))
    assert not conventions.is_in_process(model)


def test_settings_left_to_the_model_are_left_out_and_zero_is_not() -> None:
    assert conventions.request_attributes(_call()) == {}
    assert conventions.request_attributes(_call(sampling=Sampling(0.0, 100, 0))) == {
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.seed": 0,
    }


def test_unknown_usage_is_left_out_and_none_used_is_zero() -> None:
    assert conventions.usage_attributes(Usage()) == {}
    assert conventions.usage_attributes(Usage(prompt_tokens=0, completion_tokens=3, cost_usd=0.0)) == {
        "gen_ai.usage.input_tokens": 0,
        "gen_ai.usage.output_tokens": 3,
        "moa.cost_usd": 0.0,
    }
    counted = Usage(prompt_tokens=9, cached_tokens=4, reasoning_tokens=2, estimated=True)
    assert conventions.usage_attributes(counted) == {
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "moa.usage_estimated": True,
    }


def test_finish_reasons_are_a_list() -> None:
    record = Proposal(proposer="a", layer=1, text="", details={"finish_reason": "length", "retries": 2})
    assert conventions.answer_attributes(record) == {
        "gen_ai.response.finish_reasons": ["length"],
        "moa.retries": 2,
    }


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        ("RateLimitError: slow down", 429, "429"),
        ("RuntimeError: down", None, "RuntimeError"),
        ("APITimeoutError: Request timed out <- ReadTimeout", None, "APITimeoutError"),
        ("KeyError", None, "KeyError"),
        ("no answer within its timeout of 5 s", None, "timeout"),
        ("cut at layer_timeout of 2 s", None, "timeout"),
        ("not waited for: the quorum of 2 was met", None, "_OTHER"),
        ("the Error was theirs", None, "_OTHER"),
    ],
)
def test_errors_are_told_apart_by_few_words(reason: str, status: int | None, kind: str) -> None:
    record = Missing(proposer="a", layer=1, reason=reason, status=status)
    assert conventions.error_type(record) == kind


def test_messages_take_the_form_of_the_conventions_without_pictures_or_keys() -> None:
    picture = ImageBlock(image=b"\x89PNG", image_mimetype="image/png")
    key = "sk-proj-" + "a1b2c3d4" * 4
    blocks = [TextBlock(text=f"my key is {key} \ud800"), picture]
    said = conventions.input_messages([ChatMessage(role=MessageRole.USER, blocks=blocks)])
    assert key not in said
    assert json.loads(said) == [
        {
            "role": "user",
            "parts": [{"type": "text", "content": "my key is [secret] \ud800"}, {"type": "image"}],
        }
    ]
    assert json.loads(conventions.output_messages("yes", "stop")) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "yes"}], "finish_reason": "stop"}
    ]


def test_names_and_reasons_can_be_encoded_and_hold_no_key() -> None:
    assert conventions.clean("a\ud800b").encode()
    assert "sk-" not in conventions.clean("Incorrect API key provided: sk-" + "a1b2c3d4" * 4)


def test_a_turn_is_told_where_there_are_several() -> None:
    assert "moa.turn" not in conventions.place_attributes(_call())
    assert conventions.place_attributes(_call(turn=2))["moa.turn"] == 2
