"""A SQLite file of this package, that several processes may share: made, marked as ours, opened for each use.

It knows no tables but by the statement that makes them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """What such a file holds.

    Attributes:
        application: Marks the file as ours, so that no one else's database is written to.
        version: Of the tables.
        table: The statement that makes the table where there is none.
        patience: Seconds to wait for another process that is writing.
    """

    application: int
    version: int
    table: str
    patience: float

    def make(self, path: Path) -> None:
        """Make the file where there is none, for its owner alone to read, and prepare it.

        Raises:
            OSError: It cannot be made.
            ValueError: It is another program's, or of a newer version.
            sqlite3.Error: It is no database, or cannot be written.
        """
        with self.writing(path):
            pass

    def check(self, path: Path, patience: float) -> None:
        """Refuse what cannot be such a file; one that is not there yet can. Nothing is written.

        Raises:
            OSError, ValueError, sqlite3.Error: It cannot.
        """
        with self.reading(path, patience):
            pass
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(f"{nearest} is no folder")

    @contextmanager
    def writing(self, path: Path) -> Iterator[sqlite3.Connection]:
        """A transaction on the file, which is made where there is none; the errors are `make`'s."""
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(path, timeout=self.patience)) as database, database:
            self._begin(database)
            yield database

    @contextmanager
    def reading(self, path: Path, patience: float) -> Iterator[sqlite3.Connection | None]:
        """A connection that needs no right to write; None where nothing was kept yet.

        Raises:
            OSError: The file cannot be looked at.
            ValueError: It is another program's, or of a newer version.
            sqlite3.Error: It is no database, or someone writes for longer than `patience`.
        """
        if not path.exists():
            yield None
            return
        # "rw" makes no file, and falls back on reading; "ro" could not clear what a killed writer left.
        named = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(named, timeout=patience, uri=True)) as database:
            yield database if self._has_tables(database) else None

    def prepare(self, database: sqlite3.Connection) -> None:
        """Make the table and mark the database as ours.

        Raises:
            ValueError: It is another program's, or of a newer version.
        """
        with database:
            self._begin(database)

    def _begin(self, database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")  # several processes may make the same file
        if not self._has_tables(database):
            database.execute(f"PRAGMA application_id = {self.application}")
            database.execute(f"PRAGMA user_version = {self.version}")
        database.execute(self.table)

    def _has_tables(self, database: sqlite3.Connection) -> bool:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == self.application and version > self.version:
            raise ValueError(f"its layout is {version}, and this version knows up to {self.version}")
        if application != self.application and (tables or application):
            raise ValueError("it is another program's database")
        return bool(tables)


def is_busy(error: Exception) -> bool:
    """Whether it says that someone else is writing: the file may be good, and be free in a moment."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
