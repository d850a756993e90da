"""Tasks that are stopped and waited for. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def stop(task: asyncio.Future[Any], patience: float = 1.0) -> None:
    """Cancel a task and give it a moment, in seconds, to unwind; one that clings on is left behind."""
    task.cancel()
    await asyncio.wait({task}, timeout=patience)


async def ended(work: Coroutine[Any, Any, T], timeout: float | None = None) -> asyncio.Task[T]:
    """Run work in a task of its own until it has ended, `timeout` seconds at most.

    So a cancellation of the caller, which is raised here, can be told from one that the work brought
    upon itself, which the task holds. Either way nothing is left running.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=timeout)
    finally:
        if not task.done():
            await stop(task)
        if task.done() and not task.cancelled():
            task.exception()  # looked at, so that one nobody waits for any more is not reported as lost
    return task
