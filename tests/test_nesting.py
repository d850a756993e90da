"""What is inside each other is counted by context: across tasks, and not beside each other."""

from __future__ import annotations

import asyncio

import pytest

from llama_index.packs.mixture_of_agents.nesting import Nesting


def refusal(depth: int) -> Exception:
    return LookupError(f"{depth} deep")


async def dive(nesting: Nesting, levels: int) -> int:
    """So many levels, each in a task of its own."""
    if not levels:
        return 0
    with nesting.one_more(refusal):
        return 1 + await asyncio.ensure_future(dive(nesting, levels - 1))


async def test_so_many_may_be_inside_each_other_and_no_more() -> None:
    nesting = Nesting("test_inside", deepest=3)
    assert await dive(nesting, 3) == 3
    with pytest.raises(LookupError, match="3 deep"):
        await dive(nesting, 4)
    assert await dive(nesting, 3) == 3


async def test_any_number_may_be_beside_each_other() -> None:
    nesting = Nesting("test_beside", deepest=1)
    assert await asyncio.gather(*(dive(nesting, 1) for _ in range(20))) == [1] * 20


def test_kinds_are_counted_apart() -> None:
    one, other = Nesting("test_one", deepest=1), Nesting("test_other", deepest=1)
    with one.one_more(refusal), other.one_more(refusal):
        pass


def test_as_a_decorator_each_call_counts_anew() -> None:
    @Nesting("test_calls", deepest=1).one_more(refusal)
    def call() -> int:
        return 1

    assert [call(), call()] == [1, 1]
