"""What a run says while it goes on, as events on its stream.

It says nothing, at no cost, when nobody listens. It does not know who does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from workflows.events import Event

from llama_index.packs.mixture_of_agents.calls.hearing import Listener, Moment, listen
from llama_index.packs.mixture_of_agents.calls.retries import describe, status_of
from llama_index.packs.mixture_of_agents.events import DeltaEvent, ProgressEvent
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Routing


class Progress:
    """A run's voice.

    Args:
        write: Writes an event to the stream; None when nobody listens.
    """

    def __init__(self, write: Callable[[Event], None] | None) -> None:
        self._write = write

    def round(self, layer: int) -> None:
        """A round of proposers opens."""
        if self._write is not None:
            self._write(ProgressEvent(kind="round", layer=layer))

    def agreed(self, layer: int, reason: str) -> None:
        """The proposals of a round agree, so the remaining ones are skipped."""
        if self._write is not None:
            self._write(ProgressEvent(kind="agreed", layer=layer, reason=reason))

    def routed(self, routing: Routing) -> None:
        """The gate says whom to ask, or that it is enough."""
        if self._write is not None:
            self._write(
                ProgressEvent(
                    kind="routed",
                    layer=routing.layer,
                    proposer=", ".join(routing.asked),
                    reason=routing.reason,
                    routing=routing,
                )
            )

    def asks(self, call: Call, kind: Literal["asked", "synthesis"] = "asked") -> None:
        """A call goes out; what an agent does to answer it is told, too."""
        listen(None if self._write is None else self._uses(call))
        if self._write is not None:
            event = ProgressEvent(kind=kind, layer=call.layer, proposer=call.proposer, task=call.task)
            self._write(event)

    def _uses(self, call: Call) -> Listener:
        """A listener for the tools that are used to answer a call."""

        def tell(moment: Moment) -> None:
            if self._write is not None and moment.kind in ("acts", "observes"):
                self._write(
                    ProgressEvent(
                        kind="act" if moment.kind == "acts" else "observe",
                        layer=call.layer,
                        proposer=call.proposer,
                        reason=moment.text if moment.is_error else "",
                        task=call.task,
                        tool=moment.tool,
                        arguments=dict(moment.arguments),
                        output=moment.text,
                    )
                )

        return tell

    def answers(self, layer: int, proposer: str) -> None:
        """The answer begins, over again where another had begun: the words are this proposer's."""
        if self._write is not None:
            self._write(ProgressEvent(kind="synthesis", layer=layer, proposer=proposer))

    def outcome(self, call: Call, record: Proposal | Missing) -> None:
        """What became of a call."""
        if self._write is None:
            return
        if isinstance(record, Missing):
            event = ProgressEvent(
                kind="missing",
                layer=call.layer,
                proposer=call.proposer,
                reason=record.reason,
                task=call.task,
            )
        else:
            event = ProgressEvent(
                kind="answered",
                layer=call.layer,
                proposer=call.proposer,
                seconds=record.latency_seconds,
                usage=record.usage,
                task=call.task,
            )
        self._write(event)

    def retries(self, call: Call) -> Callable[[BaseException, float], None]:
        """A listener for the call's retries: told the error and the wait in seconds."""

        def tell(error: BaseException, wait: float) -> None:
            if self._write is not None:
                self._write(
                    ProgressEvent(
                        kind="retry",
                        layer=call.layer,
                        proposer=call.proposer,
                        seconds=wait,
                        reason=describe(error),
                        task=call.task,
                        status=status_of(error),
                    )
                )

        return tell

    def delta(self, text: str) -> None:
        """A piece of the answer."""
        if self._write is not None:
            self._write(DeltaEvent(delta=text))
