"""What agents keep between runs, for a person to look at and to have forgotten. It asks no model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from llama_index.packs.mixture_of_agents.agents.memory_notebook import Note, Notebook
from llama_index.packs.mixture_of_agents.app.asking import document
from llama_index.packs.mixture_of_agents.app.board import count, printable
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError


def list_agents(path: Path) -> None:
    """Print who has notes, and how many.

    Raises:
        ConfigurationError: There is no notebook.
    """
    agents = _notebook(path).agents()
    if not agents:
        note("nothing is kept yet")
    for agent, notes in agents.items():
        _say(f"{printable(agent)}\t{count(notes, 'note')}")


def show(path: Path, agent: str | None, as_json: bool) -> None:
    """Print notes, of one agent or of all.

    Raises:
        ConfigurationError: There is no notebook.
    """
    notes = _notebook(path).inspect(agent)
    if as_json:
        _say(document([one.model_dump() for one in notes]))
        return
    if not notes:
        note("nothing is kept yet")
    for one in notes:
        _say(_line(one))


def forget(path: Path, which: Sequence[str], agent: str | None) -> None:
    """Forget notes for good, and print how many.

    Args:
        path: The notebook.
        which: Numbers of notes; or words that a note must have, all of them.
        agent: Whose; None for anyone's.

    Raises:
        ConfigurationError: There is no notebook, or it is not said what to forget.
    """
    notebook = _notebook(path)
    numbers = [int(word) for word in which if word.isdecimal()]
    try:
        forgotten = notebook.forget(numbers if len(numbers) == len(which) else " ".join(which), agent=agent)
    except ToolError as error:
        raise ConfigurationError(f"{error}.") from error
    later = "" if forgotten.erased else "; someone reads the file: run it again to clear it of them"
    _say(f"forgot {count(forgotten.count, 'note')}{later}")


def _notebook(path: Path) -> Notebook:
    if not path.expanduser().is_file():
        raise ConfigurationError(f"there is no notebook {path}; moa crew --memory {path} makes one.")
    return Notebook(path)


def _line(one: Note) -> str:
    day = datetime.fromtimestamp(one.at, timezone.utc).date().isoformat()
    text = " ".join(printable(one.text).split())
    return f"{one.id}\t{printable(one.agent)}\t{one.kind}\t{day}\t{text}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
