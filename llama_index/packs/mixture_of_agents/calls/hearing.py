"""What an agent does while it runs: the tools it calls, what they bring, what it says in between.

An agent's events are read by their attributes, so that LlamaIndex's agents and look-alikes are understood
and none is imported. What was heard is kept as JSON of bounded length, and told at once to whoever listens:
the listener stands in a context variable, because the one who places a call knows no agent. It neither runs
agents nor knows why they run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.reports import usage_in
from llama_index.packs.mixture_of_agents.results import Usage

_logger = logging.getLogger(__name__)

LONGEST_OUTPUT = 4_000
"""Characters of a tool's output that are kept."""
LONGEST_ARGUMENT = 1_000
MOST_USES = 50
"""Tool calls of one run that are kept; the others are counted."""


@dataclass(frozen=True)
class Moment:
    """One thing an agent did.

    Attributes:
        kind: It "acts" (calls a tool), "observes" (has the tool's answer), "reasons" (says something), or
            "spends" (its model has answered).
        tool: The tool's name.
        arguments: What it was called with, as JSON of bounded length.
        text: The tool's answer, or a piece of what the agent says; of bounded length.
        is_error: The tool failed.
        usage: What that answer of its model took.
    """

    kind: Literal["acts", "observes", "reasons", "spends"]
    tool: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    is_error: bool = False
    usage: Usage = field(default_factory=Usage)


Listener = Callable[[Moment], None]

_listener: ContextVar[Listener | None] = ContextVar("mixture_of_agents_listener", default=None)


def listen(listener: Listener | None) -> None:
    """From now on this listener, in place of any other, is told of agents that run in this context."""
    _listener.set(listener)


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[None]:
    """Agents that run within the block are told of to this listener alone."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Hearing:
    """What was heard of one run of an agent."""

    def __init__(self) -> None:
        self._uses: list[dict[str, Any]] = []
        self._left_out = 0
        self._streamed = False
        self._usages: list[Usage] = []
        self._tell = _listener.get()

    def hear(self, event: Any) -> None:
        """Take in one event of the agent's stream."""
        for moment in (self._moment(event), _spending(event)):
            if moment is not None:
                self._take(moment)

    def _take(self, moment: Moment) -> None:
        if moment.kind == "observes":
            self._keep(moment)
        elif moment.kind == "spends":
            self._usages.append(moment.usage)
        if self._tell is not None:
            try:
                self._tell(moment)
            except Exception:
                _logger.warning("a listener failed on what an agent did", exc_info=True)

    @property
    def usage(self) -> Usage:
        """What its model's answers took; unknown where it told of none, or one of them did not say."""
        return Usage.total(self._usages)

    def details(self) -> dict[str, Any]:
        """The tool calls and what they brought, for a proposal's details; empty where there were none."""
        if not self._uses:
            return {}
        more = {"tool_calls_left_out": self._left_out} if self._left_out else {}
        return {"tool_calls": list(self._uses), **more}

    def _keep(self, moment: Moment) -> None:
        if len(self._uses) >= MOST_USES:
            self._left_out += 1
            return
        use = {"tool": moment.tool, "arguments": dict(moment.arguments)}
        self._uses.append({**use, "output": moment.text, "is_error": moment.is_error})

    def _moment(self, event: Any) -> Moment | None:
        tool, output = _of(event, "tool_name"), _of(event, "tool_output")
        if isinstance(tool, str):
            arguments = plain_arguments(_of(event, "tool_kwargs"))
            if output is None:
                return Moment("acts", tool, arguments)
            said = cut(str(_of(output, "content") or ""), LONGEST_OUTPUT)
            return Moment("observes", tool, arguments, said, bool(_of(output, "is_error")))
        return self._reasoning(event)

    def _reasoning(self, event: Any) -> Moment | None:
        delta = _of(event, "delta")
        if isinstance(delta, str):
            self._streamed = True
            return Moment("reasons", text=delta) if delta else None
        # A whole thought: news only where it did not come in pieces before.
        said = _of(_of(event, "response"), "content")
        streamed, self._streamed = self._streamed, False
        if streamed or not isinstance(said, str) or not said.strip():
            return None
        return Moment("reasons", text=cut(said, LONGEST_OUTPUT))


def _spending(event: Any) -> Moment | None:
    """Each answer of an agent's model is told of once, as a message with what the provider said of it."""
    is_answer = hasattr(event, "raw") and isinstance(_of(event, "response"), ChatMessage)
    return Moment("spends", usage=usage_in(event.raw, {})) if is_answer else None


def plain_arguments(arguments: Any) -> dict[str, Any]:
    """A tool's arguments as JSON, long texts cut."""
    if not isinstance(arguments, Mapping):
        return {} if arguments is None else {"input": cut(str(arguments), LONGEST_ARGUMENT)}
    return {str(name): _plain(value) for name, value in list(arguments.items())[:MOST_USES]}


def cut(text: str, limit: int) -> str:
    """At most so many characters, with a note of how many there were."""
    return text if len(text) <= limit else f"{text[:limit]}... (cut: {len(text)} characters)"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return cut(value, LONGEST_ARGUMENT)
    try:
        written = json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        written = f"({type(value).__name__})"
    return json.loads(written) if len(written) <= LONGEST_ARGUMENT else cut(written, LONGEST_ARGUMENT)


def _of(holder: Any, name: str) -> Any:
    return getattr(holder, name, None)
