"""What agents of one run share: notes to everyone, and messages to each other, both bounded.

Each run has a board of its own, so concurrent runs do not mix. An agent that has tools gets four more to use
it; any other is given what was written to it. It calls no model.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents.agents.results import Note

MOST_NOTES = 50
"""Notes and messages of one run."""
MOST_OF_ONE = 15
"""Of these, from one sender: two agents cannot talk for ever."""
LONGEST_NOTE = 2_000


class Board:
    """The notes of one run.

    Args:
        names: Everyone who may write and be written to.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._notes: list[Note] = []
        self._read: dict[str, int] = {}
        self._writing = threading.Lock()

    @property
    def notes(self) -> list[Note]:
        """Everything written so far, in order."""
        with self._writing:
            return list(self._notes)

    def write(self, sender: str, text: str, to: str = "") -> str:
        """Write a note; say what became of it.

        Args:
            sender: Who writes.
            text: What; cut where it is too long.
            to: To whom; empty for everyone.
        """
        if to and (to not in self._names or to == sender):
            others = ", ".join(name for name in self._names if name != sender)
            return f"not sent: there is no {to!r} to write to; there are: {others}"
        if not text.strip():
            return "not sent: there is no text"
        with self._writing:
            of_sender = Counter(note.sender for note in self._notes)[sender]
            if len(self._notes) >= MOST_NOTES or of_sender >= MOST_OF_ONE:
                return f"not sent: {of_sender} notes of yours are enough; do your task"
            self._notes.append(Note(sender=sender, to=to, text=text[:LONGEST_NOTE]))
        return f"sent to {to}" if to else "noted for everyone"

    def unread(self, reader: str) -> list[Note]:
        """What was written to everyone or to this reader since it last looked, its own left out."""
        with self._writing:
            news = self._notes[self._read.get(reader, 0) :]
            self._read[reader] = len(self._notes)
        return [note for note in news if note.sender != reader and note.to in ("", reader)]

    def tools_for(self, name: str) -> list[FunctionTool]:
        """Tools with which an agent writes and reads under its own name."""

        async def send_message(to: str, text: str) -> str:
            """Send a short message to one other specialist, by its name."""
            return self.write(name, text, to)

        async def share_note(text: str) -> str:
            """Write a short note that every other specialist can read."""
            return self.write(name, text)

        async def read_messages() -> str:
            """Read what other specialists wrote to you or to everyone since you last looked."""
            return told(self.unread(name)) or "nothing new"

        return [FunctionTool.from_defaults(async_fn=one) for one in (send_message, share_note, read_messages)]


BOARD_TOOLS = ("send_message", "share_note", "read_messages")
"""Names of the tools that each agent has of a board."""


def told(notes: Sequence[Note]) -> str:
    """Notes as text, one a line."""
    return "\n".join(
        f"{note.sender} to {note.to or 'everyone'}: {' '.join(note.text.split())}" for note in notes
    )
