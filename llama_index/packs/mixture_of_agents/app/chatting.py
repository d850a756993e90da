"""A chat: lines come in, answers and what lies behind them go out, until someone leaves.

A turn that fails, or is cancelled, is over; the chat is not. It knows the pack and the conversation, and
leaves the picture of a run to its view.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from llama_index.packs.mixture_of_agents.app.board import degraded_note, printable
from llama_index.packs.mixture_of_agents.app.choosing import view_for
from llama_index.packs.mixture_of_agents.app.conversing import (
    Conversation,
    command_in,
    missing_of,
    proposals_of,
    usage_of,
)
from llama_index.packs.mixture_of_agents.app.ordering import Order, pack_for
from llama_index.packs.mixture_of_agents.app.statuses import FAILED, note
from llama_index.packs.mixture_of_agents.app.watching import Listener, watch
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.results import MixtureResponse

_PROMPT = "> "
_HELP = """\
/proposals [N]  what lies behind the answer: who proposed what, in all rounds or in one
/usage          tokens and US dollars, of the last answer and of all
/missing        who is missing from the answer, and why
/save FILE      the conversation and everything behind it, as JSON
/reset          begin anew
/help           this
/quit           leave; Ctrl-D does the same, Ctrl-C cancels an answer"""
_GREETING = "Ask. /help lists what else there is; Ctrl-C cancels an answer, Ctrl-D leaves.\n"


def chat(order: Order) -> int:
    """Talk until the other side leaves; the exit status comes back.

    Raises:
        ConfigurationError: The mixture cannot work.
    """
    listener = Listener()
    view = view_for(progress=order.progress)
    try:
        pack = pack_for(order, view, [listener])
    finally:
        view.close()
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    talk = Chat(pack, listener, sys.stdout, order.progress)
    if is_terminal:
        _edit_lines()
        sys.stdout.write(_GREETING)
    talk.go_on(_typed if is_terminal else _piped, is_typed=is_terminal)
    return FAILED if talk.failures and not is_terminal else 0


class Chat:
    """One chat.

    Args:
        pack: Who answers; the listener is among its policies.
        listener: What the pack's calls are told to.
        out: Where answers go.
        progress: Show runs; None leaves it to the terminals.

    Attributes:
        failures: Turns without an answer.
    """

    def __init__(
        self, pack: MixtureOfAgentsPack, listener: Listener, out: TextIO, progress: bool | None = None
    ) -> None:
        self._pack, self._listener, self._out, self._progress = pack, listener, out, progress
        self._conversation = Conversation()
        self._saved: set[Path] = set()
        self._commands: dict[str, Callable[[str], str]] = {
            "proposals": self._proposals,
            "usage": lambda _: usage_of([response for _, response in self._conversation.turns]),
            "missing": lambda _: self._of_last(missing_of),
            "save": self._save,
            "reset": self._reset,
            "help": lambda _: _HELP,
        }
        self.failures = 0

    def go_on(self, line: Callable[[], str | None], *, is_typed: bool = False) -> None:
        """Take lines until there are no more, or someone leaves.

        Args:
            line: The next line; None at the end.
            is_typed: Someone types them, so an interruption between two answers throws a line away.
        """
        while True:
            try:
                said = line()
            except KeyboardInterrupt:
                if not is_typed:
                    raise
                self._say("\n(Ctrl-D or /quit leaves)")
                continue
            if said is None or (command_in(said) or ("", ""))[0] in ("quit", "exit"):
                return
            if said.strip():
                self._take(said)

    def _take(self, line: str) -> None:
        command = command_in(line)
        if command is None:
            self._ask(line)
        elif command[0] in self._commands:
            self._say(self._commands[command[0]](command[1]))
        else:
            near = get_close_matches(command[0], self._commands, n=1)
            hint = f" Did you mean /{near[0]}?" if near else ""
            self._say(f"There is no /{command[0]}.{hint} /help lists what there is.")

    def _ask(self, question: str) -> None:
        view = view_for(progress=self._progress)
        self._listener.calls = 0
        try:
            messages = self._conversation.asking(question)
            response, took = watch(self._pack, messages, view, self._listener)
            if not view.shows_answer:
                self._say(printable(response.text) if self._out.isatty() else response.text)
            view.finish(response.text, took)
        except (MixtureError, KeyboardInterrupt) as error:
            view.close()
            self.failures += 1
            note("cancelled" if isinstance(error, KeyboardInterrupt) else str(error))
            return
        finally:
            view.close()
        self._conversation.add(question, response)
        if response.degraded:
            note(degraded_note(response.missing))

    def _of_last(self, tell: Callable[[MixtureResponse], str]) -> str:
        last = self._conversation.last
        return "Nothing was asked yet." if last is None else tell(last)

    def _proposals(self, rest: str) -> str:
        if rest and not rest.isdecimal():
            return f"/proposals takes the number of a round; found {printable(rest)}."
        layer = int(rest) if rest else None
        return self._of_last(lambda response: proposals_of(response, layer))

    def _reset(self, _: str) -> str:
        self._conversation.reset()
        return "Forgotten; this is a new conversation."

    def _save(self, rest: str) -> str:
        if not rest:
            return "Say where: /save FILE."
        path = Path(rest).expanduser()
        try:
            # Only what this chat wrote is written over.
            with path.open("w" if path.resolve() in self._saved else "x", encoding="utf-8") as file:
                file.write(self._conversation.saved())
        except FileExistsError:
            return f"{path} exists; name another file."
        except (OSError, ValueError) as error:
            return f"{path} cannot be written ({error}); name another file."
        self._saved.add(path.resolve())
        return f"Saved to {path}."

    def _say(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


def _edit_lines() -> None:
    """Have `input` edit lines with the arrow keys, and remember them; importing is all it takes."""
    if find_spec("readline") is not None:  # Windows has none
        import_module("readline")


def _typed() -> str | None:
    """A line that someone types; None when they leave."""
    try:
        return input(_PROMPT)
    except EOFError:
        sys.stdout.write("\n")
        return None
    except UnicodeDecodeError as error:
        note(f"that line is not text ({error})")
        return ""


def _piped() -> str | None:
    """A line of standard input; None when there are no more."""
    try:
        line = sys.stdin.readline()
        return line.rstrip("\r\n") if line else None
    except UnicodeDecodeError as error:
        note(f"standard input is not text ({error}); pipe text in")
        return None
