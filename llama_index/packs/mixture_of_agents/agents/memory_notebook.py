"""What agents keep between runs: a notebook of facts and preferences in one SQLite file.

Each operation has a connection of its own in WAL mode with a busy timeout, so threads and processes may write
at once. What is forgotten is gone from the file: the full-text index is rebuilt, freed pages are overwritten
(https://www.sqlite.org/pragma.html#pragma_secure_delete), the file is rewritten and the log emptied. Notes
are found by their words (FTS5, ranked by BM25); an embedding model may rank them instead. Models and messages
are not known here.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict

from llama_index.packs.mixture_of_agents.agents import memory_tables as tables
from llama_index.packs.mixture_of_agents.agents.memory_words import Embedder, match_any, nearness, packed
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ToolError

NoteKind: TypeAlias = Literal["fact", "preference"]

LONGEST_NOTE = 2000
MOST_NOTES = 5000
"""Of one agent: a notebook that only grows is no memory."""


class Note(BaseModel):
    """One thing an agent keeps.

    Attributes:
        id: Its number; never given to another note.
        agent: Whose it is.
        kind: A fact, or a preference of the user's.
        text: What it says.
        run_id: The run that wrote it last.
        at: When, in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True)

    id: int
    agent: str
    kind: NoteKind
    text: str
    run_id: str = ""
    at: float = 0.0


class Forgotten(BaseModel):
    """What was forgotten.

    Attributes:
        count: How many notes.
        erased: Whether the file was cleared of their text at once. False while someone else is reading it:
            `erase()` does it later; no one finds the notes in the meantime.
    """

    model_config = ConfigDict(frozen=True)

    count: int
    erased: bool


class Notebook:
    """Notes of many agents in one file.

    Whatever is done with a file that was damaged since it was opened raises a `ToolError`.

    Args:
        path: The file; it is made with its folder, for its owner's eyes only.
        embed_model: Ranks notes by meaning instead of by words; a LlamaIndex embedding model.
        now: A clock, in seconds since 1970.

    Raises:
        ConfigurationError: The file cannot be made, is no notebook, or is one of a later version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        embed_model: Embedder | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path).expanduser()
        self._embedder = embed_model
        self._now = now
        tables.prepare(self.path)

    def remember(self, agent: str, text: str, *, kind: NoteKind = "fact", run_id: str = "") -> Note:
        """Keep something; what the agent knows already is only dated anew.

        Args:
            agent: Whose it is.
            text: One fact or preference.
            kind: Which of the two.
            run_id: The run it comes from.

        Raises:
            ToolError: There is no text, it is too long or of another kind, or the agent's notebook is full.
        """
        text = _kept(text)
        _refuse_other(agent, kind)
        vector = packed(self._embedder.get_text_embedding(text)) if self._embedder else None
        with self._writing() as connection:
            known = connection.execute("SELECT 1 FROM notes WHERE agent = ? AND text = ?", (agent, text))
            if known.fetchone() is None:
                _refuse_full(connection, agent)
            values = (agent, kind, text, run_id, self._now(), vector, self._space if vector else None)
            row = connection.execute(tables.INSERT, values).fetchone()
        return _note(row)

    def recall(self, agent: str, query: str, *, limit: int = 10) -> list[Note]:
        """An agent's notes that have to do with a text, the nearest first.

        Args:
            agent: Whose.
            query: Any text; without an embedding model, notes that share a word with it are found.
            limit: How many at most.
        """
        if self._embedder is not None:
            return self._by_meaning(agent, query, limit)
        words = match_any(query)
        if not words:
            return []
        with self._reading() as connection:
            return [_note(row) for row in connection.execute(tables.RECALL, (words, agent, limit))]

    def inspect(self, agent: str | None = None) -> list[Note]:
        """Every note, of one agent or of all, in the order they were first written."""
        where, values = ("WHERE agent = ?", (agent,)) if agent is not None else ("", ())
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {tables.COLUMNS} FROM notes {where} ORDER BY id", values)
            return [_note(row) for row in rows]

    def agents(self) -> dict[str, int]:
        """Who has notes, and how many."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT agent, count(*) FROM notes GROUP BY agent ORDER BY agent"))

    def forget(self, which: int | str | Iterable[int], *, agent: str | None = None) -> Forgotten:
        """Forget notes for good: from the file, too, and from its index.

        Args:
            which: A note's id, several ids, or words: every note that has all of them.
            agent: Whose; None for anyone's.

        Raises:
            ToolError: It is none of these; nothing is forgotten then.
        """
        with self._writing() as connection:
            count = tables.delete(connection, _chosen(which), agent)
        return Forgotten(count=count, erased=self.erase() if count else True)

    def forget_all(self, agent: str) -> Forgotten:
        """Forget everything an agent keeps."""
        return self.forget([note.id for note in self.inspect(agent)], agent=agent)

    def erase(self) -> bool:
        """Clear the file of what was forgotten; False where someone else held it all the time."""
        with self._reading() as connection:
            return tables.erase(connection)

    @property
    def _space(self) -> str:
        return str(getattr(self._embedder, "model_name", type(self._embedder).__name__))

    def _by_meaning(self, agent: str, query: str, limit: int) -> list[Note]:
        wanted = self._embedder.get_query_embedding(query) if self._embedder else []
        with self._reading() as connection:
            sql = f"SELECT {tables.COLUMNS}, vector, space FROM notes WHERE agent = ?"
            rows = connection.execute(sql, (agent,)).fetchall()
        # Notes that another model placed, or none, come last, the newest first.
        ranked = sorted(
            rows, key=lambda row: (nearness(row[6], wanted) if row[7] == self._space else -2.0, row[0])
        )
        return [_note(row) for row in reversed(ranked[-limit:])] if limit > 0 else []

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(tables.opened(self.path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise ToolError(f"the notebook {self.path.name!r} cannot be used: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, begun as a writer: one that reads first could not be let to write later."""
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()


def _note(row: Sequence[object]) -> Note:
    return Note.model_validate(dict(zip(Note.model_fields, row[: len(Note.model_fields)], strict=True)))


def _kept(text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ToolError(f"a note is a text; found {shown(text)}")
    if len(text) > LONGEST_NOTE:
        raise ToolError(f"a note has at most {LONGEST_NOTE} characters; found {len(text)}. Keep one fact")
    return text.strip().encode("utf-8", errors="replace").decode("utf-8").replace("\0", " ")


def _refuse_other(agent: object, kind: object) -> None:
    """A note that could not be read again would keep all others from being read."""
    if not isinstance(agent, str) or not agent.strip():
        raise ToolError(f"a note is an agent's, by its name; found {shown(agent)}")
    if kind not in get_args(NoteKind):
        raise ToolError(f"a note is a fact or a preference; found {shown(kind)}")


def _refuse_full(connection: sqlite3.Connection, agent: str) -> None:
    (count,) = connection.execute("SELECT count(*) FROM notes WHERE agent = ?", (agent,)).fetchone()
    if count >= MOST_NOTES:
        raise ToolError(f"{agent} has {count} notes already, the most there may be; forget some first")


def _chosen(which: object) -> list[int] | str:
    if isinstance(which, str):
        if not match_any(which):
            raise ToolError("name the notes to forget by id, or by words they have")
        return which
    ids = [which] if isinstance(which, int) else list(which) if isinstance(which, Iterable) else [which]
    if not all(isinstance(one, int) and not isinstance(one, bool) and abs(one) < 2**63 for one in ids):
        raise ToolError(f"notes are forgotten by id or by words; found {shown(which)}")
    return [int(str(one)) for one in ids]
