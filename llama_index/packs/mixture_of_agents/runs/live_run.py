"""The live side of a run: what only exists while the process does.

The clock, rounds in progress, errors with their tracebacks, policies. Steps find it through a context
variable that every task of the run inherits, so concurrent runs never meet. What a run has come to is data,
and in `states`. It knows no prompts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureTimeoutError
from llama_index.packs.mixture_of_agents.policies import RunWatch
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.results import (
    CallUsage,
    Missing,
    MixtureResponse,
    Proposal,
    Task,
    Usage,
)
from llama_index.packs.mixture_of_agents.runs.mixture import Mixture
from llama_index.packs.mixture_of_agents.runs.rounds import Round
from llama_index.packs.mixture_of_agents.runs.states import MixtureState
from llama_index.packs.mixture_of_agents.seats.placing import Outcome, Placing

T = TypeVar("T")
_logger = logging.getLogger(__name__)

Place = tuple[int, int, int]
"""A call's layer, index and turn."""


class Asked(NamedTuple):
    """Who was called, and what for."""

    proposer: str
    task: Task


@dataclass
class LiveRun:
    """The live side of one run.

    Attributes:
        mixture: Who is asked.
        placing: What placing a call takes.
        run_id: The run's identity.
        started: When it began, in the placing's clock.
        aggregator_options: Keyword arguments for the aggregator's call alone (tools).
        streams: Whether the synthesis is streamed.
        asked: Who was called so far.
        outcomes: What became of them, of open rounds too.
        watches: Who is told what goes on.
        streamed: What has been streamed of the answer.
        state: What the run has come to, as of its last step.
        deadline: The timer of the run's `timeout`.
        watch: The task that ends this when the run does.
        closing: Called once the run is over, to let go of what it held.
    """

    mixture: Mixture
    placing: Placing
    run_id: str
    started: float
    aggregator_options: dict[str, Any] = field(default_factory=dict)
    streams: bool = True
    asked: dict[Place, Asked] = field(default_factory=dict)
    outcomes: dict[Place, Outcome] = field(default_factory=dict)
    watches: Sequence[RunWatch] = ()
    streamed: str = ""
    state: MixtureState = field(default_factory=MixtureState)
    deadline: asyncio.TimerHandle | None = None
    watch: asyncio.Task[None] | None = None
    closing: list[Callable[[], None]] = field(default_factory=list)
    _rounds: dict[int, Round] = field(default_factory=dict)
    _working: set[asyncio.Task[Any]] = field(default_factory=set)
    _material: dict[tuple[int, int], tuple[list[str], list[str]]] = field(default_factory=dict)
    _has_ended: bool = False

    def round(self, layer: int) -> Round:
        """The round in progress at that layer, opened on first use."""
        if layer not in self._rounds:
            self._rounds[layer] = Round(self.mixture.limits)
        return self._rounds[layer]

    def material(self, state: MixtureState) -> tuple[list[str], list[str]]:
        """What the next calls see of the round before, stripped, and who it lacks.

        Put together once for all proposers of a layer.
        """
        known = (len(state.proposals), len(state.condensed))  # grow with every round that has any
        if known not in self._material:
            proposals, missing = state.passed_on()
            texts = [as_reference(proposal.text) for proposal in proposals]
            self._material[known] = (texts, [gone.proposer for gone in missing])
        return self._material[known]

    def open_round(self, layer: int) -> None:
        """A stage of that layer begins; the one before, if there was one, is closed."""
        self._rounds.pop(layer, None)

    def end_round(self, layer: int) -> None:
        """Everyone of that layer is in."""
        self.round(layer).end()

    def end(self) -> None:
        """The run is over, however it ended: forget its timers, and cancel what is still under way."""
        if self.deadline is not None:
            self.deadline.cancel()
        for opened in self._rounds.values():
            opened.end()
        for task in self._working:
            task.cancel()
        self.ended(asyncio.CancelledError("the run was cancelled"))
        self.close()

    def give_up(self, error: BaseException) -> None:
        """The run never began: whoever watches is told, and nothing is held any more."""
        self.ended(error)
        self.close()

    def watch_all(self, tell: Callable[[RunWatch], None]) -> None:
        """Tell everyone who watches; one that fails costs no answer."""
        for watch in self.watches:
            try:
                tell(watch)
            except Exception:
                _logger.warning("%s failed while watching a run", type(watch).__name__, exc_info=True)

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """The run is over: whoever watches is told once, of the first end it came to."""
        if not self._has_ended:
            self._has_ended = True
            self.watch_all(lambda watch: watch.ended(outcome))

    def close(self) -> None:
        """Let go of what the run held; the next one may want it as soon as this one has its answer."""
        for close in self.closing:
            close()

    @contextmanager
    def work(self) -> Iterator[None]:
        """The current task works for this run, and has no reason to outlive it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("Only a task can work for a run.")
        self._working.add(task)
        try:
            yield
        finally:
            self._working.discard(task)

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.placing.clock() - self.started

    def timeout_error(self) -> MixtureTimeoutError:
        """What is raised when the run's `timeout` has passed."""
        return MixtureTimeoutError(
            f"The mixture had no answer after its timeout of {self.mixture.timeout:g} s. Raise `timeout`, or "
            "set `quorum` or `layer_timeout` so that slow proposers are not waited for. What was there is in "
            "`.partial`.",
            partial=self.partial(),
        )

    def errors(self) -> list[BaseException]:
        """What calls raised, in the order of their places."""
        found = (self.outcomes[place].error for place in sorted(self.outcomes))
        return [error for error in found if error is not None]

    def calls(self) -> list[CallUsage]:
        """What each call used, by place."""
        placed = [self.outcomes[place] for place in sorted(self.outcomes)]
        return [
            CallUsage(proposer=o.call.proposer, layer=o.call.layer, task=o.call.task, usage=o.usage)
            for o in placed
        ]

    def other_usage(self) -> list[Usage]:
        """What calls used whose answers the state does not hold: those that failed, and the finish's."""
        held = ("propose", "roles", "condense")
        return [
            outcome.usage
            for outcome in self.outcomes.values()
            if isinstance(outcome.record, Missing) or outcome.call.task not in held
        ]

    def partial(self) -> MixtureResponse:
        """What there is so far: proposals of open rounds too, and the answer as far as it streamed.

        Whoever was asked and has not answered is missing.
        """
        records = [(self.asked[place].task, self._record(place)) for place in sorted(self.asked)]
        return MixtureResponse(
            text=self.streamed,
            proposals=[r for task, r in records if isinstance(r, Proposal) and task == "propose"],
            missing=[record for _, record in records if isinstance(record, Missing)],
            usage=Usage.total(
                self.outcomes[place].usage if place in self.outcomes else Usage() for place in self.asked
            ),
            calls=self.calls(),
            latency_seconds=self.elapsed(),
            run_id=self.run_id,
            finish=self.mixture.finish.name,
            roles=self.state.roles,
            condensed=self.state.condensed,
            stopped_after=self.state.stopped_after,
            routed=self.state.routed,
        )

    def _record(self, place: Place) -> Proposal | Missing:
        if place in self.outcomes:
            return self.outcomes[place].record
        reason = "had not answered when the run's timeout passed"
        asked = self.asked[place]
        return Missing(proposer=asked.proposer, layer=place[0], reason=reason)


_current: ContextVar[LiveRun] = ContextVar("mixture_of_agents_run")


def current_run() -> LiveRun:
    """The run this step belongs to."""
    return _current.get()


def begun_in(run: LiveRun, begin: Callable[[], T]) -> T:
    """Begin work whose tasks all find `run` as their current run."""
    token = _current.set(run)
    try:
        return begin()
    finally:
        _current.reset(token)


def conversation(query_str: str | None, messages: Sequence[ChatMessage] | None) -> list[ChatMessage]:
    """The question as messages.

    Raises:
        ConfigurationError: Both or neither were given, or there is nothing in them.
    """
    if (query_str is None) == (messages is None):
        raise ConfigurationError("Pass a question as query_str, or a conversation as messages: exactly one.")
    if query_str is not None:
        messages = [ChatMessage(role=MessageRole.USER, content=query_str)]
    if not messages or not any(_says_something(message) for message in messages):
        raise ConfigurationError(
            "The question is empty; pass at least one message with text or an attachment."
        )
    return list(messages)


def _says_something(message: ChatMessage) -> bool:
    return bool((message.content or "").strip()) or any(b.block_type != "text" for b in message.blocks)
