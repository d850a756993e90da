"""Who is kept, dropped and sent elsewhere: properties, and agreement with the slow way."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings

from llama_index.packs.mixture_of_agents.sparse_moe.capacity import (
    Placement,
    can_bind,
    group_capacities,
    keep_within_capacity,
    overflowing,
    place_elsewhere,
)
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from tests.sparse_moe import oracle
from tests.sparse_moe.random_choices import Choice, choice_of, choices

PRIORITIES = st.sampled_from(["weight", "position"])
FACTORS = st.sampled_from([0.25, 0.5, 0.75, 1.0, 1.25, 2.0])


def capacities_of(choice: Choice, factor: float) -> tuple[int, ...]:
    limit = RoutingSettings(capacity_factor=factor)
    return group_capacities(choice.group_sizes, choice.top_k, choice.num_experts, limit)


def keep(choice: Choice, factor: float, priority: str = "weight") -> torch.Tensor:
    return keep_within_capacity(
        choice.experts_TK,
        choice.weights_TK,
        choice.groups_T,
        capacities_of(choice, factor),
        choice.num_experts,
        priority,
    )


def reroute(choice: Choice, factor: float, priority: str = "weight") -> Placement:
    kept_TK = keep(choice, factor, priority)
    overflow = overflowing(kept_TK, choice.weights_TK, choice.groups_T, priority).tolist()
    ranked = choice.logits_TE.argsort(dim=1, descending=True, stable=True).tolist()
    preferences = {number // choice.top_k: ranked[number // choice.top_k] for number in overflow}
    capacities = capacities_of(choice, factor)
    return place_elsewhere(
        choice.experts_TK, kept_TK, choice.groups_T, capacities, choice.num_experts, overflow, preferences
    )


def loads(choice: Choice, experts_TK: torch.Tensor, kept_TK: torch.Tensor) -> Counter[tuple[int, int]]:
    groups_TK = choice.groups_T.unsqueeze(1).expand_as(experts_TK)
    return Counter(zip(groups_TK[kept_TK].tolist(), experts_TK[kept_TK].tolist(), strict=True))


@settings(max_examples=150)
@given(choice=choices(), factor=FACTORS, priority=PRIORITIES)
def test_keeping_agrees_with_the_slow_way(choice: Choice, factor: float, priority: str) -> None:
    expected = oracle.keep(
        choice.experts_TK.numpy(),
        choice.weights_TK.numpy(),
        choice.groups_T.tolist(),
        capacities_of(choice, factor),
        priority,
    )
    assert np.array_equal(keep(choice, factor, priority).numpy(), expected)


@settings(max_examples=150)
@given(choice=choices(), factor=FACTORS, priority=PRIORITIES)
def test_rerouting_agrees_with_the_slow_way(choice: Choice, factor: float, priority: str) -> None:
    expected = oracle.reroute(
        choice.experts_TK.numpy(),
        choice.weights_TK.numpy(),
        choice.groups_T.tolist(),
        capacities_of(choice, factor),
        choice.logits_TE.numpy(),
        priority,
    )
    placement = reroute(choice, factor, priority)
    assert np.array_equal(placement.kept_TK.numpy(), expected.kept)
    assert np.array_equal(placement.rerouted_TK.numpy(), expected.rerouted)
    assert np.array_equal(placement.experts_TK.numpy(), expected.experts)


@settings(max_examples=100)
@given(choice=choices(padding=False), factor=FACTORS, priority=PRIORITIES)
def test_kept_and_dropped_are_all(choice: Choice, factor: float, priority: str) -> None:
    kept_TK = keep(choice, factor, priority)
    dropped = overflowing(kept_TK, choice.weights_TK, choice.groups_T, priority)
    assert int(kept_TK.sum()) + len(dropped) == choice.experts_TK.numel()
    assert not kept_TK.view(-1)[dropped].any()


@settings(max_examples=100)
@given(choice=choices(), factor=FACTORS, priority=PRIORITIES)
def test_no_expert_takes_more_than_its_capacity(choice: Choice, factor: float, priority: str) -> None:
    capacities = capacities_of(choice, factor)
    kept_TK, placement = keep(choice, factor, priority), reroute(choice, factor, priority)
    for experts_TK, computed_TK in [
        (choice.experts_TK, kept_TK),
        (placement.experts_TK, placement.kept_TK),
    ]:
        for (group, _), load in loads(choice, experts_TK, computed_TK).items():
            assert load <= capacities[group]


@settings(max_examples=100)
@given(choice=choices(), factor=FACTORS, priority=PRIORITIES)
def test_rerouting_never_uses_an_expert_twice_for_a_token(
    choice: Choice, factor: float, priority: str
) -> None:
    placement = reroute(choice, factor, priority)
    for experts_K, kept_K in zip(placement.experts_TK, placement.kept_TK, strict=True):
        used = experts_K[kept_K].tolist()
        assert len(used) == len(set(used))


@settings(max_examples=100)
@given(choice=choices(), factor=FACTORS, priority=PRIORITIES)
def test_rerouting_moves_nothing_that_was_kept(choice: Choice, factor: float, priority: str) -> None:
    kept_TK, placement = keep(choice, factor, priority), reroute(choice, factor, priority)
    assert torch.equal(placement.kept_TK & ~placement.rerouted_TK, kept_TK)
    assert torch.equal(placement.experts_TK[kept_TK], choice.experts_TK[kept_TK])


@settings(max_examples=60)
@given(choice=choices(), priority=PRIORITIES)
def test_a_capacity_of_the_group_never_binds(choice: Choice, priority: str) -> None:
    sizes = choice.group_sizes
    assert not can_bind(sizes, sizes)
    kept_TK = keep_within_capacity(
        choice.experts_TK, choice.weights_TK, choice.groups_T, sizes, choice.num_experts, priority
    )
    assert torch.equal(kept_TK, (choice.groups_T >= 0).unsqueeze(1).expand_as(kept_TK))


@settings(max_examples=100)
@given(choice=choices(ties=False), factor=FACTORS, seed=st.integers(0, 1000))
def test_permuting_tokens_permutes_the_plan(choice: Choice, factor: float, seed: int) -> None:
    # With one expert all weights are 1, and only positions are left to decide by.
    assume(choice.num_experts > 1)
    order_T = torch.randperm(len(choice.groups_T), generator=torch.Generator().manual_seed(seed))
    shuffled = Choice(
        choice.logits_TE[order_T],
        choice.experts_TK[order_T],
        choice.weights_TK[order_T],
        choice.groups_T[order_T],
    )
    before, after = reroute(choice, factor), reroute(shuffled, factor)
    assert torch.equal(before.kept_TK[order_T], after.kept_TK)
    assert torch.equal(before.experts_TK[order_T], after.experts_TK)


@settings(max_examples=100)
@given(choice=choices(padding=False), factor=FACTORS, priority=PRIORITIES, padding=st.data())
def test_padding_changes_nothing(
    choice: Choice, factor: float, priority: str, padding: st.DataObject
) -> None:
    tokens = len(choice.groups_T)
    real = sorted(padding.draw(st.permutations(range(tokens + 4)))[:tokens])
    index = torch.tensor(real)
    logits_TE = torch.full((tokens + 4, choice.num_experts), 0.5)
    logits_TE[index] = choice.logits_TE
    groups = torch.full((tokens + 4,), -1)
    groups[index] = choice.groups_T
    padded = choice_of(logits_TE, choice.top_k, groups.tolist())
    alone, beside = reroute(choice, factor, priority), reroute(padded, factor, priority)
    assert torch.equal(alone.kept_TK, beside.kept_TK[index])
    assert torch.equal(alone.experts_TK, beside.experts_TK[index])
    assert not beside.kept_TK[groups < 0].any()


@settings(max_examples=100)
@given(choice=choices(padding=False), factor=FACTORS, priority=PRIORITIES)
def test_groups_do_not_feel_each_other(choice: Choice, factor: float, priority: str) -> None:
    together = reroute(choice, factor, priority)
    for group in range(len(choice.group_sizes)):
        members = choice.groups_T == group
        alone = Choice(
            choice.logits_TE[members],
            choice.experts_TK[members],
            choice.weights_TK[members],
            torch.zeros(int(members.sum()), dtype=torch.long),
        )
        placement = reroute(alone, factor, priority)
        assert torch.equal(placement.kept_TK, together.kept_TK[members])
        assert torch.equal(placement.experts_TK, together.experts_TK[members])


def test_the_heaviest_are_kept_or_the_earliest() -> None:
    logits_TE = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    choice = choice_of(logits_TE, 1, [0, 0, 0])
    heaviest = keep_within_capacity(choice.experts_TK, choice.weights_TK, choice.groups_T, [1], 2)
    earliest = keep_within_capacity(choice.experts_TK, choice.weights_TK, choice.groups_T, [1], 2, "position")
    assert heaviest.flatten().tolist() == [False, True, False]
    assert earliest.flatten().tolist() == [True, False, False]


def test_of_equal_weights_the_earliest_is_kept() -> None:
    choice = choice_of(torch.zeros(4, 3), 2, [0, 0, 0, 0])
    kept_TK = keep_within_capacity(choice.experts_TK, choice.weights_TK, choice.groups_T, [2], 3)
    assert kept_TK.tolist() == [[True, True], [True, True], [False, False], [False, False]]


def test_all_tokens_on_one_expert() -> None:
    logits_TE = torch.tensor([[9.0, 1.0, 0.0]] * 5)
    placement = reroute(choice_of(logits_TE, 1, [0] * 5), 1.0)
    # Two fit where they wanted to, two went to the second best, the last to the third.
    assert placement.experts_TK.flatten().tolist() == [0, 0, 1, 1, 2]
    assert placement.rerouted_TK.flatten().tolist() == [False, False, True, True, True]


def test_who_finds_no_room_is_dropped() -> None:
    logits_TE = torch.tensor([[9.0, 1.0]] * 5)
    placement = reroute(choice_of(logits_TE, 2, [0] * 5), 0.5)
    assert int(placement.kept_TK.sum()) == 6
    assert not placement.rerouted_TK.any()


@pytest.mark.parametrize("sizes", [(), (1,), (1, 1, 1)])
def test_one_token_per_group_never_binds(sizes: tuple[int, ...]) -> None:
    capacities = group_capacities(sizes, 2, 64, RoutingSettings(capacity_factor=0.1))
    assert not can_bind(capacities, sizes)
