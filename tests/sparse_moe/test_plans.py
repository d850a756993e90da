"""Which token belongs to which capacity group."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

BLOCKS_OF_4 = RoutingSettings(capacity_factor=1.0, capacity_block=4)


def test_a_prompt_is_cut_into_blocks_by_position() -> None:
    plan = plan_sequences([range(10)], [10], BLOCKS_OF_4, "cpu")
    assert plan.groups_T.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert plan.group_sizes == (4, 4, 2)


def test_generated_tokens_are_groups_of_their_own() -> None:
    plan = plan_sequences([range(3, 8)], [6], BLOCKS_OF_4, "cpu")
    # Positions 3 | 4 5 | 6 | 7.
    assert plan.groups_T.tolist() == [0, 1, 1, 2, 3]
    assert plan.group_sizes == (1, 2, 1, 1)


def test_rows_share_no_group() -> None:
    plan = plan_sequences([[4, 5], [20], [0, 1, 2]], [6, 20, 3], BLOCKS_OF_4, "cpu")
    assert plan.groups_T.tolist() == [0, 0, 1, 2, 2, 2]
    assert plan.rows_T.tolist() == [0, 0, 1, 2, 2, 2]


def test_in_batch_scope_there_is_one_group() -> None:
    plan = plan_sequences(
        [[7], [0, 1]], [5, 2], RoutingSettings(capacity_factor=1.0, capacity_scope="batch"), "cpu"
    )
    assert plan.groups_T.tolist() == [0, 0, 0]
    assert plan.group_sizes == (3,)
    assert plan.rows_T.tolist() == [0, 1, 1]


def test_rows_and_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="zip"):
        plan_sequences([[0], [1]], [1], BLOCKS_OF_4, "cpu")


def test_no_rows_at_all() -> None:
    plan = plan_sequences([], [], BLOCKS_OF_4, "cpu")
    assert plan.groups_T.numel() == 0
    assert plan.group_sizes == ()


@settings(max_examples=100)
@given(
    length=st.integers(1, 40),
    generated=st.integers(0, 5),
    chunk_blocks=st.integers(1, 4),
    block=st.integers(1, 9),
)
def test_chunks_of_whole_blocks_have_the_groups_of_one_pass(
    length: int, generated: int, chunk_blocks: int, block: int
) -> None:
    routing = RoutingSettings(capacity_factor=1.0, capacity_block=block)

    def groups_of(positions: range) -> list[list[int]]:
        plan = plan_sequences([positions], [length], routing, "cpu")
        members: list[list[int]] = [[] for _ in plan.group_sizes]
        for position, group in zip(positions, plan.groups_T.tolist(), strict=True):
            members[group].append(position)
        assert tuple(map(len, members)) == plan.group_sizes
        return members

    step = chunk_blocks * block
    chunks = [range(start, min(start + step, length)) for start in range(0, length, step)]
    steps = [range(length + n, length + n + 1) for n in range(generated)]
    assert [group for part in chunks + steps for group in groups_of(part)] == groups_of(
        range(length + generated)
    )


def test_padding_is_noticed() -> None:
    plan = plan_sequences([range(3)], [3], BLOCKS_OF_4, "cpu")
    assert not plan.has_padding
    assert ForwardPlan(BLOCKS_OF_4, plan.groups_T, (2,), plan.rows_T).has_padding
