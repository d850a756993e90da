"""A thread is brought to an end: by itself if it can, by an exception if it goes on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

from llama_index.packs.mixture_of_agents.sparse_moe.interrupting import interrupt

# The hook that Python has for threads' exceptions ignores SystemExit; pytest's own one does not.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def going() -> threading.Event:
    return threading.Event()


def _started(work: Callable[[], None], going: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert going.wait(10)
    return thread


def test_a_thread_that_ends_by_itself_is_left_to(going: threading.Event) -> None:
    ends: list[str] = []

    def soon_done() -> None:
        going.set()
        time.sleep(0.05)
        ends.append("by itself")

    assert interrupt([_started(soon_done, going)], grace=10, patience=0)
    assert ends == ["by itself"]


def test_a_thread_that_goes_on_for_ever_ends_and_tidies_up(going: threading.Event) -> None:
    ends: list[str] = []

    def for_ever() -> None:
        try:
            going.set()
            while True:
                time.sleep(0.001)
        finally:
            ends.append("tidied up")

    assert interrupt([_started(for_ever, going)], grace=0.01)
    assert ends == ["tidied up"]


def test_a_thread_that_suppresses_everything_once_is_asked_again(going: threading.Event) -> None:
    suppressed = threading.Event()

    def stubborn() -> None:
        with contextlib.suppress(BaseException):
            going.set()
            while True:
                time.sleep(0.001)
        suppressed.set()
        while True:
            time.sleep(0.001)

    assert interrupt([_started(stubborn, going)], grace=0.01)
    assert suppressed.is_set()


def test_an_operation_that_cannot_be_interrupted_is_not_waited_for_without_end(
    going: threading.Event,
) -> None:
    done = threading.Event()

    def in_one_operation() -> None:
        going.set()
        done.wait(30)

    thread = _started(in_one_operation, going)
    assert not interrupt([thread], grace=0.01, patience=0.2)
    done.set()
    thread.join(10)
    assert not thread.is_alive()


def test_many_share_one_time(going: threading.Event) -> None:
    done = threading.Event()

    def in_one_operation() -> None:
        going.set()
        done.wait(30)

    threads = [_started(in_one_operation, going) for _ in range(20)]
    began = time.monotonic()
    assert not interrupt(threads, grace=0.2, patience=0.2)
    assert time.monotonic() - began < 4  # and not 20 times 0.4
    done.set()
    for thread in threads:
        thread.join(10)
    assert interrupt(threads)
