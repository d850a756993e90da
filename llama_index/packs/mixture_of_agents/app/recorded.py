"""Finding runs among traces: by file, by folder, by id, or the newest. It shows nothing.

What could not be read is said on standard error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.records.traces.crew_records import CrewRecord
from llama_index.packs.mixture_of_agents.records.traces.reading import TraceFile, open_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import NamedRun, RunRecord, choose_run

FOLDER_VARIABLE = "MOA_TRACE_DIR"
_FOLDER = "logs/moa"


def default_folder() -> Path:
    """Where the program writes traces."""
    return Path(os.environ.get(FOLDER_VARIABLE, "").strip() or _FOLDER)


def traces_at(path: str | os.PathLike[str] | None) -> TraceFile:
    """What is in a file or folder, by default in the one where the program writes.

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
    return found


def in_order(found: TraceFile) -> list[RunRecord | CrewRecord]:
    """All runs, of mixtures and of crews, in the order they began."""
    runs: list[RunRecord | CrewRecord] = [*found.runs, *found.crews]
    return sorted(runs, key=lambda run: run.started_at)


def any_run(named: str | None, run_id: str | None) -> RunRecord | CrewRecord:
    """One run, of a mixture or of a crew.

    Args:
        named: A file or a folder; or a run's id, or its beginning, in the usual folder. None for the newest
            run there.
        run_id: Which run of the file.

    Raises:
        TraceError: There is no such run, or several.
    """
    path, wanted = _place(named, run_id)
    return _chosen(in_order(traces_at(path)), named, wanted)


def mixture_run(named: str | None, run_id: str | None) -> RunRecord:
    """One run of a mixture; the arguments and the error are `any_run`'s."""
    path, wanted = _place(named, run_id)
    found = traces_at(path)
    if not any(wanted is None or run.run_id.startswith(wanted) for run in found.runs):
        for crew in found.crews:
            if wanted is None or crew.run_id.startswith(wanted):
                raise TraceError(
                    f"The run {crew.run_id} is a crew's, and this is for runs of mixtures. `moa trace show "
                    f"{crew.run_id[:8]}` tells it."
                )
    return _chosen(found.runs, named, wanted)


def _place(named: str | None, run_id: str | None) -> tuple[str | None, str | None]:
    """Which file or folder is meant, and which run there."""
    is_id = named is not None and not Path(named).exists() and run_id is None and os.sep not in named
    return (None, named) if is_id else (named, run_id)


def _chosen(runs: Sequence[NamedRun], named: str | None, run_id: str | None) -> NamedRun:
    return runs[-1] if named is None and run_id is None and runs else choose_run(runs, run_id)
