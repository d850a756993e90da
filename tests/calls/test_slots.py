"""The limit on calls in flight: never exceeded, first come first served, never leaking a slot."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.calls.slots import CallSlots

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "ask", "end", "fail", "cancel", "cancel a holder", "end and cancel the next"]
        ),
        st.integers(0, 5),
    ),
    max_size=40,
)


@dataclass
class Caller:
    """One call: waits for a slot, then holds it until it is told how to end."""

    slots: CallSlots
    holds: bool = False
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    fails: bool = False

    async def call(self) -> None:
        async with self.slots.hold():
            self.holds = True
            try:
                await self.ends.wait()
                if self.fails:
                    raise RuntimeError("the call failed")
            finally:
                self.holds = False


class Model:
    """What a queue in front of `limit` slots does, next to the real thing."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.slots = CallSlots(limit)
        self.holding: list[int] = []
        self.waiting: deque[int] = deque()
        self.callers: list[Caller] = []
        self.tasks: list[asyncio.Task[None]] = []

    def step(self, what: str, which: int) -> None:
        if what == "ask":
            self._ask()
        elif what == "cancel" and self.waiting:
            chosen = self.waiting[which % len(self.waiting)]
            self.waiting.remove(chosen)
            self.tasks[chosen].cancel()
        elif what != "cancel" and self.holding:
            self._end(self.holding[which % len(self.holding)], what)

    def _ask(self) -> None:
        caller = Caller(self.slots)
        self.callers.append(caller)
        self.tasks.append(asyncio.ensure_future(caller.call()))
        number = len(self.callers) - 1
        (self.holding if len(self.holding) < self.limit else self.waiting).append(number)

    def _end(self, chosen: int, how: str) -> None:
        self.holding.remove(chosen)
        caller = self.callers[chosen]
        caller.fails = how == "fail"
        if how == "cancel a holder":
            self.tasks[chosen].cancel()
        else:
            caller.ends.set()
        if how == "end and cancel the next" and self.waiting:
            self.tasks[self.waiting.popleft()].cancel()
        if self.waiting:
            self.holding.append(self.waiting.popleft())

    def held(self) -> list[int]:
        return [number for number, caller in enumerate(self.callers) if caller.holds]


async def settle() -> None:
    """Let everything that is due happen; a hand-over takes a few turns of the loop."""
    for _ in range(8):
        await asyncio.sleep(0)


@settings(max_examples=150, deadline=None)
@given(limit=st.integers(1, 4), steps=STEPS)
def test_slots_do_what_a_queue_does(limit: int, steps: Sequence[tuple[str, int]]) -> None:
    async def play() -> None:
        model = Model(limit)
        for what, which in steps:
            model.step(what, which)
            await settle()
            assert model.held() == sorted(model.holding)
        for task in model.tasks:
            task.cancel()
        await asyncio.gather(*model.tasks, return_exceptions=True)
        await assert_all_are_free(model.slots, limit)

    asyncio.run(play())


async def assert_all_are_free(slots: CallSlots, limit: int) -> None:
    callers = [Caller(slots) for _ in range(limit + 1)]
    tasks = [asyncio.ensure_future(caller.call()) for caller in callers]
    await settle()
    assert [caller.holds for caller in callers] == [True] * limit + [False]
    for caller in callers:
        caller.ends.set()
    await asyncio.gather(*tasks)


async def test_first_come_first_served() -> None:
    slots = CallSlots(1)
    callers = [Caller(slots) for _ in range(5)]
    tasks = [asyncio.ensure_future(caller.call()) for caller in callers]
    for served in range(5):
        await settle()
        assert [caller.holds for caller in callers] == [number == served for number in range(5)]
        callers[served].ends.set()
    await asyncio.gather(*tasks)


async def test_cancelled_in_the_moment_of_being_served() -> None:
    slots = CallSlots(1)
    first, second, third = (Caller(slots) for _ in range(3))
    tasks = [asyncio.ensure_future(caller.call()) for caller in (first, second, third)]
    await settle()
    first.ends.set()
    await asyncio.sleep(0)  # the first gives its slot to the second, who does not know yet
    await asyncio.sleep(0)
    assert not second.holds
    tasks[1].cancel()
    await settle()
    assert third.holds
    third.ends.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await assert_all_are_free(slots, 1)


async def test_a_waiting_call_that_is_thrown_away_leaves_the_queue() -> None:
    slots = CallSlots(1)
    first, third = Caller(slots), Caller(slots)
    task = asyncio.ensure_future(first.call())
    await settle()
    dropped = Caller(slots).call()
    dropped.send(None)  # it waits; then its loop is gone, and the coroutine is closed, not cancelled
    dropped.close()
    last = asyncio.ensure_future(third.call())
    first.ends.set()
    await settle()
    assert third.holds
    third.ends.set()
    await asyncio.gather(task, last)


