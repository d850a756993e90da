"""A run's clock stands still while any person is waited for, and strikes when its time is up."""

from __future__ import annotations

import asyncio

import pytest

from llama_index.packs.mixture_of_agents.agents.clock import RunClock


class Hands:
    """A time that is set by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_it_counts_from_its_beginning(hands: Hands) -> None:
    clock = RunClock(hands)
    hands.at += 3
    assert clock.elapsed() == 3


def test_it_stands_still_until_nobody_is_waited_for_any_more(hands: Hands) -> None:
    clock = RunClock(hands)
    clock.pause("first")
    hands.at += 5
    clock.pause("second")
    clock.go_on("first")
    hands.at += 7
    assert clock.elapsed() == 0
    clock.go_on("second")
    hands.at += 2
    assert clock.elapsed() == 2


def test_a_wait_that_is_told_of_twice_is_one(hands: Hands) -> None:
    clock = RunClock(hands)
    clock.pause("plan")
    clock.pause("plan")
    clock.go_on("plan")
    hands.at += 2
    clock.go_on("plan")
    assert clock.elapsed() == 2


async def test_it_strikes_when_its_time_is_up_and_not_before() -> None:
    loop, struck = asyncio.get_running_loop(), asyncio.Event()
    clock = RunClock(loop.time)
    clock.arm(0.1, struck.set)
    clock.pause("question")
    await asyncio.sleep(0.3)
    assert not struck.is_set()
    clock.go_on("question")
    await asyncio.wait_for(struck.wait(), 5)


async def test_once_it_is_stopped_it_never_strikes() -> None:
    struck = asyncio.Event()
    clock = RunClock(asyncio.get_running_loop().time)
    clock.arm(0.05, struck.set)
    clock.pause("question")
    clock.stop()
    clock.go_on("question")
    await asyncio.sleep(0.2)
    assert not struck.is_set()
