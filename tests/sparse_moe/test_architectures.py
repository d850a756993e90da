"""Every architecture routes as it should, or is refused with the reason; and the documentation says so."""

from __future__ import annotations

import functools

import pytest

from tests.sparse_moe.architectures import ARCHITECTURES, build
from tests.sparse_moe.architectures_table import PAGE, render, verdicts
from tests.sparse_moe.measuring import PARITY, Row, Verdict, measure
from tests.sparse_moe.seeing import Seen, random_ids, routed_logits

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
NO_REROUTE = {
    "Phi-MoE": "the weights of PhimoeTopKRouter are in proportion to no known function",
    "Gemma-4": "the weights of Gemma4TextRouter are in proportion to no known function",
    "DeepSeek-V4, hashed": "DeepseekV4HashRouter also needs input_ids, which only a running model has",
    "Zaya": "ZayaRouter scores 9 destinations, not the 8 experts",
}
NO_TOP_K = {
    "Phi-MoE": "PhimoeTopKRouter chooses 2 experts per token when asked for 1",
    "Gemma-4": "Gemma4TextRouter does not keep its number of experts per token where it can be changed",
    "DeepSeek-V4, hashed": "DeepseekV4HashRouter also needs input_ids, which only a running model has",
    "Zaya": "ZayaRouter scores 9 destinations, not the 8 experts",
}
every_architecture = pytest.mark.parametrize("name", BY_NAME)


@functools.cache
def row_of(name: str) -> Row:
    return measure(BY_NAME[name])


def check(verdict: Verdict, reason: str | None) -> None:
    assert verdict.ok == (reason is None), verdict
    assert (reason or "") in (verdict.refusal or "")


def test_names_are_different_ones() -> None:
    assert len(BY_NAME) == len(ARCHITECTURES)


@every_architecture
def test_without_limits_logits_are_the_stock_models(name: str) -> None:
    assert row_of(name).parity < PARITY


@every_architecture
def test_capacity_is_kept(name: str) -> None:
    check(row_of(name).capacity, None)


@every_architecture
def test_overflow_is_rerouted_or_refused(name: str) -> None:
    check(row_of(name).reroute, NO_REROUTE.get(name))


@every_architecture
def test_top_k_is_changed_or_refused(name: str) -> None:
    check(row_of(name).top_k, NO_TOP_K.get(name))


@every_architecture
def test_int8_is_close(name: str) -> None:
    check(row_of(name).int8, None)


def test_scores_of_a_way_around_the_experts_are_not_shown_as_an_experts() -> None:
    seen = Seen()
    routed_logits(build(BY_NAME["Zaya"]), random_ids(1, 5), recorder=seen)
    assert [routing.logits_TE for routing in seen.routings] == [None, None]


def test_the_page_says_so() -> None:
    """If not: `python -m tests.sparse_moe.architectures_table` writes it anew."""
    expected = render([row_of(name) for name in BY_NAME])
    assert verdicts(PAGE.read_text(encoding="utf-8")) == verdicts(expected)
