"""Which failures are worth another try, how long to wait, and what to say of those that are not.

Decisions only: tenacity carries them out. Knows HTTP's status codes and the usual shapes of client
errors, by attribute and by name, so that no provider's library is imported.
"""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timezone
from typing import TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from llama_index.packs.mixture_of_agents.errors import BrokenStreamError

T = TypeVar("T")

LONGEST_WAIT = 60.0
"""Seconds. A server that asks for more is not waited for: the call is given up."""

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_TRANSIENT_TYPES = (TimeoutError, asyncio.TimeoutError, ConnectionError, httpx.TransportError)
# By name, for clients that are not imported here; TransportError is that of httpx2, too.
_TRANSIENT_NAMES = frozenset(
    {"APIConnectionError", "APITimeoutError", "ServiceUnavailableError", "TransportError"}
)
_HOPELESS_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_BACKOFF = wait_exponential(multiplier=0.5, max=20.0) + wait_random(0.0, 0.5)


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, None where there is none."""
    for cause in causes_of(error):
        for holder in (cause, getattr(cause, "response", None), getattr(cause, "raw_response", None)):
            for name in ("status_code", "code"):
                status = getattr(holder, name, None)
                if isinstance(status, int) and 100 <= status <= 599:
                    return status
    return None


def retry_after(error: BaseException, now: datetime) -> float | None:
    """Seconds the server asked to wait (RFC 9110, Retry-After), None where it did not say."""
    for cause in causes_of(error):
        for holder in (cause, getattr(cause, "response", None), getattr(cause, "raw_response", None)):
            headers = getattr(holder, "headers", None)
            value = headers.get("retry-after") if headers is not None else None
            if value is not None:
                return _parse_retry_after(str(value), now)
    return None


def _parse_retry_after(value: str, now: datetime) -> float | None:
    try:
        return max(0.0, float(value))
    except ValueError:
        pass  # not a number of seconds, so by RFC 9110 a date
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well succeed a little later: 429, 5xx, timeouts, connections."""
    if isinstance(error, BrokenStreamError):
        return False
    if any(getattr(cause, "code", None) in _HOPELESS_CODES for cause in causes_of(error)):
        return False
    asked = retry_after(error, datetime.now(timezone.utc))
    if asked is not None and asked > LONGEST_WAIT:
        return False
    status = status_of(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    return any(_looks_transient(cause) for cause in causes_of(error))


def _looks_transient(error: BaseException) -> bool:
    names = {ancestor.__name__ for ancestor in type(error).__mro__}
    return isinstance(error, _TRANSIENT_TYPES) or bool(names & _TRANSIENT_NAMES)


def describe(error: BaseException, limit: int = 300) -> str:
    """An error in a line: what kind, what it said, what it came from."""
    parts = [f"{type(cause).__name__}: {cause}".strip(": ") for cause in causes_of(error)]
    line = " <- ".join(" ".join(part.split()) for part in parts[:2])
    return line if len(line) <= limit else line[: limit - 1] + "…"


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    *,
    max_retries: int,
    on_retry: Callable[[BaseException, float], None],
) -> T:
    """Call, and call again after transient failures.

    Args:
        attempt: One try.
        max_retries: Tries after the first.
        on_retry: Told the error and the wait in seconds before each further try.

    Raises:
        BaseException: What the last try raised.
    """
    try:
        return await attempt()
    except Exception as error:
        if max_retries == 0 or not is_transient(error):
            raise
        return await _retried(attempt, error, max_retries, on_retry)


async def _retried(
    attempt: Callable[[], Awaitable[T]],
    first: BaseException,
    max_retries: int,
    on_retry: Callable[[BaseException, float], None],
) -> T:
    """Hand over to tenacity, whose first try is the one that failed already.

    Most calls succeed at once, and never pay for the machinery.
    """
    failed: list[BaseException] = [first]

    async def again() -> T:
        if failed:
            raise failed.pop()
        return await attempt()

    def announce(state: RetryCallState) -> None:
        error = _failure(state)
        if error is not None and state.next_action is not None:
            on_retry(error, float(state.next_action.sleep))

    retrying = AsyncRetrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(max_retries + 1),
        wait=_wait,
        before_sleep=announce,
        sleep=asyncio.sleep,
        reraise=True,
    )
    return await retrying(again)


def _wait(state: RetryCallState) -> float:
    error = _failure(state)
    asked = retry_after(error, datetime.now(timezone.utc)) if error is not None else None
    return _BACKOFF(state) if asked is None else asked


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
