"""A run on disk: what was answered, so that a killed run resumes without asking again.

A policy like any other: it answers from its file before a call and records after it. Every change
replaces the whole file in one rename, so whatever moment the process dies, the file is one state or
the next. A lock beside it keeps a second run out, and dies with the process. It knows nothing of rounds
but their numbers.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path

from pydantic import BaseModel, Field

from llama_index.packs.mixture_of_agents.calls.threads import in_thread
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import CheckpointError, ConfigurationError
from llama_index.packs.mixture_of_agents.facts import MixtureFacts
from llama_index.packs.mixture_of_agents.locks import FileLock, HeldElsewhereError
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Task

_logger = logging.getLogger(__name__)

VERSION = 2

STEPS: Mapping[Task, int] = {"roles": 0, "propose": 1, "condense": 2}
"""The steps of a layer, in order; a finish is one step."""


class Answered(BaseModel):
    """One outcome and its place."""

    layer: int
    index: int
    turn: int = 0
    outcome: Proposal | Missing


class CheckpointFile(BaseModel):
    """What stands in the file.

    Attributes:
        version: Of this layout.
        fingerprint: Of the mixture and the question.
        layer: The furthest layer that was begun; those before it are closed.
        step: The furthest step of that layer (`STEPS`) that was begun; those before it are closed.
        answered: Every outcome so far.
    """

    version: int = VERSION
    fingerprint: str
    layer: int = 1
    step: int = 0
    answered: list[Answered] = Field(default_factory=list)


class Checkpoint:
    """A `CallPolicy` that keeps a run's outcomes in a file, which is its own until it is closed.

    Args:
        path: Where; a file of an earlier, unfinished run is resumed from.
        fingerprint: Of the mixture and the question now asked.
        mixture: Who may stand in the file; None for anyone.

    Raises:
        CheckpointError: The file cannot be read or written, belongs to something else, or is in use.
    """

    def __init__(
        self, path: str | os.PathLike[str], fingerprint: str, mixture: MixtureFacts | None = None
    ) -> None:
        self._path = _place_for(path)
        self._lock = _locked(self._path)
        self._writing = threading.Lock()
        self._closed = False
        self._written: CheckpointFile | None = None
        try:
            self._begin(fingerprint, mixture)
        except BaseException:
            self._lock.release()
            raise

    def _begin(self, fingerprint: str, mixture: MixtureFacts | None) -> None:
        if self._path.exists():
            self._file = self._written = _read(self._path, fingerprint)
            if mixture is not None:
                _check_places(self._path, self._file, mixture)
        else:
            self._file = CheckpointFile(fingerprint=fingerprint)
            self._write()  # what cannot be written is better known before the first paid call
        self._known = {(entry.layer, entry.index, entry.turn): entry.outcome for entry in self._file.answered}

    async def before(self, call: Call) -> Proposal | Missing | None:
        """Answer from the file what it holds; failures only where their step is closed."""
        stage = (call.layer, STEPS.get(call.task, 0))
        if stage > self._furthest:
            await self._open(*stage)
        known = self._known.get(call.place)
        closed = stage < self._furthest
        return known if isinstance(known, Proposal) or closed else None

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """Record an outcome.

        Raises:
            CheckpointError: It cannot be written; the next write brings it along.
        """
        self._known[call.place] = outcome
        answered = [
            Answered(layer=layer, index=index, turn=turn, outcome=known)
            for (layer, index, turn), known in sorted(self._known.items(), key=itemgetter(0))
        ]
        await self._save(self._file.model_copy(update={"answered": answered}))

    def close(self) -> None:
        """Write what is not written yet, and let another run have the file."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            try:
                self._replace()
            except CheckpointError:
                _logger.warning("the end of a run is not in its checkpoint", exc_info=True)
            finally:
                self._lock.release()

    @property
    def _furthest(self) -> tuple[int, int]:
        return self._file.layer, self._file.step

    async def _open(self, layer: int, step: int) -> None:
        try:
            await self._save(self._file.model_copy(update={"layer": layer, "step": step}))
        except CheckpointError:  # no reason to give the call up: the next write brings it along
            _logger.warning("a step's beginning is not in its checkpoint", exc_info=True)

    async def _save(self, file: CheckpointFile) -> None:
        # A new object for each state: a thread may still be writing the one before.
        self._file = file
        await in_thread(self._write)

    def _write(self) -> None:
        with self._writing:
            if not self._closed:  # then the file may be another run's
                self._replace()

    def _replace(self) -> None:
        """Write the newest state, unless another thread just did."""
        file = self._file
        if file is self._written:
            return
        try:
            _replace_file(self._path, json.dumps(file.model_dump(mode="json"), indent=1))
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint {self._path} cannot be written ({error}). Make room and see that its folder "
                "may be written to, or pass another path."
            ) from error
        self._written = file


