"""The file behind a notebook: its tables, how it is opened, and how it is cleared of what was deleted.

Knows SQLite; what the notes say and who writes them is not known here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from llama_index.packs.mixture_of_agents.agents.memory_words import match_all
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

VERSION = 1
SECONDS_TO_WAIT = 30.0
"""For someone else who is writing, before it is an error."""
_SECONDS_TO_ERASE = 5.0

COLUMNS = "id, agent, kind, text, run_id, at"
INSERT = (
    f"INSERT INTO notes (agent, kind, text, run_id, at, vector, space) VALUES (?, ?, ?, ?, ?, ?, ?) "
    f"ON CONFLICT (agent, text) DO UPDATE SET kind = excluded.kind, run_id = excluded.run_id, "
    f"at = excluded.at, vector = excluded.vector, space = excluded.space RETURNING {COLUMNS}"
)
RECALL = (
    f"SELECT {', '.join(f'notes.{name.strip()}' for name in COLUMNS.split(','))} "
    "FROM words JOIN notes ON notes.id = words.rowid "
    "WHERE words MATCH ? AND notes.agent = ? ORDER BY bm25(words), notes.id DESC LIMIT ?"
)
_SCHEMA = (
    # AUTOINCREMENT: the number of a forgotten note is not given to another.
    "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, agent TEXT NOT NULL, kind TEXT NOT NULL, "
    "text TEXT NOT NULL, run_id TEXT NOT NULL, at REAL NOT NULL, vector BLOB, space TEXT, "
    "UNIQUE (agent, text))",
    "CREATE VIRTUAL TABLE words USING fts5(text, content='notes', content_rowid='id', "
    "tokenize='porter unicode61')",
    "CREATE TRIGGER note_written AFTER INSERT ON notes BEGIN "
    "INSERT INTO words (rowid, text) VALUES (new.id, new.text); END",
    "CREATE TRIGGER note_deleted AFTER DELETE ON notes BEGIN "
    "INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text); END",
    f"PRAGMA user_version = {VERSION}",
)


def prepare(path: Path) -> None:
    """Make the file where there is none, and its tables where they are not; refuse another kind of file.

    Raises:
        ConfigurationError: It cannot be made, is something else, or of a later version.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(opened(path)) as connection:
            _make_tables(connection, path)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{str(path)!r} is no notebook of agents: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"the notebook {str(path)!r} cannot be made: {error}") from error


def opened(path: Path) -> sqlite3.Connection:
    """A connection that waits for others; transactions are begun by hand.

    Raises:
        sqlite3.Error: The file is no database, or was held for longer than one waits.
    """
    retrying = Retrying(
        retry=retry_if_exception(_is_busy),
        stop=stop_after_delay(SECONDS_TO_WAIT),
        wait=wait_random(0, 0.05),
        reraise=True,
    )
    return retrying(_opened, path)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=SECONDS_TO_WAIT, isolation_level=None)
    try:
        # Changing to WAL may fail at once where two do it together, whatever the timeout: it is tried again.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection
    except BaseException:
        connection.close()
        raise


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error))


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not version and not count:
        for statement in _SCHEMA:
            connection.execute(statement)
    connection.commit()
    if version > VERSION:
        raise ConfigurationError(
            f"{str(path)!r} is a notebook of version {version}; this package reads up to {VERSION}: update it"
        )
    if not version and count:
        raise ConfigurationError(f"{str(path)!r} is a database of something else; give another path")


def delete(connection: sqlite3.Connection, which: Sequence[int] | str, agent: str | None) -> int:
    """Delete notes by id, or by words they all have; inside a transaction of the caller's.

    Args:
        connection: Of the file.
        which: Ids or words.
        agent: Whose; None for anyone's.

    Returns:
        How many there were.
    """
    if isinstance(which, str):
        sql = "SELECT rowid FROM words WHERE words MATCH ?"
        which = [row[0] for row in connection.execute(sql, (match_all(which),))]
    whose, values = ("AND agent = ?", (agent,)) if agent is not None else ("", ())
    sql = f"DELETE FROM notes WHERE id = ? {whose}"
    return sum(connection.execute(sql, (one, *values)).rowcount for one in dict.fromkeys(which))


def erase(connection: sqlite3.Connection) -> bool:
    """Leave nothing of deleted notes in the file or its log.

    A deletion leaves the words in older segments of the full-text index, the rows in the log, and what a page
    held before it was rearranged: the index is rebuilt, the file written anew, the log cut to nothing.

    Returns:
        False where someone else held the file all the time.
    """
    try:
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * _SECONDS_TO_ERASE)}")
        connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
        connection.execute("VACUUM")
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            raise
        return False
    return not busy