async def test_none_is_no_limit() -> None:
    slots = CallSlots(None)
    callers = [Caller(slots) for _ in range(100)]
    tasks = [asyncio.ensure_future(caller.call()) for caller in callers]
    await settle()
    assert all(caller.holds for caller in callers)
    for caller in callers:
        caller.ends.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("limit", [1, 3])
def test_one_limit_for_threads_and_loops(limit: int) -> None:
    slots, peak = CallSlots(limit), Peak()
    threads = [threading.Thread(target=lambda seed=seed: _busy_loop(slots, peak, seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "somebody waits for a slot that nobody holds"
    assert peak.most == limit
    assert peak.finished + peak.cancelled == 4 * 25
    assert peak.cancelled > 0
    asyncio.run(assert_all_are_free(slots, limit))


@dataclass
class Peak:
    """Counts across threads."""

    now: int = 0
    most: int = 0
    finished: int = 0
    cancelled: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    def ended(self, cancelled: bool) -> None:
        with self.lock:
            self.cancelled += cancelled
            self.finished += not cancelled


def _busy_loop(slots: CallSlots, peak: Peak, seed: int) -> None:
    dice = random.Random(seed)

    async def call(number: int) -> None:
        async with slots.hold():
            peak.enter()
            try:
                await asyncio.sleep(dice.random() / 200)
            finally:
                peak.leave()

    async def all_calls() -> None:
        tasks = [asyncio.ensure_future(call(number)) for number in range(25)]
        for task in tasks:
            if dice.random() < 0.3:
                asyncio.get_running_loop().call_later(dice.random() / 20, task.cancel)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            peak.ended(isinstance(outcome, asyncio.CancelledError))

    asyncio.run(all_calls())


def test_a_slot_is_not_handed_to_a_loop_that_is_closed() -> None:
    """As `new_event_loop`, `run_until_complete` and `close` leave a pending task behind."""
    slots = CallSlots(1)

    async def wait_for_ever() -> None:
        async with slots.hold():
            await asyncio.sleep(30)

    async def begin_waiting() -> asyncio.Task[None]:
        task = asyncio.ensure_future(wait_for_ever())
        await settle()
        return task

    async def main() -> None:
        dead = asyncio.new_event_loop()
        async with slots.hold():
            pending = await asyncio.to_thread(dead.run_until_complete, begin_waiting())
            dead.close()
        await asyncio.wait_for(_hold_once(slots), 5)
        pending._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be lost

    asyncio.run(main())


async def _hold_once(slots: CallSlots) -> None:
    async with slots.hold():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_begins_with_every_slot_free() -> None:
    script = """
import asyncio, os, sys
from llama_index.packs.mixture_of_agents.calls.slots import CallSlots
slots = CallSlots(1)

async def once():
    async with slots.hold():
        return 7

async def main():
    async with slots.hold():
        return os.fork()

child = asyncio.run(main()) == 0
if child:
    os._exit(asyncio.run(asyncio.wait_for(once(), 5)))
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=50, check=False, capture_output=True)
    assert done.returncode == 7, done.stderr


# Calls that ask the same thing again.


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_call_lends_its_slot_to_what_it_waits_for(limit: int) -> None:
    slots = CallSlots(limit)

    async def asks(deeper: int) -> int:
        async with slots.hold():
            parts = [asks(deeper - 1), asks(deeper - 1)] if deeper else []
            return 1 + sum(await asyncio.gather(*parts))

    found = await asyncio.wait_for(asyncio.gather(*(asks(3) for _ in range(3))), 10)
    assert found == [15, 15, 15]


async def test_no_more_calls_work_than_there_are_slots_also_inside_others() -> None:
    slots, at_work, most = CallSlots(3), 0, 0

    async def works() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.001)
        at_work -= 1

    async def asks(deeper: int) -> None:
        async with slots.hold():
            await works()
            if deeper:
                await asyncio.gather(*(asks(deeper - 1) for _ in range(3)))
            await works()

    await asyncio.wait_for(asyncio.gather(*(asks(2) for _ in range(4))), 20)
    assert most == 3
    assert not slots._waiting


async def test_what_outlives_the_call_that_lent_waits_for_a_slot_of_its_own() -> None:
    slots, goes_on = CallSlots(1), asyncio.Event()

    async def later() -> None:
        await goes_on.wait()
        async with slots.hold():
            pass

    async with slots.hold():
        left = asyncio.ensure_future(later())
        await asyncio.sleep(0)
    async with slots.hold():
        goes_on.set()
        await asyncio.sleep(0.01)
        assert not left.done()
    await asyncio.wait_for(left, 5)
