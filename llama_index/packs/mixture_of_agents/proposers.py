"""A proposer: a model or agent with a name, a role and settings; and the placing of one call.

`place` turns a call into an outcome: policies are asked, a slot is waited for, transient failures are
retried, everything else becomes a `Missing`. It knows neither rounds nor prompts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents.endpoint import AgentEndpoint, Endpoint, LLMEndpoint, Reply
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.results import Missing, Proposal
from llama_index.packs.mixture_of_agents.retries import describe, status_of, with_retries
from llama_index.packs.mixture_of_agents.sampling import Sampling
from llama_index.packs.mixture_of_agents.slots import CallSlots


class Proposer:
    """A model or an agent that proposes an answer.

    Args:
        llm_or_agent: A LlamaIndex LLM, or a workflow agent (an object with `run(user_msg=...)`).
        name: How results and traces call it; the LLM's model name by default.
        role: Who it is, for its system message ("You are a careful historian.").
        temperature: Sampling temperature, >= 0; None leaves the strategy's, the pack's, the LLM's own.
        max_tokens: Longest answer, in tokens, > 0; None as above.
        seed: The sampler's seed; None as above.
        timeout: Seconds for one answer, its retries and waits within; None for no limit of its own.

    Raises:
        ConfigurationError: Something is neither LLM nor agent, or a setting cannot work.
    """

    def __init__(
        self,
        llm_or_agent: Any,
        *,
        name: str | None = None,
        role: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self.model = llm_or_agent
        self.is_llm = isinstance(llm_or_agent, LLM)
        self.sampling = Sampling(temperature, max_tokens, seed)
        self.role = role
        self.timeout = timeout
        self._check()
        self.name = name or self._own_name()

    def _check(self) -> None:
        if not self.is_llm and not callable(getattr(self.model, "run", None)):
            raise ConfigurationError(
                f"A proposer needs a LlamaIndex LLM or an agent with run(); found {self.model!r}. "
                "Pass an LLM object, for example OpenAI(model='gpt-4o-mini')."
            )
        if not self.is_llm and self.sampling.given():
            raise ConfigurationError(
                f"An agent takes no {', '.join(self.sampling.given())}; set it on the agent's own LLM."
            )
        check_sampling(self.sampling)
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigurationError(f"timeout must be > 0 seconds or None; found {self.timeout}.")

    def _own_name(self) -> str:
        if isinstance(self.model, LLM):
            return self.model.metadata.model_name
        return str(getattr(self.model, "name", None) or type(self.model).__name__)

    def endpoint(self, defaults: Sampling) -> Endpoint:
        """The way to call it, with `defaults` where its own settings say nothing."""
        if isinstance(self.model, LLM):
            return LLMEndpoint(self.model, self.sampling.over(defaults))
        return AgentEndpoint(self.model)

    def replaced(self, **changes: Any) -> Proposer:
        """The same proposer with other arguments: name, role, temperature, max_tokens, seed, timeout."""
        own = {"name": self.name, "role": self.role, "timeout": self.timeout, **self.sampling.given()}
        return Proposer(self.model, **{**own, **changes})

    def __repr__(self) -> str:
        return f"Proposer({self.name!r})"


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings no model takes."""
    if sampling.temperature is not None and not 0 <= sampling.temperature <= 2:
        raise ConfigurationError(f"temperature must be between 0 and 2; found {sampling.temperature}.")
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise ConfigurationError(f"max_tokens must be at least 1; found {sampling.max_tokens}.")


def as_proposers(models: Sequence[Any]) -> list[Proposer]:
    """Proposers from LLMs, agents and proposers; equal names get a number from the second on."""
    proposers = [model if isinstance(model, Proposer) else Proposer(model) for model in models]
    taken, seen = {proposer.name for proposer in proposers}, Counter[str]()
    named = []
    for proposer in proposers:
        seen[proposer.name] += 1
        if seen[proposer.name] > 1:
            name = _free_name(proposer.name, seen[proposer.name], taken)
            taken.add(name)
            proposer = proposer.replaced(name=name)
        named.append(proposer)
    return named


