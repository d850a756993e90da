"""Prices: what a call cost by the bundled list or the caller's own, and None where nobody knows."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.prices import PROVIDERS, Prices
from llama_index.packs.mixture_of_agents.results import Usage

MINI = ModelIdentity(class_name="OpenAI", model="gpt-4o-mini")
NOBODYS = ModelIdentity(class_name="OpenAI", model="a-model-of-nobody")
OWN = ModelIdentity(class_name="OpenAILike", model="qwen3:8b")
LOCAL = ModelIdentity(class_name="SparseMoELLM", model="my-mixture")
AGENT = ModelIdentity(class_name="FunctionAgent", model="clerk", is_agent=True)
NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
MIDNIGHT = datetime(2026, 6, 1, 23, tzinfo=timezone.utc)


def call_to(identity: ModelIdentity, question: str = "Why is the sky blue?") -> Call:
    messages = [ChatMessage(role="user", content=question)]
    return Call("run", 1, 0, "someone", messages, Sampling(), identity=identity)


def test_a_known_model_costs_what_its_provider_asks() -> None:
    assert Prices().cost(MINI, 1_000_000, 1_000_000) == pytest.approx(0.15 + 0.6)


def test_cached_tokens_are_part_of_the_prompt_and_cheaper() -> None:
    assert Prices().cost(MINI, 1_000_000, 0, 400_000) == pytest.approx(0.6 * 0.15 + 0.4 * 0.075)


def test_reasoning_tokens_are_part_of_the_answer_and_not_paid_twice() -> None:
    thinking = ModelIdentity(class_name="OpenAIResponses", model="o3-mini")
    plain = Prices().cost(thinking, 100, 1000)
    assert plain is not None
    assert Prices().cost(thinking, 100, 1000, reasoning_tokens=900) == pytest.approx(plain)


@pytest.mark.parametrize(
    ("class_name", "model"),
    [
        ("OpenAI", "gpt-4o"),
        ("OpenAIResponses", "gpt-4o"),
        ("AzureOpenAI", "gpt-4o"),
        ("MistralAI", "mistral-small-latest"),
        ("Anthropic", "claude-3-haiku-20240307"),
        ("GoogleGenAI", "gemini-2.5-flash"),
        ("GoogleGenAI", "models/gemini-2.5-flash"),
        ("Groq", "llama-3.1-8b-instant"),
        ("OpenRouter", "openai/gpt-4o"),
        ("TogetherLLM", "meta-llama/Llama-3-8b-chat-hf"),
        ("DeepSeek", "deepseek-chat"),
        ("BedrockConverse", "anthropic.claude-3-haiku-20240307-v1:0"),
    ],
)
def test_the_classes_of_the_usual_providers_have_prices(class_name: str, model: str) -> None:
    cost = Prices().cost(ModelIdentity(class_name=class_name, model=model), 1000, 1000)
    assert cost is not None
    assert cost > 0


def test_every_provider_of_the_table_is_in_the_list() -> None:
    from genai_prices.data import providers

    assert set(PROVIDERS.values()) <= {provider.id for provider in providers}


@pytest.mark.parametrize("identity", [NOBODYS, OWN, AGENT, ModelIdentity()], ids=str)
def test_an_unknown_price_is_none_and_never_nothing(identity: ModelIdentity) -> None:
    assert Prices().cost(identity, 10, 10) is None
    assert Prices().bound(identity, 10, 10) is None
    assert not Prices().is_known(identity)


def test_a_model_sold_by_the_hour_has_no_price_for_text() -> None:
    assert Prices().cost(ModelIdentity(class_name="Groq", model="whisper-large-v3"), 1000, 1000) is None


def test_a_model_in_this_process_costs_nothing() -> None:
    assert Prices().cost(LOCAL, 10, 10) == 0.0
    assert Prices().bound(LOCAL, 10, None) == 0.0
    assert Prices().measured(call_to(LOCAL), "text", Usage()).cost_usd == 0.0


@pytest.mark.parametrize(
    "name", ["qwen3:8b", "OpenAILike:qwen3:8b", "openai-like:qwen3:8b", "qwen3*", "*:qwen?:8b"]
)
def test_a_price_of_ones_own_is_found_by_each_of_its_names(name: str) -> None:
    prices = Prices({name: {"input": 1, "output": 2, "cached_input": 0.5}})
    assert prices.cost(OWN, 1_000_000, 1_000_000) == pytest.approx(3)
    assert prices.cost(OWN, 1_000_000, 0, 1_000_000) == pytest.approx(0.5)
    assert prices.cost(MINI, 1_000_000, 0) == pytest.approx(0.15)


def test_a_whole_name_goes_before_a_pattern() -> None:
    prices = Prices({"*": {"input": 9, "output": 9}, "gpt-4o-mini": {"input": 1, "output": 1}})
    assert prices.cost(MINI, 1_000_000, 0) == pytest.approx(1)
    assert prices.cost(OWN, 1_000_000, 0) == pytest.approx(9)


def test_without_a_price_for_cached_tokens_they_cost_as_much_as_others() -> None:
    assert Prices({"*": {"input": 1, "output": 0}}).cost(OWN, 1_000_000, 0, 999_999) == pytest.approx(1)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "mapping"),
        ({"m": 3}, "USD per million tokens"),
        ({"m": {"input": 1}}, "lacks 'output'"),
        ({"m": {"input": 1, "output": 2, "cached": 1}}, "Did you mean 'cached_input'"),
        ({"m": {"input": 1, "output": 2, "Output": 1}}, "Did you mean 'output'"),
        ({"m": {"input": -1, "output": 2}}, "between 0 and"),
        ({"m": {"input": float("nan"), "output": 2}}, "between 0 and"),
        ({"m": {"input": float("inf"), "output": 2}}, "between 0 and"),
        ({"m": {"input": "1", "output": 2}}, "between 0 and"),
        ({"m": {"input": True, "output": 2}}, "between 0 and"),
        ({"": {"input": 1, "output": 2}}, "name of a model"),
        ({3: {"input": 1, "output": 2}}, "name of a model"),
    ],
)
def test_prices_that_cannot_be_are_refused(overrides: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Prices(overrides)


def test_reported_counts_stay_and_get_a_price() -> None:
    usage = Prices().measured(call_to(MINI), "blue", Usage(prompt_tokens=1000, completion_tokens=100))
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (1000, 100, False)
    assert usage.cost_usd == pytest.approx(0.00021)


def test_counts_nobody_reported_are_estimated_and_marked() -> None:
    usage = Prices().measured(call_to(MINI), "Because of Rayleigh scattering.", Usage())
    assert usage.estimated
    assert usage.prompt_tokens in range(8, 20)
    assert usage.completion_tokens in range(4, 10)
    assert usage.cost_usd is not None


def test_an_agent_is_not_estimated() -> None:
    assert Prices().measured(call_to(AGENT), "an answer", Usage()) == Usage()


def test_an_agent_that_costs_nothing_by_the_callers_word_costs_nothing() -> None:
    free = Prices({"clerk": {"input": 0, "output": 0}})
    assert free.measured(call_to(AGENT), "an answer", Usage()) == Usage(cost_usd=0.0)
    assert free.bound(AGENT, 100, None) == 0.0


def test_a_cost_the_provider_reports_goes_before_ours() -> None:
    reported = Usage(prompt_tokens=1, completion_tokens=1, cost_usd=0.5)
    assert Prices().measured(call_to(MINI), "x", reported) == reported


def test_odd_counts_do_not_raise() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=1, cached_tokens=50, reasoning_tokens=9)
    assert Prices().measured(call_to(MINI), "x", usage).cost_usd == pytest.approx((10 * 0.075 + 0.6) / 1e6)


@pytest.mark.parametrize(
    "text", ["{} %s \x00", "\ud800", "a" * 1_000_000, ""], ids=["marks", "half", "long", "none"]
)
def test_any_text_can_be_estimated(text: str) -> None:
    assert Prices().measured(call_to(MINI, text), text, Usage()).cost_usd is not None


def test_a_price_that_changes_within_the_day_is_bounded_by_the_dearest_hour() -> None:
    model = ModelIdentity(class_name="DeepSeek", model="deepseek-chat")
    day, night = Prices(now=lambda: NOON), Prices(now=lambda: MIDNIGHT)
    costs = [prices.cost(model, 1000, 1000) for prices in (day, night)]
    bounds = [prices.bound(model, 1000, 1000) for prices in (day, night)]
    assert None not in costs
    assert bounds == [pytest.approx(max(filter(None, costs)))] * 2


@given(
    read=st.integers(0, 10**6),
    written=st.integers(0, 10**5),
    cached=st.none() | st.integers(0, 10**6),
    less=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    model=st.sampled_from([("OpenAI", "gpt-4o"), ("GoogleGenAI", "gemini-2.5-pro"), ("Ours", "m")]),
)
def test_no_call_costs_more_than_its_bound(
    read: int, written: int, cached: int | None, less: tuple[float, float], model: tuple[str, str]
) -> None:
    identity = ModelIdentity(class_name=model[0], model=model[1])
    prices = Prices({"m": {"input": 1, "output": 3, "cached_input": 2}}, now=lambda: NOON)
    cost = prices.cost(identity, int(read * less[0]), int(written * less[1]), cached)
    bound = prices.bound(identity, read, written)
    assert cost is not None
    assert bound is not None
    assert cost <= bound * (1 + 1e-9)


def test_the_list_is_loaded_when_a_price_is_asked_for_and_not_before() -> None:
    code = (
        "import sys\n"
        "from llama_index.packs.mixture_of_agents.records.prices import Prices\n"
        "Prices({'m': {'input': 1, 'output': 2}})\n"
        "assert 'genai_prices' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
