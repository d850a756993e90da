"""Beginning a run: its live side, its checkpoint, and each policy's part in it.

What cannot work is refused here, before any call. It knows nothing of the workflow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from workflows.events import StartEvent

from llama_index.packs.mixture_of_agents.calls.slots import CallSlots
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.events import AskEvent
from llama_index.packs.mixture_of_agents.policies import CallWatch, RunStart, RunWatch
from llama_index.packs.mixture_of_agents.proposers import CallPolicy
from llama_index.packs.mixture_of_agents.runs.checkpoint import Checkpoint
from llama_index.packs.mixture_of_agents.runs.live_run import LiveRun, conversation
from llama_index.packs.mixture_of_agents.runs.mixture import Mixture
from llama_index.packs.mixture_of_agents.seats.placing import Placing


def live_run(mixture: Mixture, slots: CallSlots, event: StartEvent | None, run_id: str) -> LiveRun:
    """The live side of a run that is about to begin.

    Args:
        mixture: Who is asked.
        slots: The limit on calls in flight.
        event: How it starts; None for one that is resumed from a context.
        run_id: Its identity.

    Raises:
        ConfigurationError: The question is empty, the checkpoint is another's, or a policy refuses the run.
            Whoever watches has been told, and nothing is held any more.
    """
    policies: list[CallPolicy] = []
    placing = Placing(slots, policies, mixture.max_retries, time.monotonic, mixture.meter)
    run = LiveRun(mixture, placing, run_id, started=time.monotonic())
    messages = conversation(event.query_str, event.messages) if isinstance(event, AskEvent) else []
    try:
        if isinstance(event, AskEvent) and event.checkpoint is not None:
            checkpoint = Checkpoint(event.checkpoint, mixture.fingerprint(messages), mixture.facts)
            policies.append(checkpoint)
            run.closing.append(checkpoint.close)
        _take_part(run, policies, messages)
    except BaseException as error:
        run.give_up(error)
        raise
    return run


def _take_part(run: LiveRun, policies: list[CallPolicy], messages: Sequence[ChatMessage]) -> None:
    """Ask each policy for its part in this run, in order."""
    for policy in run.mixture.policies:
        part: Any = policy
        if hasattr(policy, "for_run"):
            part = policy.for_run(RunStart(run.run_id, messages, run.mixture.facts, run.mixture.meter))
            _check_part(type(policy).__name__, part)
        if hasattr(part, "before"):
            policies.append(part)
        if isinstance(part, RunWatch):
            run.watches = [*run.watches, part]
        if isinstance(part, CallWatch):
            run.placing = replace(run.placing, watches=[*run.placing.watches, part])


def _check_part(name: str, part: object) -> None:
    if part is None or hasattr(part, "before") or isinstance(part, RunWatch | CallWatch):
        return
    raise ConfigurationError(
        f"{name}.for_run gave {shown(part)}; it must give an object with before() and after(), or with "
        "asks(), happened(), noted() and ended(), or None."
    )
