"""The placing of one call: policies are asked, a slot is waited for, transient failures are retried.

Whatever happens becomes an outcome; everything but an answer is a `Missing`. It knows neither rounds
nor prompts.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.endpoint import Reply
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.proposers import Call, CallPolicy
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Usage
from llama_index.packs.mixture_of_agents.retries import causes_of, describe, status_of, with_retries
from llama_index.packs.mixture_of_agents.slots import CallSlots
from llama_index.packs.mixture_of_agents.tasks import ended

_logger = logging.getLogger(__name__)

NOTHING_USED = Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)


@dataclass(frozen=True)
class Outcome:
    """What became of a call: the record, and what lies behind it.

    Attributes:
        record: The proposal, or who is missing and why.
        usage: What the call used, proposal or not; unknown where nobody can say.
        message: The whole message, where the call went out and was answered.
        error: What it raised.
        from_policy: A policy answered or refused it, so it never went out.
    """

    record: Proposal | Missing
    usage: Usage = field(default_factory=Usage)
    message: ChatMessage | None = None
    error: BaseException | None = None
    from_policy: bool = False


@dataclass(frozen=True)
class Placing:
    """What placing a call takes besides the call.

    Attributes:
        slots: The limit on calls in flight.
        policies: Asked in order before, told in order after.
        max_retries: Tries after the first, for transient failures.
        clock: Monotonic seconds.
    """

    slots: CallSlots
    policies: Sequence[CallPolicy]
    max_retries: int
    clock: Callable[[], float]


async def place(
    call: Call,
    speak: Callable[[], Awaitable[Reply]],
    placing: Placing,
    on_retry: Callable[[BaseException, float], None],
    timeout: float | None = None,
) -> Outcome:
    """Place one call and say what became of it; only a cancellation is raised.

    The caller tells the policies (`tell`), once, of an outcome that is final.

    Args:
        call: What the policies see of it.
        speak: One attempt at it.
        placing: Slots, policies, retries and the clock.
        on_retry: Told of each further try, with its error and wait in seconds.
        timeout: Seconds for all of it; None for no limit.
    """
    for policy in placing.policies:
        answered = await _asked(policy, call)
        if answered is not None:
            usage = answered.usage if isinstance(answered, Proposal) else NOTHING_USED
            return Outcome(answered, usage, from_policy=True)
    return await _spoken(call, speak, placing, on_retry, timeout)


async def _asked(policy: CallPolicy, call: Call) -> Proposal | Missing | None:
    try:
        return await policy.before(call)
    except Exception as error:
        return call.missing(f"{type(policy).__name__} failed before the call: {describe(error)}")


async def tell(policies: Sequence[CallPolicy], call: Call, record: Proposal | Missing) -> None:
    """Tell every policy what became of a call that went out; one that fails costs no answer."""
    for policy in policies:
        try:
            await policy.after(call, record)
        except Exception:
            _logger.warning("%s failed after a call", type(policy).__name__, exc_info=True)


async def _spoken(
    call: Call,
    speak: Callable[[], Awaitable[Reply]],
    placing: Placing,
    on_retry: Callable[[BaseException, float], None],
    timeout: float | None,
) -> Outcome:
    async def attempt() -> Reply:
        async with placing.slots.hold():
            return await _without_exits(speak)

    started = placing.clock()
    work = with_retries(attempt, max_retries=placing.max_retries, on_retry=on_retry)
    task = await ended(work, timeout)
    took = placing.clock() - started
    if timeout is not None and took >= timeout and (not task.done() or task.cancelled()):
        return Outcome(call.cut(f"no answer within its timeout of {timeout:g} s"))
    if task.cancelled():
        return Outcome(call.missing("its call was cancelled from within"))
    error = task.exception()
    return _answered(call, task.result(), took) if error is None else _failed(call, error)


async def _without_exits(speak: Callable[[], Awaitable[Reply]]) -> Reply:
    """A model or tool that exits the process fails its call, and no one else's."""
    try:
        return await speak()
    except SystemExit as error:
        raise MixtureError(f"the call tried to exit the process (status {error.code})") from error


def _failed(call: Call, error: BaseException) -> Outcome:
    status = status_of(error)
    refused = status is not None or any(isinstance(c, ConnectionRefusedError) for c in causes_of(error))
    used = NOTHING_USED if refused else Usage()
    return Outcome(call.missing(describe(error), status), used, error=error)


def _answered(call: Call, reply: Reply, took: float) -> Outcome:
    calls_tools = call.may_call_tools and has_tool_calls(reply.message)
    if not as_reference(reply.text) and not calls_tools:
        return Outcome(call.missing("answered without text"), reply.usage)
    record = Proposal(
        proposer=call.proposer, layer=call.layer, text=reply.text, usage=reply.usage, latency_seconds=took
    )
    return Outcome(record, reply.usage, reply.message)


def has_tool_calls(message: ChatMessage) -> bool:
    """Whether a message asks for tools, as blocks or in the older form."""
    blocks = any(block.block_type == "tool_call" for block in message.blocks)
    return blocks or bool(message.additional_kwargs.get("tool_calls"))
