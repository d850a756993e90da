"""Limits in simulated time: never passed, first come first served, nothing lost and nothing kept."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.gate import waiting_line
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.gauges import MINUTE
from llama_index.packs.mixture_of_agents.gate.limits import Limits
from llama_index.packs.mixture_of_agents.gate.run_capacity import RunCapacity
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, Usage
from tests.gate.limited_calls import (
    Provider,
    assert_all_is_free,
    call,
    capacity_of,
    one_call,
    proposal,
    start,
)
from tests.gate.simulated_time import loop_time, settled, simulated

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Prompt:
    """One prompt of a crowd."""

    arrives: float
    seconds: float
    max_tokens: int
    used: int
    tries: int
    cancelled_after: float | None


PROMPTS = st.lists(
    st.builds(
        Prompt,
        arrives=st.sampled_from([0.0, 0.0, 0.0, 0.5, 20.0, 59.0, 61.0]),
        seconds=st.sampled_from([0.0, 0.1, 1.0, 7.0, 45.0]),
        max_tokens=st.integers(1, 50),
        used=st.integers(0, 50),
        tries=st.integers(1, 3),
        cancelled_after=st.sampled_from([None, None, None, 0.0, 0.1, 3.0, 60.5]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(
    prompts=PROMPTS,
    in_flight=st.none() | st.integers(1, 6),
    requests=st.integers(3, 20),
    tokens=st.none() | st.integers(50, 300),
)
def test_no_window_of_a_minute_passes_a_limit_and_all_is_given_back(
    prompts: Sequence[Prompt], in_flight: int | None, requests: int, tokens: int | None
) -> None:
    async def play() -> None:
        limits = Limits(in_flight, requests_per_minute=requests, tokens_per_minute=tokens)
        capacity, provider = capacity_of({"m": limits}), Provider()
        served = await crowd(capacity, provider, prompts)
        for prompt, outcome in zip(prompts, served, strict=True):
            assert outcome is True or prompt.cancelled_after is not None
        most_requests, most_tokens = provider.most_within("m")
        assert most_requests <= requests
        assert tokens is None or most_tokens <= tokens
        assert in_flight is None or provider.peak["m"] <= in_flight
        await assert_all_is_free(capacity)

    simulated(play())


async def crowd(capacity: Capacity, provider: Provider, prompts: Sequence[Prompt]) -> list[Any]:
    """Every prompt a run of its own; a cancelled one ends as a run does."""

    async def one(number: int, prompt: Prompt) -> bool:
        await asyncio.sleep(prompt.arrives)
        part = capacity.for_run(start(str(number), max_retries=2))
        to = call(str(number), max_tokens=prompt.max_tokens)
        used = min(prompt.used, prompt.max_tokens)
        work = asyncio.ensure_future(one_call(part, provider, to, prompt.seconds, used, prompt.tries))
        if prompt.cancelled_after is not None:
            asyncio.get_running_loop().call_later(prompt.cancelled_after, work.cancel)
        try:
            return await work
        finally:
            part.ended(asyncio.CancelledError())

    tasks = [asyncio.ensure_future(one(number, prompt)) for number, prompt in enumerate(prompts)]
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_a_hundred_prompts_at_once_at_five_in_flight_and_sixty_a_minute() -> None:
    async def play() -> None:
        capacity, provider = capacity_of({"Provider": Limits(5, requests_per_minute=60)}), Provider()
        served: dict[int, float] = {}

        async def one(number: int) -> None:
            part = capacity.for_run(start(str(number)))
            assert await part.before(call(str(number))) is None
            served[number] = loop_time()
            part.sent(call(str(number)))
            await provider.answer(call(str(number)), 1.0, 10)
            await part.after(call(str(number)), proposal(call(str(number)), 10))

        await asyncio.gather(*(one(number) for number in range(100)))
        assert [served[number] for number in range(100)] == sorted(served.values())
        assert provider.peak["m"] == 5
        assert provider.most_within("m")[0] == 60
        # 60 go in the first minute, 5 a second; the other 40 as soon as the first of them are a minute old.
        assert loop_time() == pytest.approx(MINUTE + 8, abs=0.01)
        await assert_all_is_free(capacity)

    simulated(play())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "ask", "ask", "ask", "ask other", "answer", "fail", "cancel a waiting one",
                "cancel a called one", "answer and cancel the next", "end a run", "refused by another",
                "pass time",
            ]
        ),
        st.integers(0, 5),
    ),
    max_size=40,
)  # fmt: skip


@dataclass
class Caller:
    """One call, held until it is told how to end."""

    part: RunCapacity
    to: Call
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    how: str = "answer"
    state: str = "waiting"

    async def run(self) -> None:
        try:
            refused = await self.part.before(self.to)
        except asyncio.CancelledError:
            self.state = "over"
            raise
        self.state = "called" if refused is None else "over"
        if refused is not None:
            return
        try:
            self.part.sent(self.to)
            await self.ends.wait()
        except asyncio.CancelledError:
            await self.part.after(self.to, self.to.missing("cut"))
            raise
        finally:
            self.state = "over"
        if self.how == "refused by another":
            self.part.noted(self.to, self.to.missing("no"), Usage(), "Another")
        elif self.how == "fail":
            await self.part.after(self.to, self.to.missing("down", 503))
        else:
            await self.part.after(self.to, proposal(self.to, 5))


class Model:
    """What limits and a queue in front of them do, next to the real thing."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.capacity = capacity_of({"Provider": Limits(in_flight=limit), "narrow": Limits(in_flight=1)})
        self.callers: list[Caller] = []
        self.tasks: list[asyncio.Task[None]] = []

    def of(self, state: str, model: str | None = None) -> list[int]:
        return [
            number
            for number, caller in enumerate(self.callers)
            if caller.state == state and model in (None, caller.to.proposer)
        ]

    async def step(self, what: str, which: int) -> None:
        called, waiting = self.of("called"), self.of("waiting")
        if what in ("ask", "ask other"):
            self._ask("m" if what == "ask" else "narrow")
        elif what == "pass time":
            await asyncio.sleep(which * 13.0)
        elif what == "cancel a waiting one" and waiting:
            self.tasks[waiting[which % len(waiting)]].cancel()
        elif what == "end a run" and called + waiting:
            chosen = (called + waiting)[which % len(called + waiting)]
            self.callers[chosen].part.ended(asyncio.CancelledError())
            self.tasks[chosen].cancel()
        elif called and "waiting" not in what:
            self._end(called[which % len(called)], what, waiting)
        await settled()

    def _ask(self, model: str) -> None:
        run_id = str(len(self.callers))
        caller = Caller(self.capacity.for_run(start(run_id)), call(run_id, model=model))
        self.callers.append(caller)
        self.tasks.append(asyncio.ensure_future(caller.run()))

    def _end(self, chosen: int, how: str, waiting: Sequence[int]) -> None:
        self.callers[chosen].how = how
        if how == "cancel a called one":
            self.tasks[chosen].cancel()
        else:
            self.callers[chosen].ends.set()
        if how == "answer and cancel the next" and waiting:
            self.tasks[waiting[0]].cancel()

    def check(self) -> None:
        called, waiting = self.of("called"), self.of("waiting")
        assert len(called) <= self.limit
        assert len(self.of("called", "narrow")) <= 1
        for model in ("m", "narrow"):  # first come first served among equals
            assert max(self.of("called", model), default=-1) < min(self.of("waiting", model), default=1_000)
        if self.of("waiting", "m"):  # nobody waits beside free room, but for what is kept for the narrow
            kept = bool(self.of("waiting", "narrow"))
            assert len(called) >= self.limit - kept
        if self.of("waiting", "narrow"):
            assert self.of("called", "narrow") or len(called) == self.limit
        assert self.capacity.waiting() == len(waiting)


