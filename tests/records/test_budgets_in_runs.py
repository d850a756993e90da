"""Budgets in real mixtures: nothing is overspent, and whatever is left out is told in the response."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.tools import FunctionTool
from pydantic import PrivateAttr

from llama_index.packs.mixture_of_agents import MixtureError, MixtureOfAgentsPack, MixtureResponse, Proposer
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureTimeoutError
from llama_index.packs.mixture_of_agents.finishes import Rank, Sequential, Synthesize, Vote
from llama_index.packs.mixture_of_agents.records.budget import Budget
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
from tests.records.simulated_runs import Account

QUESTION = "Should a small team write its own deployment tool?"
FINISHES = [Synthesize, Rank, Vote, lambda: Sequential(2)]


class ChargingLLM(ScriptedLLM):
    """Answers as long as it likes within `max_tokens`, fails now and then, and charges for both."""

    _chance: random.Random = PrivateAttr()
    _account: Account = PrivateAttr()
    _prices: Prices = PrivateAttr()
    failing: float = 0.0

    def __init__(self, model: str, prices: Prices, account: Account, seed: int, **settings: Any) -> None:
        super().__init__("unused", model=model, **settings)
        self._chance, self._account, self._prices = random.Random(f"{seed}{model}"), account, prices

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        await asyncio.sleep(self._chance.random() / 500)
        read = sum(len((message.content or "").encode()) for message in messages)
        written = self._chance.randint(1, kwargs["max_tokens"])
        cost = self._prices.cost(self._identity, read, written)
        if self._chance.random() < self.failing:
            self._account.usd += cost or 0.0
            raise RuntimeError("cut off, and charged for")
        self._account.usd += cost or 0.0
        text = " ".join(self._chance.choice(["4", "the answer is", "ja"]) for _ in range(written))
        usage = {"prompt_tokens": read, "completion_tokens": written}
        return ChatResponse(message=ChatMessage(role="assistant", content=text), raw={"usage": usage})

    @property
    def _identity(self) -> Any:
        return Proposer(self).identity


def pack_of(
    layers: Sequence[Sequence[str]],
    prices: Prices,
    budget: Any,
    account: Account,
    seed: int = 1,
    **options: Any,
) -> MixtureOfAgentsPack:
    failing = options.pop("failing", 0.0)
    models = {
        name: ChargingLLM(name, prices, account, seed, failing=failing)
        for name in {"g"}.union(*map(set, layers))
    }
    return MixtureOfAgentsPack(
        models["g"],
        [[models[name] for name in layer] for layer in layers],
        num_layers=len(layers) + 1,
        budget=budget,
        prices=None,
        max_retries=0,
        **{"max_tokens": 60, **options},
    )


def least_for(pack: MixtureOfAgentsPack) -> float | None:
    """The smallest budget, as the refusal names it; None where nothing is needed."""
    with pytest.raises(MixtureError) as refusal:
        pack.run(QUESTION)
    assert isinstance(refusal.value, ConfigurationError)
    named = re.search(r"at least \$([0-9.]+)", str(refusal.value))
    return float(named[1]) if named else None


rates = st.fixed_dictionaries({"input": st.floats(0.1, 20), "output": st.floats(0.1, 80)})


@settings(max_examples=25)
@given(
    layers=st.lists(
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True), min_size=1, max_size=3
    ),
    rate_of=st.dictionaries(st.sampled_from("abcdg"), rates),
    finish=st.sampled_from(FINISHES),
    pass_on=st.sampled_from(["proposals", "condensed"]),
    strategy=st.sampled_from(["model", "role"]),
    spare=st.floats(1.0, 5.0),
    failing=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 1000),
)
def test_no_run_of_a_real_mixture_costs_more_than_its_budget(
    layers: list[list[str]],
    rate_of: dict[str, Any],
    finish: Any,
    pass_on: str,
    strategy: str,
    spare: float,
    failing: float,
    seed: int,
) -> None:
    prices, account = Prices({**rate_of, "*": {"input": 1, "output": 5}}), Account()
    options: dict[str, Any] = {
        "finish": finish(),
        "pass_on": pass_on,
        "strategy": strategy,
        "failing": failing,
    }

    def pack(usd: float) -> MixtureOfAgentsPack:
        budget = Budget(usd, prices=prices, shortest_answer=20)
        return pack_of(layers, prices, budget, account, seed, **options)

    least = least_for(pack(1e-9))
    assert least is not None
    assert account.usd == 0, "a refused run calls nobody"
    try:
        pack(least * spare).run(QUESTION)
    except MixtureError:
        assert failing, "only failures may leave a run without an answer"
    assert account.usd <= least * spare * (1 + 1e-9)


def ran(budget: Any, **options: Any) -> MixtureResponse:
    prices = Prices({"*": {"input": 1, "output": 5}})
    return pack_of([["a", "b"], ["a", "b"]], prices, budget, Account(), **options).run(QUESTION)


def test_what_a_budget_leaves_out_is_missing_in_the_response() -> None:
    budget = Budget(0.0035, prices={"*": {"input": 1, "output": 5}}, shortest_answer=20)
    response = ran(budget)
    assert response.degraded
    assert {(gone.proposer, gone.layer) for gone in response.missing} == {("a", 2), ("b", 2)}
    assert all("round 2 is skipped" in gone.reason for gone in response.missing)
    assert response.usage.cost_usd is None or response.usage.cost_usd <= 0.0035
    report = budget.report(response.run_id)
    assert report is not None
    assert report.degraded[0].measure == "skip_refine"
    assert report.limit_usd == 0.0035


def test_a_number_is_a_budget_in_dollars_at_the_packs_own_prices() -> None:
    with pytest.raises(ConfigurationError, match="No price is known"):
        ran(0.5)
    a, g = (ScriptedLLM("an answer", model=name) for name in "ag")
    pack = MixtureOfAgentsPack(g, [a], 2, max_tokens=50, budget=0.05, prices={"*": {"input": 1, "output": 5}})
    response = pack.run(QUESTION)
    assert not response.degraded
    assert response.usage.cost_usd is not None
    assert 0 < response.usage.cost_usd < 0.05


def test_a_shortened_answer_reaches_the_model() -> None:
    a, g = (ScriptedLLM("an answer", model=name) for name in "ag")
    budget = Budget(0.0055, prices={"*": {"input": 1, "output": 5}}, shortest_answer=20)
    MixtureOfAgentsPack(Proposer(g, max_tokens=4000), [a], 2, max_tokens=400, budget=budget).run(QUESTION)
    (call,) = g.calls
    assert 20 <= call.options["max_tokens"] < 4000


def test_what_a_caller_asks_of_the_mixture_as_an_llm_is_kept_within_the_budget() -> None:
    a, g = (ScriptedLLM("an answer", model=name) for name in "ag")
    budget = Budget(0.006, prices={"*": {"input": 1, "output": 5}}, shortest_answer=20)
    pack = MixtureOfAgentsPack(g, [a], 2, max_tokens=400, budget=budget)
    pack.as_llm().chat([ChatMessage(role="user", content=QUESTION)], max_tokens=50_000)
    pack.as_llm().chat([ChatMessage(role="user", content=QUESTION)], max_tokens=30)
    first, second = g.calls
    assert 20 <= first.options["max_tokens"] < 1_200
    assert second.options["max_tokens"] == 30


def test_tools_that_are_offered_are_allowed_for() -> None:
    a, g = (ScriptedLLM("an answer", model=name, is_function_calling_model=True) for name in "ag")
    budget = Budget(0.006, prices={"*": {"input": 1, "output": 5}}, shortest_answer=20)
    tools = [FunctionTool.from_defaults(fn=lambda: 1, name=f"tool_{n}", description="One.") for n in range(9)]
    pack = MixtureOfAgentsPack(g, [a], 2, max_tokens=400, budget=budget)
    response = pack.as_llm().chat_with_tools(tools, user_msg=QUESTION)
    assert g.calls == [], "nine tools may cost more than is left"
    assert response.message.content == "an answer"


async def test_runs_that_were_cut_hold_nothing_of_a_shared_budget() -> None:
    budget = Budget(total=10.0, prices={"*": {"input": 1, "output": 4}})

    async def ask(timeout: float) -> None:
        slow = LatencyLLM(latency=0.02, model="slow")
        pack = MixtureOfAgentsPack(slow, [slow, slow], max_tokens=100, budget=budget, timeout=timeout)
        with suppress(MixtureError):
            async for _ in pack.astream("Why?"):
                pass

    await asyncio.gather(*(ask(0.002 * number) for number in range(1, 60)))
    await asyncio.sleep(0.3)  # what was still under way comes to its end
    assert budget._shared.room("another").usd == pytest.approx(10.0 - budget.spent.usd)


async def test_what_a_run_cost_before_it_was_killed_counts_when_it_goes_on(tmp_path: Path) -> None:
    prices = {"*": {"input": 1, "output": 4}}
    quick, late = ScriptedLLM("quick", model="quick"), LatencyLLM(latency=60, model="late")

    def budgeted(budget: Budget, other: ScriptedLLM, timeout: float | None) -> MixtureOfAgentsPack:
        return MixtureOfAgentsPack(
            quick, [quick, other], 2, max_tokens=300, budget=budget, prices=prices, timeout=timeout
        )

    with pytest.raises(MixtureTimeoutError):
        await budgeted(Budget(1.0), late, 0.3).arun("Why?", tmp_path / "run.json")
    soon = LatencyLLM(latency=0, model="late")
    budget = Budget(1.0, total=5.0)
    response = await budgeted(budget, soon, None).arun("Why?", tmp_path / "run.json")
    report = budget.report(response.run_id)
    assert report is not None
    assert report.spent_usd == pytest.approx(response.usage.cost_usd)
    earlier = response.proposals[0].usage.cost_usd
    assert earlier is not None
    assert budget.spent.usd == pytest.approx((response.usage.cost_usd or 0) - earlier)
