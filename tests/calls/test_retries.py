"""Which failures are tried again, after how long, and what is said of them."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import AsyncRetrying, RetryCallState

from llama_index.packs.mixture_of_agents.calls import retries
from llama_index.packs.mixture_of_agents.calls.retries import (
    LONGEST_WAIT,
    causes_of,
    describe,
    is_transient,
    retry_after,
    status_of,
    with_retries,
)
from llama_index.packs.mixture_of_agents.errors import BrokenStreamError

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


class StatusError(Exception):
    """As OpenAI's and Anthropic's: the status on the error, the headers on its response."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, code: str | None = None) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.code = code
        self.response = httpx.Response(status, headers=headers)


class CodeError(Exception):
    """As GoogleGenAI's: the status is called a code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class RawResponseError(Exception):
    """As MistralAI's, of an older make: everything is on the raw response."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__("raw")
        self.raw_response = SimpleNamespace(status_code=status, headers=httpx.Headers(headers))


def caused(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


class APIConnectionError(Exception):
    """Named as OpenAI's, which is known by its name alone."""


class TransportError(Exception):
    """Named as the base of httpx2's errors, which MistralAI's client raises."""


class ConnectError(TransportError):
    """Known by an ancestor's name."""


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_passing_statuses(status: int) -> None:
    assert is_transient(StatusError(status))
    assert is_transient(CodeError(status))
    assert is_transient(caused(RuntimeError("wrapped"), StatusError(status)))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 413, 422, 501])
def test_lasting_statuses(status: int) -> None:
    assert not is_transient(StatusError(status))
    assert not is_transient(CodeError(status))
    assert not is_transient(caused(RuntimeError("wrapped"), StatusError(status)))
    # A status decides, whatever the error is called.
    assert not is_transient(caused(APIConnectionError("wrapped"), StatusError(status)))


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        asyncio.TimeoutError(),
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut off"),
        APIConnectionError(),
        ConnectError(),
        caused(RuntimeError("wrapped"), ConnectionResetError()),
        caused(RuntimeError("twice"), caused(RuntimeError("wrapped"), TimeoutError())),
    ],
)
def test_connections_and_timeouts_pass(error: Exception) -> None:
    assert is_transient(error)
    assert status_of(error) is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        RuntimeError("bad"),
        KeyError("choices"),
        NotImplementedError(),
        OSError("disk full"),
        StatusError(429, code="insufficient_quota"),
        StatusError(429, code="billing_hard_limit_reached"),
        caused(RuntimeError("wrapped"), StatusError(429, code="insufficient_quota")),
        StatusError(429, {"Retry-After": str(LONGEST_WAIT + 1)}),
        caused(BrokenStreamError("half an answer is out"), ConnectionResetError()),
    ],
)
def test_everything_else_lasts(error: Exception) -> None:
    assert not is_transient(error)


def test_a_wait_of_just_a_minute_is_waited() -> None:
    assert is_transient(StatusError(429, {"Retry-After": str(LONGEST_WAIT)}))


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "429", 99, 600, None, 4.29])
def test_codes_that_are_no_statuses(code: Any) -> None:
    error = Exception("x")
    error.code = code  # type: ignore[attr-defined]
    assert status_of(error) is None


def test_a_status_is_found_behind_other_errors() -> None:
    assert status_of(caused(RuntimeError("outer"), caused(ValueError("middle"), StatusError(418)))) == 418
    assert status_of(RawResponseError(503, {})) == 503


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 2 ", 2.0),
        ("-5", 0.0),
        (format_datetime(NOW + timedelta(seconds=20), usegmt=True), 20.0),
        (format_datetime(NOW - timedelta(seconds=20), usegmt=True), 0.0),
        ("soon", None),
        ("", None),
        ("nan", 0.0),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    error = StatusError(429, {"Retry-After": value})
    assert retry_after(error, NOW) == seconds
    assert retry_after(caused(RuntimeError("wrapped"), error), NOW) == seconds
    assert retry_after(RawResponseError(429, {"retry-after": value}), NOW) == seconds


def test_no_retry_after() -> None:
    assert retry_after(StatusError(429), NOW) is None
    assert retry_after(ValueError("x"), NOW) is None