@settings(max_examples=100)
@given(limit=st.integers(1, 4), steps=STEPS)
def test_whatever_happens_in_whatever_order_no_place_is_lost(
    limit: int, steps: Sequence[tuple[str, int]]
) -> None:
    async def play() -> None:
        model = Model(limit)
        for what, which in steps:
            await model.step(what, which)
            model.check()
        for caller in model.callers:
            caller.part.ended(asyncio.CancelledError())
        for task in model.tasks:
            task.cancel()
        await asyncio.gather(*model.tasks, return_exceptions=True)
        await assert_all_is_free(model.capacity)

    simulated(play())


def test_a_big_call_is_not_starved_by_small_ones() -> None:
    async def play() -> None:
        capacity, provider = capacity_of({"m": Limits(tokens_per_minute=100)}), Provider()
        order: list[int] = []

        async def one(number: int, tokens: int) -> None:
            part = capacity.for_run(start(str(number)))
            to = call(str(number), max_tokens=tokens)
            assert await one_call(part, provider, to, 1.0, tokens)
            order.append(number)

        await asyncio.gather(one(0, 50), one(1, 100), *(one(number, 10) for number in range(2, 12)))
        assert order[:2] == [0, 1]
        assert provider.most_within("m")[1] <= 100
        await assert_all_is_free(capacity)

    simulated(play())