def _free_name(name: str, number: int, taken: set[str]) -> str:
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


@dataclass(frozen=True)
class Call:
    """One call about to be placed.

    Attributes:
        run_id: The run it belongs to.
        layer: 1 for the first round; `num_layers` for the synthesis.
        index: The proposer's place in its layer, from 0; in the synthesis, the try's number.
        proposer: Whom it goes to.
        messages: What it says.
        sampling: The settings that travel with it.
    """

    run_id: str
    layer: int
    index: int
    proposer: str
    messages: Sequence[ChatMessage]
    sampling: Sampling


class CallPolicy(Protocol):
    """Asked before each call and told after it: budgets, replay, caches, traces, checkpoints."""

    async def before(self, call: Call) -> Proposal | Missing | None:
        """None lets the call go out; a Proposal answers it from a store; a Missing refuses it."""

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """What became of a call that went out."""


@dataclass(frozen=True)
class Outcome:
    """What became of a call: the record, and the live objects behind it where there are any."""

    record: Proposal | Missing
    message: ChatMessage | None = None
    error: BaseException | None = None


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

    Args:
        call: What the policies see of it.
        speak: One attempt at it.
        placing: Slots, policies, retries and the clock.
        on_retry: Told of each further try, with its error and wait in seconds.
        timeout: Seconds for all of it; None for no limit.
    """
    for policy in placing.policies:
        answered = await policy.before(call)
        if answered is not None:
            return Outcome(answered)
    outcome = await _speak_in_time(call, speak, placing, on_retry, timeout)
    for policy in placing.policies:
        await policy.after(call, outcome.record)
    return outcome


async def _speak_in_time(
    call: Call,
    speak: Callable[[], Awaitable[Reply]],
    placing: Placing,
    on_retry: Callable[[BaseException, float], None],
    timeout: float | None,
) -> Outcome:
    async def attempt() -> Reply:
        async with placing.slots.hold():
            return await speak()

    started = placing.clock()
    try:
        reply = await asyncio.wait_for(
            with_retries(attempt, max_retries=placing.max_retries, on_retry=on_retry), timeout
        )
    except asyncio.CancelledError as error:
        if _is_being_cancelled():
            raise
        reason = "its call was cancelled from within"
        return Outcome(Missing(proposer=call.proposer, layer=call.layer, reason=reason), error=error)
    except Exception as error:
        took = placing.clock() - started
        return Outcome(_missing(call, error, timeout, took), error=error)
    return _outcome(call, reply, placing.clock() - started)


def _is_being_cancelled() -> bool:
    """Whether someone cancels this task, as opposed to a model that raises CancelledError itself.

    Python 3.10 cannot tell; there every cancellation counts as meant.
    """
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0


def _missing(call: Call, error: Exception, timeout: float | None, took: float) -> Missing:
    timed_out = isinstance(error, asyncio.TimeoutError) and timeout is not None and took >= timeout
    reason = f"no answer within its timeout of {timeout:g} s" if timed_out else describe(error)
    return Missing(proposer=call.proposer, layer=call.layer, reason=reason, status=status_of(error))


def _outcome(call: Call, reply: Reply, took: float) -> Outcome:
    if not as_reference(reply.text) and not has_tool_calls(reply.message):
        reason = "answered without text"
        return Outcome(Missing(proposer=call.proposer, layer=call.layer, reason=reason))
    record = Proposal(
        proposer=call.proposer, layer=call.layer, text=reply.text, usage=reply.usage, latency_seconds=took
    )
    return Outcome(record, reply.message)


def has_tool_calls(message: ChatMessage) -> bool:
    """Whether a message asks for tools, as blocks or in the older form."""
    blocks = any(block.block_type == "tool_call" for block in message.blocks)
    return blocks or bool(message.additional_kwargs.get("tool_calls"))