@given(st.text(max_size=40))
def test_any_retry_after_is_survived(value: str) -> None:
    error = SimpleNamespace(headers={"retry-after": value})
    seconds = retry_after(caused(ValueError("x"), _holding(error)), NOW)
    assert seconds is None or seconds >= 0


def _holding(response: Any) -> Exception:
    error = Exception("held")
    error.response = response  # type: ignore[attr-defined]
    return error


def test_causes_that_go_round_in_a_circle() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert list(causes_of(first)) == [first, second]
    assert status_of(first) is None
    assert not is_transient(first)


def test_describe() -> None:
    assert describe(ValueError("no\n  good")) == "ValueError: no good"
    assert describe(TimeoutError()) == "TimeoutError"
    wrapped = caused(RuntimeError("outer"), caused(ValueError("inner"), KeyError("innermost")))
    assert describe(wrapped) == "RuntimeError: outer <- ValueError: inner"
    assert len(describe(ValueError("x" * 1000))) == 300
    assert describe(ValueError("x" * 1000)).endswith("…")


class Failing:
    """Fails so many times, then answers."""

    def __init__(self, times: int, error: BaseException) -> None:
        self.times, self.error, self.tries = times, error, 0

    async def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self.times:
            raise self.error
        return "answer"


AT_ONCE = StatusError(503, {"Retry-After": "0"})


@pytest.mark.parametrize(("failures", "max_retries"), [(0, 0), (0, 2), (1, 1), (1, 2), (2, 2), (4, 5)])
async def test_tries_until_it_answers(failures: int, max_retries: int) -> None:
    call, told = Failing(failures, AT_ONCE), []
    answer = await with_retries(call, max_retries=max_retries, on_retry=lambda *said: told.append(said))
    assert answer == "answer"
    assert call.tries == failures + 1
    assert told == [(AT_ONCE, 0.0)] * failures


@pytest.mark.parametrize("max_retries", [0, 1, 3])
async def test_gives_up_with_the_last_error(max_retries: int) -> None:
    call, told = Failing(99, AT_ONCE), []
    with pytest.raises(StatusError) as raised:
        await with_retries(call, max_retries=max_retries, on_retry=lambda *said: told.append(said))
    assert raised.value is AT_ONCE
    assert call.tries == max_retries + 1
    assert len(told) == max_retries


async def test_lasting_failures_end_it_at_once() -> None:
    call = Failing(99, StatusError(401))
    with pytest.raises(StatusError, match="401"):
        await with_retries(call, max_retries=5, on_retry=_nobody)
    assert call.tries == 1


async def test_a_lasting_failure_ends_a_series_of_passing_ones() -> None:
    errors = iter([AT_ONCE, AT_ONCE, StatusError(400)])

    async def call() -> str:
        raise next(errors)

    with pytest.raises(StatusError, match="400"):
        await with_retries(call, max_retries=5, on_retry=_nobody)


async def test_cancellation_is_not_a_failure() -> None:
    call = Failing(99, asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await with_retries(call, max_retries=5, on_retry=_nobody)
    assert call.tries == 1


async def test_a_wait_is_cancelled() -> None:
    call = Failing(99, StatusError(503, {"Retry-After": "50"}))
    task = asyncio.ensure_future(with_retries(call, max_retries=5, on_retry=_nobody))
    await asyncio.sleep(0.05)
    task.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 5
    assert call.tries == 1


async def test_waits_as_long_as_asked() -> None:
    started = time.monotonic()
    await with_retries(Failing(1, StatusError(429, {"Retry-After": "0.3"})), max_retries=1, on_retry=_nobody)
    assert 0.29 <= time.monotonic() - started < 5


async def test_backs_off_by_itself() -> None:
    waits: list[float] = []
    started = time.monotonic()
    await with_retries(
        Failing(2, StatusError(429)), max_retries=2, on_retry=lambda error, wait: waits.append(wait)
    )
    assert time.monotonic() - started >= 1.5
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 1.5


@given(attempt=st.integers(1, 40))
def test_backoff_doubles_up_to_a_bound(attempt: int) -> None:
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = attempt
    floor = min(20.0, 0.5 * 2 ** (attempt - 1))
    assert floor <= retries._BACKOFF(state) <= floor + 0.5 <= LONGEST_WAIT


def _nobody(error: BaseException, wait: float) -> None:
    """Listens to no announcement."""
