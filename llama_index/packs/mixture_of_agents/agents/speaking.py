"""One call to a model or an agent, tried again where that may help; what it said, or why it said nothing.

It raises nothing but a cancellation: a crew goes on without whoever fails. It knows no tasks and no prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.calls.endpoint import Endpoint, Reply
from llama_index.packs.mixture_of_agents.calls.retries import describe, status_of, with_retries
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.calls.tasks import ended
from llama_index.packs.mixture_of_agents.errors import BrokenStreamError, MixtureError
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.prompts import as_reference, tool_calls_of
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.results import Usage

_REFUSED = (400, 422)
"""HTTP: the request is not one that this server understands."""
NOTHING_USED = Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)


@dataclass(frozen=True)
class Said:
    """What came of a call.

    Attributes:
        text: What was said; empty where nothing was.
        usage: What it used.
        seconds: Wall time.
        reason: Why nothing was said; empty where something was.
        error: What was raised.
        message: The whole message.
    """

    text: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    reason: str = ""
    error: BaseException | None = None
    message: ChatMessage = field(default_factory=lambda: ChatMessage(role=MessageRole.ASSISTANT))

    @property
    def status(self) -> int | None:
        """The HTTP status behind a failure, where there was one."""
        return None if self.error is None else status_of(self.error)


class Speaker:
    """A model or an agent to call.

    Args:
        proposer: Who it is, with its settings.
        max_retries: Tries after the first, for transient failures.
        prices: Know what calls cost.
        timeout: Seconds for a call, its retries within; None for the proposer's own, or no limit.
    """

    def __init__(
        self, proposer: Proposer, max_retries: int, prices: Prices, timeout: float | None = None
    ) -> None:
        self.model, self.name, self.is_llm = proposer.model, proposer.name, proposer.is_llm
        self._proposer = proposer
        self._endpoint: Endpoint = proposer.endpoint(Sampling())
        self._max_retries, self._prices = max_retries, prices
        self._timeout = proposer.timeout if timeout is None else timeout

    @cached_property
    def identity(self) -> ModelIdentity:
        """Which model or agent it is."""
        return self._proposer.identity

    async def say(
        self,
        messages: Sequence[ChatMessage],
        options: Mapping[str, Any] | None = None,
        *,
        must: bool = False,
    ) -> Said:
        """Ask for a reply in one piece.

        Args:
            messages: What it reads.
            options: The call's further arguments. A server may refuse them; then it is asked without.
            must: Whether the reply must be what the options say: it is never asked without them, and a reply
                that was cut off counts as none.
        """

        async def once() -> Reply:
            try:
                return await self._endpoint.reply(messages, dict(options or {}))
            except Exception as error:
                if must or not options or status_of(error) not in _REFUSED:
                    raise
                return await self._endpoint.reply(messages, {})

        return await self._tried(once, messages, whole=must)

    async def stream(self, messages: Sequence[ChatMessage], piece: Callable[[str], None]) -> Said:
        """Ask for a reply as it grows.

        Args:
            messages: What it reads.
            piece: Told each piece.
        """

        async def once() -> Reply:
            last, begun = None, False
            try:
                async for reply in self._endpoint.stream(messages, {}):
                    last = reply
                    if reply.delta:
                        begun = True
                        piece(reply.delta)
            except Exception as error:
                if begun:  # what was passed on cannot be taken back, nor said again
                    raise BrokenStreamError(f"the answer broke off: {describe(error)}") from error
                raise
            if last is None:
                raise MixtureError(f"{self.name} streamed nothing")
            return last

        return await self._tried(once, messages)

    async def _tried(
        self, once: Callable[[], Any], messages: Sequence[ChatMessage], whole: bool = False
    ) -> Said:
        began = time.monotonic()
        work = with_retries(
            lambda: _without_exits(once), max_retries=self._max_retries, on_retry=lambda error, wait: None
        )
        task = await ended(work, self._timeout)
        took = time.monotonic() - began
        if not task.done() or task.cancelled():
            is_late = self._timeout is not None and took > 0.9 * self._timeout
            reason = f"no answer within {self._timeout:g} s" if is_late else "was cancelled"
            return Said(seconds=took, reason=reason)
        error = task.exception()
        if error is not None:
            used = Usage() if status_of(error) is None else NOTHING_USED
            return Said(seconds=took, reason=describe(error), error=error, usage=used)
        said = _heard(task.result(), took, whole)
        return replace(said, usage=self._prices.of_answer(self.identity, messages, said.text, said.usage))


async def _without_exits(once: Callable[[], Any]) -> Reply:
    """A model or tool that exits the process fails its call, and no one else's."""
    try:
        reply: Reply = await once()
    except SystemExit as error:
        raise MixtureError(f"the call tried to exit the process (status {error.code})") from error
    return reply


def _heard(reply: Reply, took: float, whole: bool) -> Said:
    text, calls = reply.text, tool_calls_of(reply.message)
    if calls:  # an answer in a shape: the arguments are what it says
        text = calls[0][2]
    reason = "" if as_reference(text) else "answered without text"
    if whole and reply.was_cut:
        reason = f"was cut off at its longest length (finish reason {reply.details['finish_reason']!r})"
    return Said(text, reply.usage, took, reason, message=reply.message)
