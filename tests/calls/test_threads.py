"""Blocking callers of async work, and async callers of blocking work: nobody is left hanging."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.calls import threads
from llama_index.packs.mixture_of_agents.calls.threads import (
    called,
    in_thread,
    iterate_blocking,
    iterate_in_thread,
    run_blocking,
)
from tests.loopback.fault_server import wait_until

VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


async def where() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """The result of blocking work, or a failure where it hangs."""
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    return outcome[0]


# run_blocking


def test_in_a_script() -> None:
    assert run_blocking(where()) == "moa-loop"
    first = threads._shared
    assert run_blocking(where()) == "moa-loop"
    assert threads._shared is first  # one loop, so that clients keep their connections


async def test_inside_a_running_loop() -> None:
    assert run_blocking(where()) == "moa-loop"
    await asyncio.sleep(0)  # the caller's own loop is as it was


def test_errors_come_through() -> None:
    async def fail() -> None:
        raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        run_blocking(fail())


def test_the_callers_context_is_seen() -> None:
    async def read() -> str:
        return VARIABLE.get()

    token = VARIABLE.set("the caller's")
    try:
        assert run_blocking(read()) == "the caller's"
    finally:
        VARIABLE.reset(token)
    assert run_blocking(read()) == "unset"


def test_from_the_shared_loop_itself() -> None:
    async def tool() -> str:
        return run_blocking(where())  # a sync tool inside a run; the shared loop stands still meanwhile

    assert within(10, lambda: run_blocking(tool())) == "moa-loop"


def test_any_depth_of_runs_within_runs() -> None:
    async def nested(depth: int) -> int:
        return depth if depth == 5 else run_blocking(nested(depth + 1))

    assert within(20, lambda: run_blocking(nested(0))) == 5


def test_a_loop_of_ones_own_is_cleaned_up() -> None:
    closed: list[str] = []

    async def left_open() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            closed.append(threading.current_thread().name)

    async def inner() -> Any:
        items = left_open()
        await anext(items)
        return items

    async def tool() -> None:
        before = threading.active_count()
        kept = run_blocking(inner())
        # As asyncio.run does: HTTP clients close their connections in this moment.
        assert closed == ["moa-loop"]
        assert threading.active_count() == before
        del kept

    within(10, lambda: run_blocking(tool()))


def test_many_threads_at_once() -> None:
    results: list[str] = []
    callers = [threading.Thread(target=lambda: results.append(run_blocking(where()))) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert results == ["moa-loop"] * 20


def test_an_interrupt_cancels_and_waits_until_it_has_unwound() -> None:
    started, unwound = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)  # closing connections, say
            unwound.set()
            raise

    threading.Thread(target=lambda: _interrupt_when(started), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_blocking(work())
    assert unwound.is_set()


def _interrupt_when(started: threading.Event) -> None:
    """Ctrl-C, as it reaches the main thread while that waits."""
    started.wait(10)
    time.sleep(0.2)  # by then the main thread waits; nobody's finger is quicker
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def run_alone(script: str) -> None:
    """Run a script that has the module as `threads`, in a process of its own."""
    load = f"""
