"""A person at a terminal says yes or no to what agents want to do, or changes their plan.

It knows plans, and neither crews nor their tools.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from llama_index.packs.mixture_of_agents.agents.plans import Plan, faults
from llama_index.packs.mixture_of_agents.app.board import printable
from llama_index.packs.mixture_of_agents.calls.threads import in_thread
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_YES, _NO, _EDIT = ("", "y", "yes"), ("n", "no"), ("e", "edit")


class Asker:
    """Asks whoever sits at the terminal, one question at a time; its methods block the thread they are in.

    Args:
        most: Tasks a plan may have.
        out: Where questions go.
        typed: The next line; None when there are no more.
        edited: A text as someone changed it; None where it stays.
    """

    def __init__(
        self,
        most: int,
        out: TextIO,
        typed: Callable[[], str | None],
        edited: Callable[[str], str | None],
    ) -> None:
        self._most, self._out = most, out
        self._typed, self._edited = typed, edited
        self._lock = threading.Lock()

    def decide(self, plan: Plan, agents: Sequence[str]) -> Plan | bool:
        """The plan to carry out, or False for none.

        Args:
            plan: The one that was made.
            agents: Who can be given tasks.
        """
        with self._lock:
            while True:
                self._say(f"{plan.as_text()}\n")
                said = self._asked("Carry it out? [Y]es, [n]o, [e]dit: ", (*_YES, *_NO, *_EDIT))
                if said in _NO:
                    return False
                if said in _YES:
                    return plan
                plan = self._changed(plan, agents)

    async def allow(self, what: str) -> bool:
        """Whether something may be written."""
        return await in_thread(lambda: self._allowed(what))

    def _allowed(self, what: str) -> bool:
        with self._lock:
            return self._asked(f"Allow {printable(what)}? [Y]es, [n]o: ", (*_YES, *_NO)) in _YES

    def _asked(self, question: str, answers: Sequence[str]) -> str:
        while True:
            self._say(question)
            line = self._typed()
            # Nobody there any more says no.
            said = "n" if line is None else line.strip().lower()
            if said in answers:
                return said

    def _changed(self, plan: Plan, agents: Sequence[str]) -> Plan:
        """The plan as someone changed it, or as it was where that cannot be carried out."""
        text = self._edited(plan.model_dump_json(indent=2, include={"tasks"}))
        if text is None:
            self._say("Not changed: no editor could be used; EDITOR names one.\n")
            return plan
        try:
            changed = plan_in(text, "the edited plan")
        except ConfigurationError as error:
            self._say(f"{printable(str(error))}\n")
            return plan
        wrong = faults(changed, agents, self._most)
        if wrong:
            self._say(f"Not changed: {printable('; '.join(wrong))}\n")
            return plan
        return changed.model_copy(update={"source": "edited"})

    def _say(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def plan_in(text: str, name: str) -> Plan:
    """A plan from its JSON.

    Args:
        text: As `moa crew --plan-only --json` prints it; `tasks` is enough.
        name: What to call it in a message.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        return Plan.model_validate_json(text).model_copy(update={"source": "given", "notes": []})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"{name} is no plan: {f'{place}: ' if place else ''}{first['msg']}. A plan is JSON: "
            '{"tasks": [{"id": "t1", "agent": "...", "instructions": "...", "needs": []}]}.'
        ) from error


def line_from_terminal() -> str | None:
    """The next line of the terminal.

    It reads past Python's own buffer: a thread that is left waiting in there would not let the process end.
    """
    line = os.read(sys.stdin.fileno(), 4096)
    return line.decode(errors="replace") if line else None


def in_editor(text: str) -> str | None:
    """A text as someone left it in their editor; None where that gave no text."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _usual_editor()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run([*shlex.split(named), str(path)], check=False)
            return path.read_text(encoding="utf-8") if ended.returncode == 0 else None
        except (OSError, ValueError):  # no such program, an odd name of one, or no text
            return None


def _usual_editor() -> str:
    return "notepad" if os.name == "nt" else "vi"
