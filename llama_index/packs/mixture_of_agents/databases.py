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
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with self.opened(path) as database:
            self.prepare(database)

    @contextmanager
    def opened(self, path: Path) -> Iterator[sqlite3.Connection]:
        """A connection for one use: it belongs to one thread, and may not go through a fork."""
        with closing(sqlite3.connect(path, timeout=self.patience)) as database:
            yield database

    def prepare(self, database: sqlite3.Connection) -> None:
        """Make the table and mark the database as ours.

        Raises:
            ValueError: It is another program's, or of a newer version.
        """
        with database:
            database.execute("BEGIN IMMEDIATE")  # several processes may make the same file
            (application,) = database.execute("PRAGMA application_id").fetchone()
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application == self.application and version > self.version:
                raise ValueError(f"its layout is {version}, and this version knows up to {self.version}")
            if application != self.application and (tables or application):
                raise ValueError("it is another program's database")
            database.execute(self.table)
            database.execute(f"PRAGMA application_id = {self.application}")
            database.execute(f"PRAGMA user_version = {self.version}")