def checkpoint_path(path: object) -> str | None:
    """Where a caller wants the checkpoint, as text; None for nowhere.

    Raises:
        ConfigurationError: It is no path.
    """
    if path is None:
        return None
    named = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(named, str) or not named.strip():
        raise ConfigurationError(
            "checkpoint must be the path of a file, as text or as a Path, or None for none; found "
            f"{shown(path)}."
        )
    return named


def _place_for(path: str | os.PathLike[str]) -> Path:
    """The file itself, behind any links: they stay, and what they lead to is replaced."""
    try:
        place = Path(path).resolve()
        is_folder, has_folder = place.is_dir(), place.parent.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be a checkpoint ({error}). Pass another path.") from error
    if is_folder:
        raise CheckpointError(
            f"The checkpoint {path} is a folder; pass the path of a file, such as one in it."
        )
    if not has_folder:
        raise CheckpointError(f"The checkpoint's folder {place.parent} does not exist; create it first.")
    return place


def _locked(path: Path) -> FileLock:
    try:
        return FileLock(path.with_name(f"{path.name}.lock"))
    except HeldElsewhereError as error:
        raise CheckpointError(
            f"Another run is using the checkpoint {path}. Wait until it is done, or pass another path."
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be written ({error}). See that its folder may be written to, or "
            "pass another path."
        ) from error


def _replace_file(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".checkpoint-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path, fingerprint: str) -> CheckpointFile:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_layout(path, content)
        file = CheckpointFile.model_validate(content)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read ({error}). See that it may be read, or pass another path."
        ) from error
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({error}). Delete it to start over."
        ) from error
    if file.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path} belongs to another question or another mixture. Ask the same question of the same "
            "mixture to resume, or pass another path."
        )
    return file


def _check_layout(path: Path, content: object) -> None:
    """Refuse another version's file before it passes for a broken one, which may be deleted."""
    layout = content.get("version", VERSION) if isinstance(content, dict) else VERSION
    if isinstance(layout, int) and layout != VERSION:
        raise CheckpointError(
            f"{path} is of checkpoint layout {layout}, and this version of the package knows {VERSION}. "
            "Resume with the version that wrote it, or pass another path."
        )


def _check_places(path: Path, file: CheckpointFile, mixture: MixtureFacts) -> None:
    wrong = next((entry for entry in file.answered if not _has_place(entry, mixture)), None)
    if wrong is not None or not 1 <= file.layer <= mixture.num_layers:
        layer, who = (wrong.layer, wrong.outcome.proposer) if wrong else (file.layer, "a layer")
        raise CheckpointError(
            f"{path} was changed: it holds {who} in layer {layer}, where this mixture has no such place. "
            "Delete it to start over."
        )


def _has_place(entry: Answered, mixture: MixtureFacts) -> bool:
    who, index = entry.outcome.proposer, entry.index
    if entry.outcome.layer != entry.layer or not 1 <= entry.layer <= mixture.num_layers or entry.turn < 0:
        return False
    if entry.layer == mixture.num_layers:  # any model may have stood in for the aggregator
        known = [seat.name for layer in mixture.layers for seat in layer]
        return index >= 0 and who in (*known, mixture.aggregator.name)
    names = [seat.name for seat in mixture.layers[entry.layer - 1]]
    if index == -1:
        return mixture.role_writer is not None and who == mixture.role_writer.name
    if index == len(names):
        return mixture.pass_on == "condensed" and who == mixture.aggregator.name
    return 0 <= index < len(names) and entry.turn == 0 and names[index] == who
