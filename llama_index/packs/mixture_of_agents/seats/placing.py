"""The placing of one call: policies are asked, a slot is waited for, transient failures are retried.

Whatever happens becomes an outcome; everything but an answer is a `Missing`. It knows neither rounds
nor prompts, and no prices: a meter, where there is one, does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags

from llama_index.packs.mixture_of_agents.calls.endpoint import Reply
from llama_index.packs.mixture_of_agents.calls.retries import causes_of, describe, status_of, with_retries
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.calls.slots import CallSlots
from llama_index.packs.mixture_of_agents.calls.tasks import ended
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.policies import CallWatch, Meter
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.proposers import Call, CallPolicy
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Usage

_logger = logging.getLogger(__name__)

NOTHING_USED = Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)


@dataclass(frozen=True)
class Outcome:
    """What became of a call: the record, and what lies behind it.

    Attributes:
        call: The call as it went out; a policy may have changed its settings.
        record: The proposal, or who is missing and why.
        usage: What the call used, proposal or not; unknown where nobody can say.
        message: The whole message, where the call went out and was answered.
        error: What it raised.
        source: The class of the policy that answered or refused it; empty for a call that went out.
    """

    call: Call
    record: Proposal | Missing
    usage: Usage = field(default_factory=Usage)
    message: ChatMessage | None = None
    error: BaseException | None = None
    source: str = ""

    def light(self) -> Outcome:
        """Without messages: a run in progress should not hold every prompt and every whole reply."""
        return replace(self, message=None, call=replace(self.call, messages=()))


@dataclass(frozen=True)
class Placing:
    """What placing a call takes besides the call.

    Attributes:
        slots: The limit on calls in flight.
        policies: Asked in order before, told in order after.
        max_retries: Tries after the first, for transient failures.
        clock: Monotonic seconds.
        meter: Knows what calls cost; None for nobody.
        watches: Told of every try that goes out.
    """

    slots: CallSlots
    policies: Sequence[CallPolicy]
    max_retries: int
    clock: Callable[[], float]
    meter: Meter | None = None
    watches: Sequence[CallWatch] = ()


Speak = Callable[[Call], Awaitable[Reply]]
"""One attempt at a call."""


async def place(
    call: Call,
    speak: Speak,
    placing: Placing,
    on_retry: Callable[[BaseException, float], None],
    timeout: float | None = None,
) -> Outcome:
    """Place one call and say what became of it; only a cancellation is raised.

    The caller tells the policies (`tell`), once, of an outcome that is final.

    Args:
        call: What the policies see of it.
        speak: One attempt at it.
        placing: Slots, policies, retries, the clock and the meter.
        on_retry: Told of each further try, with its error and wait in seconds.
        timeout: Seconds for all of it; None for no limit.
    """
    for policy in placing.policies:
        said = await _asked(policy, call)
        if isinstance(said, Sampling):
            call = replace(call, sampling=said.over(call.sampling))
        elif said is not None:
            return _by_policy(call, said, type(policy).__name__)
    return await _spoken(call, speak, placing, on_retry, timeout)


def _by_policy(call: Call, said: object, name: str) -> Outcome:
    """What a policy answered or refused, in this call's place whoever it was recorded of."""
    if isinstance(said, Proposal):
        record = said.model_copy(update={"proposer": call.proposer, "layer": call.layer})
        return Outcome(call, record, record.usage, source=name)
    if isinstance(said, Missing):
        update = {"proposer": call.proposer, "layer": call.layer}
        return Outcome(call, said.model_copy(update=update), NOTHING_USED, source=name)
    reason = f"{name} gave {type(said).__name__}; it should give a Proposal, a Missing, a Sampling or None"
    return Outcome(call, call.missing(reason), NOTHING_USED, source=name)


async def _asked(policy: CallPolicy, call: Call) -> Proposal | Missing | Sampling | None:
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
    speak: Speak,
    placing: Placing,
    on_retry: Callable[[BaseException, float], None],
    timeout: float | None,
) -> Outcome:
    retries = 0

    async def attempt() -> Reply:
        async with placing.slots.hold():
            with instrument_tags(active_instrument_tags.get() | _tags(call)):
                _send(placing.watches, call)
                return await _without_exits(lambda: speak(call))

    def retry(error: BaseException, wait: float) -> None:
        nonlocal retries
        retries += 1
        on_retry(error, wait)

    started = placing.clock()
    work = with_retries(attempt, max_retries=placing.max_retries, on_retry=retry)
    task = await ended(work, timeout)
    took = placing.clock() - started
    if timeout is not None and took >= timeout and (not task.done() or task.cancelled()):
        return Outcome(call, call.cut(f"no answer within its timeout of {timeout:g} s"))
    if task.cancelled():
        return Outcome(call, call.missing("its call was cancelled from within"))
    error = task.exception()
    if error is not None:
        return _failed(call, error)
    reply = _measured(call, task.result(), placing.meter)
    return _answered(call, reply, took, {"retries": retries} if retries else {})


def _tags(call: Call) -> dict[str, Any]:
    """What LlamaIndex's own spans and events of a call tell of it, to whoever listens to them."""
    return {"moa.layer": call.layer, "moa.task": call.task, "moa.proposer": call.proposer}


def _send(watches: Sequence[CallWatch], call: Call) -> None:
    """Tell everyone that a call goes out; one that fails costs no answer."""
    for watch in watches:
        try:
            watch.sent(call)
        except Exception:
            _logger.warning("%s failed as a call went out", type(watch).__name__, exc_info=True)


def _measured(call: Call, reply: Reply, meter: Meter | None) -> Reply:
    """The reply with its price; a meter that fails costs no answer."""
    if meter is None:
        return reply
    try:
        return replace(reply, usage=meter.measured(call, reply.text, reply.usage))
    except Exception:
        _logger.warning("%s failed; a call is left without a price", type(meter).__name__, exc_info=True)
        return reply


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
    return Outcome(call, call.missing(describe(error), status), used, error=error)


def _answered(call: Call, reply: Reply, took: float, details: Mapping[str, Any]) -> Outcome:
    calls_tools = call.may_call_tools and has_tool_calls(reply.message)
    if not as_reference(reply.text) and not calls_tools:
        return Outcome(call, call.missing("answered without text"), reply.usage)
    record = Proposal(
        proposer=call.proposer,
        layer=call.layer,
        text=reply.text,
        usage=reply.usage,
        latency_seconds=took,
        details={**reply.details, **details},
    )
    return Outcome(call, record, reply.usage, reply.message)


def has_tool_calls(message: ChatMessage) -> bool:
    """Whether a message asks for tools, as blocks or in the older form."""
    blocks = any(block.block_type == "tool_call" for block in message.blocks)
    return blocks or bool(message.additional_kwargs.get("tool_calls"))
