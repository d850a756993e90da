"""What `moa trace` shows: runs in a list, one run as an account, many runs as numbers.

Tables and colours on a terminal; in a pipe plain lines, a list's with tabs between the columns. It reads
traces, and changes none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.packs.mixture_of_agents.app.accounts import account
from llama_index.packs.mixture_of_agents.app.board import dollars, printable
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.records.traces.reading import open_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord, choose_run
from llama_index.packs.mixture_of_agents.records.traces.stats import ModelStats, Stats, stats_of
from llama_index.packs.mixture_of_agents.results import Usage

FOLDER_VARIABLE = "MOA_TRACE_DIR"
_FOLDER = "logs/moa"
_LONGEST_QUESTION = 60
_RUN_HEAD = ("time", "run", "status", "layers", "calls", "cost", "question")
_MODEL_HEAD = (
    "model",
    "calls",
    "failed",
    "retries",
    "stored",
    "tokens in",
    "tokens out",
    "cost",
    "p50",
    "p95",
)


def runs_at(path: str | os.PathLike[str] | None) -> list[RunRecord]:
    """The runs of a file or folder, by default of where the program writes them.

    What could not be read is said on standard error.

    Raises:
        TraceError: There is no trace, or it cannot be read.
    """
    place = Path(path) if path is not None else default_folder()
    if not place.exists():
        raise TraceError(
            f"There is no trace at {place}. `moa ask` writes them to {default_folder()}; name a file or a "
            "folder."
        )
    found = open_trace(place)
    for problem in found.problems:
        note(problem)
    return found.runs


def default_folder() -> Path:
    """Where the program writes traces."""
    return Path(os.environ.get(FOLDER_VARIABLE, "").strip() or _FOLDER)


def run_named(named: str | None, run_id: str | None) -> RunRecord:
    """One run.

    Args:
        named: A file or a folder; or a run's id, or its beginning, in the usual folder. None for the newest
            run there.
        run_id: Which run of the file.

    Raises:
        TraceError: There is no such run, or several.
    """
    if named is not None and not Path(named).exists() and run_id is None and os.sep not in named:
        return choose_run(runs_at(None), named)
    runs = runs_at(named)
    return runs[-1] if named is None and run_id is None and runs else choose_run(runs, run_id)


def list_runs(path: str | None, as_json: bool) -> None:
    """Print one line for each run."""
    runs = runs_at(path)
    if as_json:
        _print_json([_row(run) for run in runs])
    elif sys.stdout.isatty():
        _print_table(_RUN_HEAD, [_columns(run, 8) for run in runs])
    else:
        _print("\n".join("\t".join(_columns(run, None)) for run in runs))


def _row(run: RunRecord) -> dict[str, Any]:
    return {
        "time": run.started_at.isoformat(),
        "run": run.run_id,
        "status": run.status,
        "layers": run.mixture.num_layers,
        "calls": len(run.calls),
        "cost_usd": run.spent.cost_usd,
        "question": run.question_text,
        "path": str(run.path),
    }


def _columns(run: RunRecord, id_length: int | None) -> tuple[str, ...]:
    question = " ".join(printable(run.question_text).split())
    brief = question if len(question) <= _LONGEST_QUESTION else f"{question[:_LONGEST_QUESTION]}..."
    return (
        run.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        run.run_id[:id_length],
        run.status,
        str(run.mixture.num_layers),
        str(len(run.calls)),
        money(run.spent),
        brief,
    )


def show_run(named: str | None, run_id: str | None, as_json: bool) -> None:
    """Print one run: what was asked, said, decided, missing and used."""
    run = run_named(named, run_id)
    if as_json:
        _print_json(_whole(run))
        return
    lines = list(account(run))
    if not sys.stdout.isatty():
        _print("\n".join(line.text for line in lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        console.print(Text(printable(line.text), style=line.style), soft_wrap=True)


def _whole(run: RunRecord) -> dict[str, Any]:
    calls = [
        {
            **call.asked.model_dump(mode="json", exclude={"kind", "messages"}),
            "messages": [message.model_dump(mode="json", exclude_none=True) for message in call.messages],
            "outcome": None if call.outcome is None else call.outcome.model_dump(mode="json"),
        }
        for call in run.calls
    ]
    return {
        **_row(run),
        "messages": [message.model_dump(mode="json", exclude_none=True) for message in run.question],
        "mixture": run.mixture.model_dump(mode="json"),
        "packages": run.started.packages,
        "calls": calls,
        "retries": [retry.model_dump(mode="json") for retry in run.retries],
        "agreed": None if run.agreed is None else run.agreed.model_dump(mode="json"),
        "routed": [routing.model_dump(mode="json") for routing in run.routed],
        "ended": None if run.ended is None else run.ended.model_dump(mode="json"),
    }


def show_stats(path: str | None, as_json: bool) -> None:
    """Print what many runs took."""
    stats = stats_of(runs_at(path))
    if as_json:
        _print_json(stats.model_dump(mode="json"))
        return
    rows = [_model_columns(model) for model in (*stats.models, stats.all)]
    if sys.stdout.isatty():
        _print_table(_MODEL_HEAD, rows)
    else:
        _print("\n".join("\t".join(row) for row in (_MODEL_HEAD, *rows)))
    _print("\n".join(_summary(stats)))


def _model_columns(model: ModelStats) -> tuple[str, ...]:
    priced = dollars(model.cost_usd) if model.cost_usd or not model.unpriced else ""
    unpriced = f"{model.unpriced} unknown" if model.unpriced else ""
    return (
        model.model,
        str(model.calls),
        str(model.failures),
        str(model.retries),
        str(model.from_store),
        str(model.prompt_tokens),
        str(model.completion_tokens),
        " + ".join(part for part in (priced, unpriced) if part),
        _seconds(model.latency_p50),
        _seconds(model.latency_p95),
    )


def _summary(stats: Stats) -> list[str]:
    counted = ", ".join(f"{count} {status}" for status, count in stats.runs.items())
    lines = [f"runs: {sum(stats.runs.values())} ({counted})"]
    if stats.votes.agreement is not None:
        lines.append(
            f"votes: {stats.votes.runs} runs; the winner has {stats.votes.agreement:.0%} of the proposals on "
            f"average; {stats.votes.ties} ties, {stats.votes.abstained} abstained"
        )
    return lines


def money(usage: Usage) -> str:
    """A cost in US dollars, "?" where it is unknown."""
    return "?" if usage.cost_usd is None else dollars(usage.cost_usd)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}s"


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(highlight=False).print(table)


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2))


def _print(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
