"""What `moa gate feedback` and `moa gate learned` do: runs judged, and what has come of it.

Runs are read from their traces. How a gate learns is not known here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.packs.mixture_of_agents.app.recorded import mixture_run
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.online import OnlineGate, load_online
from llama_index.packs.mixture_of_agents.gate.outcomes import Outcome
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.results import MixtureResponse

_HEAD = ("", "judged", "right", "expected", "now")


def feedback(
    run: str | None, run_id: str | None, folder: Path, right: bool | None, answer: str | None, as_json: bool
) -> None:
    """Tell a gate what was right of a run, and print what it learned.

    Raises:
        ConfigurationError: Nothing can be learned so.
        TraceError: There is no such run.
    """
    if (right is None) == (answer is None):
        raise ConfigurationError("Say one of --right, --wrong and --answer TEXT.")
    online, record = load_online(folder), mixture_run(run, run_id)
    if record.ended is None or not record.answer:
        raise ConfigurationError(f"The run {record.run_id} has no answer ({record.status}).")
    if record.started.redacted:
        raise ConfigurationError(f"The run {record.run_id} says nothing: texts are left out of its trace.")
    response = _response(record)
    online.check([proposal.proposer for proposal in response.proposals])
    learned = online.feedback(response, right=right, answer=answer, question=record.question_text)
    if not learned:
        note("nothing can be told from that; --answer TEXT says more than --wrong")
    _print(json.dumps(_told(record, learned), indent=2) if as_json else _lines(learned))


def learned(folder: Path, reset: bool, as_json: bool) -> None:
    """Print what a gate has learned, or have it forget.

    Raises:
        ConfigurationError: There is no gate, or its store is something else.
    """
    online = load_online(folder)
    if reset:
        _print(f"{online.reset()} outcomes forgotten")
        return
    rows = _rows(online)
    if as_json:
        _print(json.dumps(rows, indent=2))
        return
    columns = [
        (row["about"], f"{row['judged']:g}", *(f"{row[name]:.1%}" for name in ("right", "expected", "now")))
        for row in rows
    ]
    _print("\n".join("\t".join(cells) for cells in (_HEAD, *columns)) if rows else "nothing yet")


def _response(run: RunRecord) -> MixtureResponse:
    """What of a run is judged: the answers of its first round, and the final one."""
    return MixtureResponse(text=run.answer, proposals=run.proposals(1), run_id=run.run_id)


def _rows(online: OnlineGate) -> list[dict[str, Any]]:
    return [
        {
            "about": _about(key),
            "judged": one.count,
            "right": one.right,
            "expected": one.expected,
            "now": one.chance,
        }
        for key, one in sorted(online.estimates().items())
    ]


def _told(record: RunRecord, learned: Sequence[Outcome]) -> dict[str, Any]:
    return {"run": record.run_id, "learned": {_about(one.key): one.is_right for one in learned}}


def _lines(learned: Sequence[Outcome]) -> str:
    return "\n".join(
        f"{_about(one.key)}: {'right' if one.is_right else 'wrong'}, expected with {one.expected:.3f}"
        for one in learned
    )


def _about(key: tuple[str, str]) -> str:
    kind, name = key
    return name if kind == "proposer" else f"the vote after group {name}"


def _print(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
