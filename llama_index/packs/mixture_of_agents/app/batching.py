"""Many prompts put to one mixture, so many at a time; each answer goes to the journal as it comes.

It knows rows, the pack and the journal. What is shown meanwhile is the business of a `Tally`'s reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from llama_index.packs.mixture_of_agents.app.batch_rows import Row, answer_row, failed_row
from llama_index.packs.mixture_of_agents.app.board import count, dollars
from llama_index.packs.mixture_of_agents.app.journal import Journal
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.calls.threads import in_thread
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.results import Usage


@dataclass(frozen=True)
class Tally:
    """How far a batch has come.

    Attributes:
        total: How many rows there are.
        done: How many are finished, failed ones too.
        failed: How many have no answer.
        usage: What the answered ones used.
    """

    total: int
    done: int = 0
    failed: int = 0
    usage: Usage | None = None

    def with_row(self, answer: Mapping[str, Any]) -> Tally:
        """The tally with one more finished row."""
        failed = answer.get("error") is not None
        usage = None if failed else Usage.model_validate(answer.get("usage", {}))
        known = [part for part in (self.usage, usage) if part is not None]
        return replace(
            self,
            done=self.done + 1,
            failed=self.failed + failed,
            usage=Usage.total(known) if known else None,
        )


class BatchView(Protocol):
    """Sees a batch go on."""

    def begin(self, tally: Tally) -> None:
        """It begins, or goes on from here."""

    def row(self, answer: Mapping[str, Any], tally: Tally) -> None:
        """A row is finished."""


async def answer_rows(
    pack: MixtureOfAgentsPack, rows: Sequence[Row], journal: Journal, concurrency: int, view: BatchView
) -> Tally:
    """Put every row that is not finished to the mixture.

    Args:
        pack: The mixture.
        rows: All rows.
        journal: What is finished already, and where the rest goes.
        concurrency: Rows in work at one time.
        view: Who watches.

    Raises:
        ConfigurationError: An answer cannot be written down.
    """
    batch = _Batch(pack, journal, view, tallied(len(rows), journal.finished.values()))
    view.begin(batch.tally)
    waiting = iter([row for row in rows if row.number not in journal.finished])
    workers = [asyncio.ensure_future(batch.work(waiting)) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return batch.tally


def tallied(total: int, answers: Iterable[Mapping[str, Any]]) -> Tally:
    """The tally of rows that are finished."""
    tally = Tally(total)
    for answer in answers:
        tally = tally.with_row(answer)
    return tally


class _Batch:
    """One batch in work."""

    def __init__(self, pack: MixtureOfAgentsPack, journal: Journal, view: BatchView, tally: Tally) -> None:
        self._pack, self._journal, self._view, self.tally = pack, journal, view, tally

    async def work(self, waiting: Iterator[Row]) -> None:
        """Answer rows as long as there are any."""
        for row in waiting:
            answer = await self._answer(row)
            try:
                await in_thread(partial(self._journal.finish, row, answer))
            except OSError as error:
                raise ConfigurationError(
                    f"The answer to row {row.number} cannot be written ({error}). Make room, then give the "
                    "same command again to go on."
                ) from error
            self.tally = self.tally.with_row(answer)
            self._view.row(answer, self.tally)

    async def _answer(self, row: Row) -> dict[str, Any]:
        if row.fault:
            return failed_row(row, row.fault)
        try:
            checkpoint = self._journal.checkpoint(row)
            return answer_row(row, await self._pack.arun(list(row.question), checkpoint))
        except Exception as error:  # whatever it is, the other rows have nothing to do with it
            return failed_row(row, error)


def time_left(before: Tally, now: Tally, seconds: float) -> float | None:
    """Seconds that the rest will take at the pace so far; None before there is one.

    Args:
        before: The tally at the beginning.
        now: The tally now.
        seconds: Between the two.
    """
    done = now.done - before.done
    return seconds / done * (now.total - now.done) if done else None


def summary(tally: Tally, seconds: float) -> str:
    """What a batch came to, in a line."""
    usage = tally.usage or Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)
    read, written = usage.prompt_tokens, usage.completion_tokens
    tokens = "tokens not reported by every model"
    if read is not None and written is not None:
        tokens = (
            f"{read:,} tokens read, {written:,} written{' (estimated in part)' if usage.estimated else ''}"
        )
    failed = f"{tally.failed} failed" if tally.failed else "none failed"
    answered = f"{count(tally.total, 'row')}: {tally.done - tally.failed:,} answered, {failed}"
    return " · ".join((answered, f"{seconds:.1f} s", tokens, dollars(usage.cost_usd)))
