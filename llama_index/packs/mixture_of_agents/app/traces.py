"""What `moa trace` shows: runs in a list, one run as an account, many runs as numbers.

Tables and colours on a terminal; in a pipe plain lines, a list's with tabs between the columns. It reads
traces, and changes none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.packs.mixture_of_agents.app.accounts import Line, account
from llama_index.packs.mixture_of_agents.app.board import count, dollars, printable
from llama_index.packs.mixture_of_agents.app.recorded import any_run, in_order, traces_at
from llama_index.packs.mixture_of_agents.app.tables import print_table
from llama_index.packs.mixture_of_agents.records.traces.crew_records import CrewRecord
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.records.traces.stats import (
    CrewStats,
    ModelStats,
    Stats,
    crew_stats_of,
    stats_of,
)
from llama_index.packs.mixture_of_agents.results import Usage

_LONGEST_QUESTION = 60
_RUN_HEAD = ("time", "run", "status", "layers", "calls", "cost", "question")
_TEXTS = {"model": 12, "question": 10, "cost": 7}
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


def list_runs(path: str | None, as_json: bool) -> None:
    """Print one line for each run."""
    runs = in_order(traces_at(path))
    if as_json:
        _print_json([_row(run) for run in runs])
    elif sys.stdout.isatty():
        print_table(_RUN_HEAD, [_columns(run, 8) for run in runs], _TEXTS)
    else:
        _print("\n".join("\t".join(_columns(run, None)) for run in runs))


def _row(run: RunRecord | CrewRecord) -> dict[str, Any]:
    return {
        "time": run.started_at.isoformat(),
        "run": run.run_id,
        "status": run.status,
        "layers": None if isinstance(run, CrewRecord) else run.mixture.num_layers,
        "calls": None if isinstance(run, CrewRecord) else len(run.calls),
        "cost_usd": run.spent.cost_usd,
        "question": run.question_text,
        "path": str(run.path),
        **({"crew": run.crew.name, "tasks": run.tasks} if isinstance(run, CrewRecord) else {}),
    }


def _columns(run: RunRecord | CrewRecord, id_length: int | None) -> tuple[str, ...]:
    question = " ".join(printable(run.question_text).split())
    brief = question if len(question) <= _LONGEST_QUESTION else f"{question[:_LONGEST_QUESTION]}..."
    size = (
        ("crew", count(run.tasks, "task"))
        if isinstance(run, CrewRecord)
        else (str(run.mixture.num_layers), str(len(run.calls)))
    )
    return (
        run.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        run.run_id[:id_length],
        run.status,
        *size,
        money(run.spent),
        brief,
    )


def show_run(named: str | None, run_id: str | None, as_json: bool) -> None:
    """Print one run: what was asked, said, decided, missing and used."""
    run = any_run(named, run_id)
    if as_json:
        _print_json(_whole_crew(run) if isinstance(run, CrewRecord) else _whole(run))
        return
    lines = _crew_lines(run) if isinstance(run, CrewRecord) else list(account(run))
    if not sys.stdout.isatty():
        _print("\n".join(line.text for line in lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        console.print(Text(printable(line.text), style=line.style), soft_wrap=True)


def _crew_lines(run: CrewRecord) -> list[Line]:
    # Not at the top: agents are for those who asked a crew.
    from llama_index.packs.mixture_of_agents.app.crew_accounts import crew_account

    return list(crew_account(run))


def _whole_crew(run: CrewRecord) -> dict[str, Any]:
    return {
        **_row(run),
        "messages": [message.model_dump(mode="json", exclude_none=True) for message in run.question],
        "members": [member.model_dump(mode="json") for member in run.crew.members],
        "packages": run.started.packages,
        "did": [one.model_dump(mode="json", exclude={"kind"}) for one in run.did],
        "ended": None if run.ended is None else run.ended.model_dump(mode="json"),
    }


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
    found = traces_at(path)
    stats, crews = stats_of(found.runs), crew_stats_of(found.crews)
    if as_json:
        _print_json({**stats.model_dump(mode="json"), "crews": crews.model_dump(mode="json")})
        return
    if stats.runs:
        _show_models([_model_columns(model) for model in (*stats.models, stats.all)])
    _print("\n".join(_summary(stats, crews)))


def _show_models(rows: Sequence[tuple[str, ...]]) -> None:
    if sys.stdout.isatty():
        print_table(_MODEL_HEAD, rows, _TEXTS)
    else:
        _print("\n".join("\t".join(row) for row in (_MODEL_HEAD, *rows)))


def _model_columns(model: ModelStats) -> tuple[str, ...]:
    return (
        model.model,
        str(model.calls),
        str(model.failures),
        str(model.retries),
        str(model.from_store),
        str(model.prompt_tokens),
        str(model.completion_tokens),
        _cost(model.cost_usd, model.unpriced),
        _seconds(model.latency_p50),
        _seconds(model.latency_p95),
    )


def _cost(known: float, unpriced: int) -> str:
    priced = dollars(known) if known or not unpriced else ""
    unknown = f"{unpriced} unknown" if unpriced else ""
    return " + ".join(part for part in (priced, unknown) if part)


def _summary(stats: Stats, crews: CrewStats) -> list[str]:
    lines = [_counted("runs", stats.runs)] if stats.runs else []
    if stats.votes.agreement is not None:
        lines.append(
            f"votes: {stats.votes.runs} runs; the winner has {stats.votes.agreement:.0%} of the proposals on "
            f"average; {stats.votes.ties} ties, {stats.votes.abstained} abstained"
        )
    if crews.runs:
        lines += [
            _counted("crews", crews.runs),
            f"  {count(crews.tasks, 'task')}, {crews.missing} without a result; "
            f"{crews.prompt_tokens} tokens in, {crews.completion_tokens} out, "
            f"{_cost(crews.cost_usd, crews.unpriced)}",
        ]
    return lines


def _counted(what: str, statuses: Mapping[str, int]) -> str:
    counted = ", ".join(f"{number} {status}" for status, number in statuses.items())
    return f"{what}: {sum(statuses.values())} ({counted})"


def money(usage: Usage) -> str:
    """A cost in US dollars, "?" where it is unknown."""
    return "?" if usage.cost_usd is None else dollars(usage.cost_usd)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}s"


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2))


def _print(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
