"""Rounds: when one closes, on whom, and what becomes of the calls that were still out."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.runs.rounds import (
    Round,
    RoundLimits,
    closing,
    last_round_with_proposals,
    meets_quorum,
)

SECONDS = st.floats(0, 1000)


class Slow:
    """A call that takes its time and says whether it was cancelled."""

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds
        self.cancelled = False

    async def __call__(self) -> str:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


def cut(reason: str) -> str:
    return f"cut: {reason}"


@given(
    quorum=st.none() | st.integers(1, 9),
    grace=SECONDS,
    layer_timeout=st.none() | st.floats(0.001, 1000),
    opened=SECONDS,
    met=st.none() | SECONDS,
)
def test_a_round_closes_at_its_earliest_limit_and_says_which(
    quorum: int | None, grace: float, layer_timeout: float | None, opened: float, met: float | None
) -> None:
    end = closing(RoundLimits(quorum, grace, layer_timeout), opened, met)
    ends = [met + grace] if met is not None else []
    ends += [opened + layer_timeout] if layer_timeout is not None else []
    if not ends:
        assert end is None
        return
    assert end is not None
    assert end[0] == min(ends)
    if len(set(ends)) == len(ends):  # a tie may be told either way
        by_quorum = met is not None and met + grace == end[0]
        assert ("quorum" in end[1], "layer_timeout" in end[1]) == (by_quorum, not by_quorum)


@given(proposals=st.integers(0, 20), quorum=st.integers(1, 20))
def test_a_quorum_is_met_by_so_many_proposals_or_more(proposals: int, quorum: int) -> None:
    assert meets_quorum(proposals, quorum) == (proposals >= quorum)
    assert not meets_quorum(proposals, None)


def test_the_round_to_go_on_from_is_the_latest_with_a_proposal() -> None:
    assert last_round_with_proposals([1, 1, 2, 2]) == 2
    assert last_round_with_proposals([1]) == 1
    assert last_round_with_proposals([]) is None


async def test_without_limits_every_call_is_waited_for() -> None:
    this_round = Round(RoundLimits())
    assert await this_round.hold(Slow(0.01)(), cut) == "done"
    this_round.end()


async def test_the_deadline_cancels_a_call_and_its_reason_stands_for_it() -> None:
    slow, started = Slow(), time.monotonic()
    outcome = await Round(RoundLimits(layer_timeout=0.05)).hold(slow(), cut)
    assert outcome == "cut: cut at layer_timeout of 0.05 s"
    assert slow.cancelled
    assert time.monotonic() - started < 2


async def test_the_quorum_closes_the_round_on_those_still_out() -> None:
    this_round, slow = Round(RoundLimits(quorum=2)), Slow()
    held = asyncio.ensure_future(this_round.hold(slow(), cut))
    this_round.count_proposal()
    await asyncio.sleep(0.02)
    assert not held.done()
    this_round.count_proposal()
    assert "quorum of 2" in await asyncio.wait_for(held, 2)
    assert slow.cancelled


async def test_a_call_that_comes_in_within_the_grace_counts() -> None:
    this_round, slow = Round(RoundLimits(quorum=1, grace=0.3)), Slow()
    late, out = (asyncio.ensure_future(this_round.hold(call(), cut)) for call in (Slow(0.05), slow))
    await asyncio.sleep(0)
    this_round.count_proposal()
    assert await asyncio.wait_for(late, 2) == "done"
    assert (await asyncio.wait_for(out, 2)).startswith("cut: ")
    assert slow.cancelled


async def test_more_proposals_do_not_prolong_the_grace() -> None:
    this_round, started = Round(RoundLimits(quorum=1, grace=0.15)), time.monotonic()
    held = asyncio.ensure_future(this_round.hold(Slow()(), cut))
    for _ in range(4):
        this_round.count_proposal()
        await asyncio.sleep(0.05)
    await asyncio.wait_for(held, 2)
    assert time.monotonic() - started < 0.3


async def test_the_deadline_holds_within_the_grace() -> None:
    this_round = Round(RoundLimits(quorum=1, grace=30, layer_timeout=0.1))
    this_round.count_proposal()
    assert "layer_timeout" in await asyncio.wait_for(this_round.hold(Slow()(), cut), 2)


async def test_what_a_call_raises_is_raised() -> None:
    async def broken() -> str:
        raise KeyError("broken")

    for limits in (RoundLimits(), RoundLimits(layer_timeout=5)):
        this_round = Round(limits)
        with pytest.raises(KeyError):
            await this_round.hold(broken(), cut)
        this_round.end()


@pytest.mark.parametrize("limits", [RoundLimits(), RoundLimits(quorum=1), RoundLimits(layer_timeout=20)])
async def test_cancelling_who_waits_cancels_the_call(limits: RoundLimits) -> None:
    this_round, slow = Round(limits), Slow()
    held = asyncio.ensure_future(this_round.hold(slow(), cut))
    await asyncio.sleep(0.01)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    await asyncio.sleep(0)
    assert slow.cancelled
    this_round.end()


async def test_a_call_that_clings_on_is_left_behind() -> None:
    released = asyncio.Event()

    async def clinging() -> str:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    started = time.monotonic()
    outcome = await Round(RoundLimits(layer_timeout=0.02)).hold(clinging(), cut)
    assert outcome.startswith("cut: ")
    assert time.monotonic() - started < 3
    released.set()
    await asyncio.sleep(0.01)


async def test_an_ended_round_closes_on_nobody() -> None:
    reasons: list[str] = []

    def note(reason: str) -> str:
        reasons.append(reason)
        return reason

    this_round = Round(RoundLimits(layer_timeout=0.05))
    this_round.end()
    assert await this_round.hold(Slow(0.1)(), note) == "done"
    assert reasons == []
