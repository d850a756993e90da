"""A run on disk: what was answered, so that a killed run resumes without asking again.

A policy like any other: it answers from its file before a call and records after it. Every change
replaces the whole file in one rename, so whatever moment the process dies, the file is one state or
the next. It knows nothing of rounds but their numbers.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from llama_index.packs.mixture_of_agents.errors import CheckpointError
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, Proposal

VERSION = 1


class Answered(BaseModel):
    """One outcome and its place."""

    layer: int
    index: int
    outcome: Proposal | Missing


class CheckpointFile(BaseModel):
    """What stands in the file.

    Attributes:
        version: Of this layout.
        fingerprint: Of the mixture and the question.
        layer: The furthest layer that was begun; those before it are closed.
        answered: Every outcome so far.
    """

    version: int = VERSION
    fingerprint: str
    layer: int = 1
    answered: list[Answered] = Field(default_factory=list)


class Checkpoint:
    """A `CallPolicy` that keeps a run's outcomes in a file.

    Args:
        path: Where; a file of an earlier, unfinished run is resumed from.
        fingerprint: Of the mixture and the question now asked.

    Raises:
        CheckpointError: The file cannot be read, or belongs to something else.
    """

    def __init__(self, path: str | Path, fingerprint: str) -> None:
        self._path = Path(path)
        self._file = _read(self._path, fingerprint)
        self._known = {(entry.layer, entry.index): entry.outcome for entry in self._file.answered}

    async def before(self, call: Call) -> Proposal | Missing | None:
        """Answer from the file what it holds; failures only where their layer is closed."""
        if call.layer > self._file.layer:
            self._file.layer = call.layer
            self._write()
        known = self._known.get((call.layer, call.index))
        closed = call.layer < self._file.layer
        return known if isinstance(known, Proposal) or closed else None

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """Record an outcome."""
        self._known[(call.layer, call.index)] = outcome
        self._file.answered = [
            Answered(layer=layer, index=index, outcome=known)
            for (layer, index), known in sorted(self._known.items())
        ]
        self._write()

    def _write(self) -> None:
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self._file.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _read(path: Path, fingerprint: str) -> CheckpointFile:
    if not path.parent.is_dir():
        raise CheckpointError(f"The checkpoint's folder {path.parent} does not exist; create it first.")
    if not path.exists():
        return CheckpointFile(fingerprint=fingerprint)
    try:
        file = CheckpointFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({error}). Delete it to start over."
        ) from error
    if file.version != VERSION or file.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path} belongs to another question or another mixture. Ask the same question of the same "
            "mixture to resume, or pass another path."
        )
    return file
