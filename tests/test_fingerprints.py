"""What names a model's own settings: what changes its answers, and neither secrets nor objects."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from pydantic import BaseModel, Field

from llama_index.packs.mixture_of_agents import Proposer
from llama_index.packs.mixture_of_agents.fingerprints import settings_hash
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

openai_like: Any = pytest.importorskip("llama_index.llms.openai_like")

HERE = {"model": "m", "api_base": "http://127.0.0.1:1/v1", "api_key": "k"}


def named(**settings: Any) -> str:
    return Proposer(openai_like.OpenAILike(**{**HERE, **settings})).identity.settings


@pytest.mark.parametrize(
    "settings",
    [
        {"api_base": "http://127.0.0.1:2/v1"},
        {"temperature": 0.7},
        {"max_tokens": 9},
        {"system_prompt": "You are a pirate."},
        {"additional_kwargs": {"top_p": 0.1}},
    ],
)
def test_what_may_change_an_answer_is_in_it(settings: dict[str, Any]) -> None:
    assert named(**settings) != named()


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "another"},
        {"timeout": 3.0, "max_retries": 0},
        {"default_headers": {"x-team": "a"}},
        {"callback_manager": CallbackManager([TokenCountingHandler()])},
    ],
)
def test_secrets_limits_and_objects_are_not(settings: dict[str, Any]) -> None:
    assert named(**settings) == named()


def test_usual_settings_have_none() -> None:
    assert settings_hash(ScriptedLLM("x")) == ""
    assert settings_hash(ScriptedLLM("x", model="m"), known="m") == ""
    assert settings_hash(ScriptedLLM("x", model="m")) != ""


def test_a_setting_changed_on_the_object_is_seen() -> None:
    llm = ScriptedLLM("x")
    proposer = Proposer(llm)
    llm.additional_kwargs = {"top_p": 0.1}
    assert proposer.identity.settings != Proposer(ScriptedLLM("x")).identity.settings


def test_no_default_is_made_to_be_compared() -> None:
    def made() -> str:
        raise AssertionError("a large thing was made")

    class Heavy(BaseModel):
        weights: str = Field(default_factory=made)

    assert settings_hash(Heavy(weights="own")) != ""