def test_a_narrow_limit_holds_up_nobody_else_and_is_starved_by_nobody() -> None:
    async def play() -> None:
        limits = {"Provider": Limits(in_flight=3), "Provider(slow)": Limits(in_flight=1)}
        capacity, provider = capacity_of(limits), Provider()
        ended: dict[str, float] = {}

        async def one(name: str, model: str, seconds: float) -> None:
            part = capacity.for_run(start(name))
            assert await one_call(part, provider, call(name, model=model), seconds)
            ended[name] = loop_time()

        slow = [one(f"slow{number}", "slow", 10.0) for number in range(3)]
        quick = [one(f"quick{number}", "m", 1.0) for number in range(60)]
        await asyncio.gather(*slow, *quick)
        # Only the first of those who wait for the slow one has a place kept for it.
        assert ended["quick0"] == pytest.approx(1.0)
        assert [ended[f"slow{number}"] for number in range(3)] == pytest.approx([10.0, 20.0, 30.0])
        assert provider.peak["slow"] == 1
        assert provider.peak["slow"] + provider.peak["m"] <= 4
        await assert_all_is_free(capacity)

    simulated(play())


def test_a_big_call_is_not_overtaken_by_small_ones_of_another_kind() -> None:
    async def play() -> None:
        limits = {"Provider": Limits(tokens_per_minute=100), "Provider(big)": Limits(in_flight=5)}
        capacity, provider = capacity_of(limits), Provider()
        began: list[int] = []

        async def one(number: int, model: str, tokens: int) -> None:
            part, to = capacity.for_run(start(str(number))), call(str(number), model=model, max_tokens=tokens)
            assert await part.before(to) is None
            began.append(number)
            part.sent(to)
            await provider.answer(to, 1.0, tokens)
            await part.after(to, proposal(to, tokens))

        small = [one(number, "m", 10) for number in range(2, 12)]
        await asyncio.gather(one(0, "m", 50), one(1, "big", 100), *small)
        assert began[:2] == [0, 1]

    simulated(play())


def test_who_needs_two_things_is_not_starved_by_those_who_need_one_each() -> None:
    async def play() -> None:
        capacity, provider = capacity_of({"p*": Limits(in_flight=1), "*q": Limits(in_flight=1)}), Provider()
        over = False

        async def stream(name: str, first: float) -> None:
            await asyncio.sleep(first)
            for number in range(1000):
                if over:
                    return
                part = capacity.for_run(start(f"{name}{number}"))
                assert await one_call(part, provider, call(f"{name}{number}", model=name), 2.0)

        async def both() -> float:
            nonlocal over
            await asyncio.sleep(1.5)
            assert await one_call(capacity.for_run(start("both")), provider, call("both", model="pq"), 0.0)
            over = True
            return loop_time()

        # Two of each, a second apart: whenever one thing comes free, the other is taken.
        streams = [stream("px", 0.0), stream("px", 0.1), stream("xq", 1.0), stream("xq", 1.1)]
        waits = asyncio.ensure_future(both())
        await asyncio.gather(*streams)
        assert await waits < MINUTE + 5
        await assert_all_is_free(capacity)

    simulated(play())


def test_who_waits_is_told_when_time_alone_will_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_line, "_LOOK_AGAIN", 1e9)  # nobody looks by chance

    async def play() -> None:
        capacity, provider = capacity_of({"m": Limits(tokens_per_minute=10)}), Provider()

        async def one(run_id: str) -> float:
            assert await one_call(capacity.for_run(start(run_id)), provider, call(run_id), 1.25)
            return loop_time()

        # When the others begin to wait, nobody knows how long the first will be out.
        ended = await asyncio.gather(*(one(name) for name in "abc"))
        assert ended == pytest.approx([1.25, 1.25 + MINUTE + 1.25, 2 * (1.25 + MINUTE) + 1.25])

    simulated(play())