import asyncio, importlib.util, os, sys
spec = importlib.util.spec_from_file_location("threads", {threads.__file__!r})
threads = sys.modules["threads"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(threads)

async def answer():
    await asyncio.sleep(0)
    return 42
"""
    command = [sys.executable, "-c", load + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# A fork of the test run's own threads would be another test, and Python 3.12 warns of threads in any.
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork() -> None:
    run_alone("""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
assert threads.run_blocking(answer()) == 42
child = os.fork()
if child == 0:
    os._exit(0 if threads.run_blocking(answer()) == 42 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")


# nest_asyncio changes asyncio itself, for every test that comes after.
def test_inside_a_running_loop_with_nest_asyncio() -> None:
    run_alone("""
import nest_asyncio

async def cell():
    return threads.run_blocking(answer())

loop = asyncio.new_event_loop()
nest_asyncio.apply(loop)
assert loop.run_until_complete(cell()) == 42
loop.close()
""")


# iterate_blocking


class Source:
    """Async items, and whether they were closed."""

    def __init__(self, count: int, error: BaseException | None = None) -> None:
        self.count, self.error = count, error
        self.given = 0
        self.closed = threading.Event()

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self.count):
                await asyncio.sleep(0.01)
                self.given += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()


def test_items_arrive_in_order() -> None:
    source = Source(5)
    assert list(iterate_blocking(source.items())) == [0, 1, 2, 3, 4]
    assert source.closed.is_set()


async def test_items_arrive_inside_a_running_loop() -> None:
    assert list(iterate_blocking(Source(3).items())) == [0, 1, 2]


@pytest.mark.parametrize("error", [ValueError("as it was"), asyncio.CancelledError("from within")])
def test_an_error_comes_after_the_items(error: BaseException) -> None:
    seen: list[int] = []

    def consume() -> BaseException:
        try:
            seen.extend(iterate_blocking(Source(2, error).items()))
        except BaseException as raised:
            return raised
        raise AssertionError("no error came through")

    assert type(within(10, consume)) is type(error)
    assert len(seen) in (0, 2)


def test_closing_early_cancels() -> None:
    source = Source(10_000)
    items = iterate_blocking(source.items())
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert source.closed.is_set()  # already: closing waits for it
    given = source.given
    time.sleep(0.1)
    assert source.given == given


def test_leaving_the_loop_cancels() -> None:
    source = Source(10_000)
    for number in iterate_blocking(source.items()):
        if number == 2:
            break
    assert wait_until(source.closed.is_set)


def test_never_started_is_never_run() -> None:
    source = Source(5)
    iterate_blocking(source.items())
    time.sleep(0.05)
    assert source.given == 0


def test_blocking_items_from_the_shared_loop_itself() -> None:
    async def tool() -> list[int]:
        return list(iterate_blocking(Source(3).items()))

    assert within(10, lambda: run_blocking(tool())) == [0, 1, 2]


# in_thread


async def test_work_runs_beside_the_loop() -> None:
    together = threading.Barrier(3)
    await asyncio.gather(*(in_thread(lambda: together.wait(10)) for _ in range(3)))


async def test_works_error_is_raised() -> None:
    def fail() -> None:
        raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        await in_thread(fail)


async def test_stop_iteration_does_not_hang() -> None:
    # A fake model that gives out `next(answers)` raises it when they run out.
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(in_thread(lambda: next(iter(()))), 5)


async def test_cancelled_work_is_left_behind() -> None:
    release, finished = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(10)
        finished.set()

    task = asyncio.ensure_future(in_thread(work))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not finished.is_set()
    release.set()
    assert await asyncio.to_thread(finished.wait, 5)
    await asyncio.sleep(0.05)  # what it says now is heard by nobody, and complained of by nobody


def test_work_that_outlives_its_loop_is_not_complained_of() -> None:
    release = threading.Event()

    async def leave() -> None:
        task = asyncio.ensure_future(in_thread(lambda: release.wait(10)))
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(leave())
    release.set()
    assert wait_until(lambda: not any(thread.name == "moa-call" for thread in threading.enumerate()))


async def test_the_context_is_seen_in_the_thread() -> None:
    VARIABLE.set("the task's")
    assert await in_thread(VARIABLE.get) == "the task's"


# iterate_in_thread


def slow_items(count: int, given: list[int], closed: threading.Event | None = None) -> Iterator[int]:
    try:
        for number in range(count):
            time.sleep(0.01)
            given.append(number)
            yield number
    finally:
        if closed is not None:
            closed.set()


async def test_steps_arrive_one_by_one() -> None:
    given: list[int] = []
    seen_early: list[int] = []
    async for number in iterate_in_thread(lambda: slow_items(20, given)):
        if number == 0:
            seen_early.append(len(given))
    assert given == list(range(20))
    assert seen_early[0] < 20


async def test_a_steps_error_comes_after_the_steps() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("as it was")

    seen: list[int] = []
    with pytest.raises(ValueError, match="as it was"):  # noqa: PT012
        async for number in iterate_in_thread(items):
            seen.append(number)
    assert seen == [1]


async def test_an_error_before_the_first_step() -> None:
    def start() -> Iterator[int]:
        raise ValueError("no stream")

    with pytest.raises(ValueError, match="no stream"):
        await anext(iterate_in_thread(start))


async def test_leaving_stops_the_steps() -> None:
    given: list[int] = []
    closed = threading.Event()
    steps = iterate_in_thread(lambda: slow_items(10_000, given, closed))
    assert await anext(steps) == 0
    await steps.aclose()
    assert await asyncio.to_thread(closed.wait, 5)
    assert len(given) < 100


def test_a_task_that_exits_leaves_the_shared_loop_running(caplog: pytest.LogCaptureFixture) -> None:
    async def leaves() -> None:
        raise SystemExit(3)

    async def starts_it() -> str:
        task = asyncio.ensure_future(leaves())
        await asyncio.wait({task})
        assert isinstance(task.exception(), SystemExit)
        return "still here"

    assert threads.run_blocking(starts_it()) == "still here"
    assert threads.run_blocking(asyncio.sleep(0, "and here")) == "and here"
    assert "tried to exit" in caplog.text


async def test_a_function_of_the_users_may_be_plain_or_async_or_give_something_to_await() -> None:
    def plain(more: int) -> tuple[int, bool]:
        return more, threading.current_thread() is threading.main_thread()

    async def on_the_loop(more: int) -> tuple[int, bool]:
        return plain(more)

    assert await called(plain, 1) == (1, False)
    assert await called(on_the_loop, 2) == (2, True)
    assert await called(lambda more: on_the_loop(more), 3) == (3, True)
