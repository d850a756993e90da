"""Taking part in runs: a policy of its own for each run, and those who watch one.

`CallPolicy` (in `proposers`) sees one call at a time. A budget, a trace or a replay needs more: it is given
to a mixture once and makes something new for each run. This module defines the protocols and does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.facts import MixtureFacts
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage


@dataclass(frozen=True)
class RunStart:
    """A run about to begin.

    Attributes:
        run_id: Its identity.
        messages: The caller's conversation.
        mixture: Whom it asks.
        meter: What knows the prices of its calls; None for nothing.
    """

    run_id: str
    messages: Sequence[ChatMessage]
    mixture: MixtureFacts
    meter: Meter | None = None


class RunPolicy(Protocol):
    """Given to a mixture once, makes something new for each run."""

    def for_run(self, start: RunStart) -> Any:
        """A `CallPolicy`, a `RunWatch`, or both in one.

        Raises:
            ConfigurationError: This run cannot work, before any call.
        """


@runtime_checkable
class RunWatch(Protocol):
    """Watches one run. It is called on the event loop, so it must be quick; what it raises is logged."""

    def asks(self, call: Call) -> None:
        """A call is about to be placed; no policy has seen it yet."""

    def happened(self, event: ProgressEvent) -> None:
        """The run said something; each event once, in order."""

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """A call's final outcome.

        Args:
            call: As it went out; its sampling may be other than what `asks` saw, where a policy changed it.
            record: What became of it.
            usage: What it used, proposal or not.
            source: Empty for a call that went out; else the class of the policy that answered or refused.
        """

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """The run is over; called once, also when it failed or was cancelled."""


class IdleWatch:
    """A `RunWatch` that does nothing: who derives from it writes those methods alone that do something."""

    def asks(self, call: Call) -> None:
        """As `RunWatch` describes it."""

    def happened(self, event: ProgressEvent) -> None:
        """Likewise."""

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """Likewise."""

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """Likewise."""


@runtime_checkable
class CallWatch(Protocol):
    """A `RunWatch` with this method, too, is told of every try at a call that goes out."""

    def sent(self, call: Call) -> None:
        """No policy has answered or refused it, and a slot is free: it goes out now.

        Context variables set here hold for this try, in whatever task or thread it is carried out.
        """


class Meter(Protocol):
    """Knows what calls cost."""

    def measured(self, call: Call, text: str, usage: Usage) -> Usage:
        """What a call used, with its price, and with estimates for what its provider did not report.

        Args:
            call: The call, as it went out.
            text: The answer.
            usage: As the provider reported it.
        """
