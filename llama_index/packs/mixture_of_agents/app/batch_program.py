"""A batch from its file to its last line: read, prepared, answered under a view's eyes, summed up."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.packs.mixture_of_agents.app.batch_rows import Row, rows_in
from llama_index.packs.mixture_of_agents.app.batch_views import BatchLines, BatchSilence
from llama_index.packs.mixture_of_agents.app.batching import Tally, answer_rows, summary
from llama_index.packs.mixture_of_agents.app.choosing import moves_cursor, view_for
from llama_index.packs.mixture_of_agents.app.journal import Journal
from llama_index.packs.mixture_of_agents.app.ordering import Order, pack_for
from llama_index.packs.mixture_of_agents.app.statuses import FAILED, note
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import ConfigurationError


@dataclass(frozen=True)
class Batch:
    """What is to be done.

    Attributes:
        prompts: Where prompts come from.
        output: Where answers go.
        concurrency: Prompts in work at one time.
        order: The mixture.
        progress: Show what goes on; None shows it.
    """

    prompts: Path
    output: Path
    concurrency: int
    order: Order
    progress: bool | None = None


def run(batch: Batch) -> int:
    """Answer a batch, from where an earlier one left it; the exit status comes back.

    Raises:
        ConfigurationError: It cannot work; nothing was asked.
    """
    if str(batch.output) == "-":
        raise ConfigurationError("Answers go into a file, so that a killed batch can go on: -o answers.jsonl")
    rows = _rows(batch.prompts)
    pack = _prepared(batch)
    journal = Journal(batch.output, rows, _mixture(batch.order, pack))
    began = time.monotonic()
    try:
        tally = _answered(batch, pack, rows, journal)
    except KeyboardInterrupt:
        note(
            f"{len(journal.finished):,} of {len(rows):,} rows are done; the same command goes on from there."
        )
        raise
    finally:
        journal.close()
    if batch.progress is not False:
        note(f"{summary(tally, time.monotonic() - began)} · {batch.output}")
    return FAILED if tally.failed else 0


def _mixture(order: Order, pack: MixtureOfAgentsPack) -> dict[str, Any]:
    """What tells one mixture from another: of a file what it says, which may change between two halves."""
    if order.config is None:
        return order.mixture()
    said = pack.workflow.mixture.config or {}
    return {**order.mixture(), "config": {name: value for name, value in said.items() if name != "trace"}}


def _answered(batch: Batch, pack: MixtureOfAgentsPack, rows: list[Row], journal: Journal) -> Tally:
    view = _view(batch.progress)
    try:
        return asyncio.run(answer_rows(pack, rows, journal, batch.concurrency, view))
    finally:
        view.close()


def _rows(path: Path) -> list[Row]:
    try:
        rows = rows_in(path.expanduser().read_bytes())
    except OSError as error:
        raise ConfigurationError(f"The prompts in {path} cannot be read ({error}); name a file.") from error
    if not rows:
        raise ConfigurationError(f"{path} holds no prompts; write one a line.")
    return rows


def _prepared(batch: Batch) -> MixtureOfAgentsPack:
    view = view_for(as_json=True, progress=batch.progress)
    try:
        return pack_for(batch.order, view)
    finally:
        view.close()


def _view(progress: bool | None) -> BatchSilence:
    if progress is False:
        return BatchSilence()
    if sys.stderr.isatty() and moves_cursor(os.environ):
        # Not at the top: what writes to a log needs no Rich.
        from rich.console import Console

        from llama_index.packs.mixture_of_agents.app.batch_bar import BatchBar

        return BatchBar(Console(stderr=True, highlight=False))
    return BatchLines(sys.stderr)
