"""Streams under a callback decorator that close what is underneath when they are closed.

Knows generators only: neither what flows through them nor who decorates them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
Trace = Callable[[Callable[..., Any]], Callable[..., Any]]


def traced_stream(
    trace: Trace,
    owner: object,
    open_stream: Callable[[Any, dict[str, Any]], Generator[T, None, None]],
    asked: object,
    kwargs: dict[str, Any],
) -> Generator[T, None, None]:
    """Open a stream under a callback decorator, such that closing it closes what is underneath.

    The decorator wraps the stream in a generator that does not close it: whoever keeps the exception
    that ended it (a debug handler does) would keep the request computing.

    Args:
        trace: Decorates a method that returns a stream.
        owner: Stands for the method's `self`.
        open_stream: Takes what was asked and the keyword arguments; checks them at once.
        asked: A prompt or messages.
        kwargs: The call's keyword arguments.

    Returns:
        The stream.
    """
    inner: list[Generator[T, None, None]] = []

    def start(owner: object, asked: object, **kwargs: Any) -> Generator[T, None, None]:
        inner.append(open_stream(asked, kwargs))
        return inner[0]

    return _relay(trace(start)(owner, asked, **kwargs), inner[0])


def _relay(outer: Generator[T, None, None], inner: Generator[T, None, None]) -> Generator[T, None, None]:
    try:
        yield from outer
    finally:
        outer.close()
        inner.close()


async def traced_astream(
    trace: Trace,
    owner: object,
    open_stream: Callable[[Any, dict[str, Any]], Awaitable[AsyncGenerator[T, None]]],
    asked: object,
    kwargs: dict[str, Any],
) -> AsyncGenerator[T, None]:
    """As `traced_stream`, for async generators."""
    inner: list[AsyncGenerator[T, None]] = []

    async def start(owner: object, asked: object, **kwargs: Any) -> AsyncGenerator[T, None]:
        inner.append(await open_stream(asked, kwargs))
        return inner[0]

    return _arelay(await trace(start)(owner, asked, **kwargs), inner[0])


async def _arelay(outer: AsyncGenerator[T, None], inner: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    try:
        async for item in outer:
            yield item
    finally:
        await outer.aclose()
        await inner.aclose()