def test_after_the_deadline_a_call_is_missing_and_says_what_is_full() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(in_flight=1)}, deadline=3.0)
        first, second = (capacity.for_run(start(name)) for name in ("first", "second"))
        assert await first.before(call("first")) is None
        refused = await second.before(call("second"))
        assert isinstance(refused, Missing)
        assert "over capacity" in refused.reason
        assert "1 of 1 calls in flight" in refused.reason
        assert "3 s" in refused.reason
        assert loop_time() == pytest.approx(3.0)
        await first.after(call("first"), proposal(call("first")))
        await assert_all_is_free(capacity)

    simulated(play())


def test_a_call_that_another_policy_answers_takes_no_request() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(1, 1, 100)})
        part = capacity.for_run(start())
        assert await part.before(call()) is None
        part.noted(call(), proposal(call()), Usage(), "AnswerCache")
        use = capacity.use()["m"]
        assert (use.in_flight, use.requests, use.tokens) == (0, 0, 0)

    simulated(play())


def test_a_run_that_is_over_gets_nothing_and_whoever_waits_for_it_is_told() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(in_flight=1)})
        part = capacity.for_run(start())
        assert await part.before(call()) is None
        waits = asyncio.ensure_future(part.before(call(index=1)))
        await settled()
        part.ended(asyncio.CancelledError())
        for refused in (await waits, await part.before(call(index=2))):
            assert isinstance(refused, Missing)
            assert "the run is over" in refused.reason
        await assert_all_is_free(capacity)

    simulated(play())


def test_one_limit_for_threads_and_loops() -> None:
    """Real time, real threads: places go from one loop to another, some calls are cancelled."""
    capacity = Capacity({"m": Limits(in_flight=2)}, deadline=30)
    lock, now, most, done = threading.Lock(), 0, 0, 0

    async def one(name: str, number: int) -> None:
        nonlocal now, most, done
        part = capacity.for_run(start(name))
        try:
            assert await part.before(call(name)) is None
            with lock:
                now += 1
                most = max(most, now)
            await asyncio.sleep(0.001 * (number % 3))
            with lock:
                now, done = now - 1, done + 1
            await part.after(call(name), proposal(call(name)))
        finally:
            part.ended(asyncio.CancelledError())

    async def loop(thread: int) -> None:
        tasks = [asyncio.ensure_future(one(f"{thread}-{number}", number)) for number in range(25)]
        await asyncio.sleep(0.01)
        for task in tasks[20:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    threads = [
        threading.Thread(target=lambda thread=thread: asyncio.run(loop(thread))) for thread in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive(), "somebody waits for a place that nobody holds"
    assert most <= 2
    assert done >= 80
    assert capacity.waiting() == 0
    assert capacity.use()["m"].in_flight == 0


def test_a_loop_that_was_closed_neither_keeps_a_place_nor_stands_in_the_way() -> None:
    capacity = Capacity({"m": Limits(in_flight=1)}, deadline=30)

    async def begin(name: str) -> asyncio.Task[Missing | None]:
        task = asyncio.ensure_future(capacity.for_run(start(name)).before(call(name)))
        for _ in range(10):
            await asyncio.sleep(0)
        return task

    async def last() -> None:
        assert await capacity.for_run(start("last")).before(call("last")) is None

    lost = []
    for name in ("holds", "waits"):
        dead = asyncio.new_event_loop()
        lost.append(dead.run_until_complete(begin(name)))
        dead.close()
    asyncio.run(asyncio.wait_for(last(), 5))
    for task in lost:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be lost


def test_a_waiting_call_that_is_thrown_away_leaves_the_line() -> None:
    async def play() -> None:
        capacity = capacity_of({"m": Limits(in_flight=1)})
        holds, thrown, last = (capacity.for_run(start(name)) for name in ("holds", "thrown", "last"))
        assert await holds.before(call("holds")) is None
        waits = thrown.before(call("thrown"))
        waits.send(None)  # it waits; then its loop is gone, and the coroutine is closed, not cancelled
        waits.close()
        await holds.after(call("holds"), proposal(call("holds")))
        assert await last.before(call("last")) is None

    simulated(play())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_begins_with_all_free() -> None:
    script = """
import asyncio, os, sys
from tests.gate.limited_calls import Limits, Capacity, call, start
capacity = Capacity({"m": Limits(in_flight=1, requests_per_minute=1)}, deadline=5)

async def once(name):
    return await capacity.for_run(start(name)).before(call(name))

async def main():
    assert await once("parent") is None
    return os.fork()

if asyncio.run(main()) == 0:
    os._exit(7 if asyncio.run(once("child")) is None else 1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=50, check=False, capture_output=True, cwd=ROOT
    )
    assert done.returncode == 7, done.stderr
