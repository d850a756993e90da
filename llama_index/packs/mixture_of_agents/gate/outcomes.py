"""What came true of what a gate expected: counts in one small SQLite file that processes may share.

An outcome is kept once for each run and thing: one told later by a better witness takes its place. It holds
names, numbers and ids of runs, and no text of anybody's. What is done with the counts is not known here.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llama_index.packs.mixture_of_agents.databases import Layout, is_busy
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

Source = Literal["agreement", "verifier", "feedback"]
_WITNESSES: tuple[Source, ...] = ("agreement", "verifier", "feedback")
"""The better the later."""
Key = tuple[str, str]
"""What it is about: ("proposer", its name), or ("stage", a group's number in a cascade)."""

MOST_KEPT = 50_000
"""Outcomes; the oldest go first."""
_LAYOUT = Layout(
    application=0x6D6F6732,
    version=1,
    table="CREATE TABLE IF NOT EXISTS outcomes (gate TEXT, run TEXT, kind TEXT, about TEXT, witness INTEGER, "
    "expected REAL, is_right INTEGER, at REAL, PRIMARY KEY (gate, run, kind, about))",
    patience=10.0,
)
QUICKLY = 0.2
"""Seconds that someone waits for another process who would rather do without."""
_ERRORS = (OSError, ValueError, sqlite3.Error)
_KEEP = (
    "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gate, run, kind, about) DO UPDATE SET "
    "witness = excluded.witness, expected = excluded.expected, is_right = excluded.is_right, "
    "at = excluded.at WHERE excluded.witness >= outcomes.witness"
)
_CUT = (
    "DELETE FROM outcomes WHERE rowid IN "
    "(SELECT rowid FROM outcomes ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?)"
)
_TALLY = (
    "SELECT kind, about, SUM(kept(at)), SUM(kept(at) * is_right), SUM(kept(at) * expected) FROM outcomes "
    "WHERE gate = ? GROUP BY kind, about"
)


@dataclass(frozen=True)
class Outcome:
    """One thing that was expected, and what came true.

    Attributes:
        run_id: Of which run.
        key: What it is about.
        expected: The probability the trained gate gave it.
        is_right: What came true.
        source: Who says so.
    """

    run_id: str
    key: Key
    expected: float
    is_right: bool
    source: Source


@dataclass(frozen=True)
class Tally:
    """Outcomes of one thing, added up.

    Attributes:
        count: How many; older ones count less where they decay.
        right: Those that came true.
        expected: How many the gate expected to.
    """

    count: float = 0.0
    right: float = 0.0
    expected: float = 0.0


class OutcomeStore:
    """Keeps outcomes of one gate.

    Args:
        path: The file, made when something is kept; to read it needs no right to write. None keeps them in
            memory.
        gate: A digest of the trained gate: another one's outcomes are not its own.
        half_life: Seconds after which an outcome counts half; None for never.
        clock: Seconds since 1970.

    Raises:
        ConfigurationError: The file cannot be used, or is something else.
    """

    def __init__(
        self,
        path: Path | None,
        gate: str,
        half_life: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path, self._gate, self._half_life, self._clock = path, gate, half_life, clock
        self._lock = threading.Lock()
        self._own = sqlite3.connect(":memory:", check_same_thread=False) if path is None else None
        try:
            if self._own is not None:
                _LAYOUT.prepare(self._own)
            elif path is not None:
                _LAYOUT.check(path, QUICKLY)
        except _ERRORS as error:
            if not is_busy(error):
                raise self._refusal(error) from error

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Add outcomes, all or none of them.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        now = self._clock()
        rows = [
            (self._gate, o.run_id, *o.key, _WITNESSES.index(o.source), o.expected, int(o.is_right), now)
            for o in outcomes
        ]
        with self._writing() as database:
            database.executemany(_KEEP, rows)
            database.execute(_CUT, (MOST_KEPT,))

    def tallies(self, patience: float = _LAYOUT.patience) -> dict[Key, Tally]:
        """What the outcomes come to.

        Args:
            patience: Seconds to wait for another process that is writing.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        try:
            with self._reading(patience) as database:
                if database is None:
                    return {}
                database.create_function("kept", 1, self._kept)
                rows = database.execute(_TALLY, (self._gate,)).fetchall()
        except _ERRORS as error:
            raise ConfigurationError(f"Outcomes in {self.path} cannot be read ({error}).") from error
        return {(kind, about): Tally(*sums) for kind, about, *sums in rows}

    def reset(self) -> int:
        """Forget this gate's outcomes; how many there were.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        if self.path is not None and not self.path.exists():
            return 0
        with self._writing() as database:
            return database.execute("DELETE FROM outcomes WHERE gate = ?", (self._gate,)).rowcount

    def _kept(self, at: float) -> float:
        """What an outcome of that time counts now."""
        if self._half_life is None:
            return 1.0
        return float(0.5 ** (max(0.0, self._clock() - at) / self._half_life))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._transaction() as database:
                yield database
        except _ERRORS as error:
            raise self._refusal(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._own is not None:
            with self._lock, self._own:
                yield self._own
        elif self.path is not None:
            with _LAYOUT.writing(self.path) as database:
                yield database

    @contextmanager
    def _reading(self, patience: float) -> Iterator[sqlite3.Connection | None]:
        if self._own is not None:
            with self._lock:
                yield self._own
        elif self.path is not None:
            with _LAYOUT.reading(self.path, patience) as database:
                yield database

    def _refusal(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"Outcomes cannot be kept in {self.path} ({error}). See that it is a file of this package and "
            "may be written to, or name another."
        )
