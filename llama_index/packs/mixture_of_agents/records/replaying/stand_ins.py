"""Proposers that stand in for recorded ones: all of their facts, and no model behind them.

A model is made when a call has to go out after all, by a function of the caller's, and never before. Nothing
here knows which calls those are.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms import CustomLLM

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.facts import ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.proposers import Proposer

ModelFor = Callable[[ModelIdentity], Any]
"""From which model it was to a live one: an LLM or an agent.

Raises:
    ConfigurationError: It cannot be made.
"""

_UNKNOWN = -1


class RecordedLLM(CustomLLM):
    """What a recorded LLM says of itself; calling it is an error.

    Attributes:
        model: Its name.
        context_window: In tokens; -1 for unknown.
        num_output: The longest answer by its own word, in tokens; -1 for unknown.
        shares_prefix: Others of its layer had the same local model.
    """

    model: str
    context_window: int = _UNKNOWN
    num_output: int = _UNKNOWN
    shares_prefix: bool = False

    @classmethod
    def class_name(cls) -> str:
        """Name the class for serialisation."""
        return "RecordedLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What was recorded of it."""
        return LLMMetadata(
            model_name=self.model,
            context_window=self.context_window,
            num_output=self.num_output,
            is_chat_model=True,
        )

    @property
    def prefix_sharing_key(self) -> str | None:
        """Prompts are laid out as they were, so that they are found in the record."""
        return "recorded" if self.shares_prefix else None

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Refuse.

        Raises:
            TraceError: Always.
        """
        raise _nobody(self.model)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Refuse.

        Raises:
            TraceError: Always.
        """
        raise _nobody(self.model)


class RecordedAgent:
    """A recorded agent; running it is an error.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, **asked: Any) -> Any:
        """Refuse.

        Raises:
            TraceError: Always.
        """
        raise _nobody(self.name)


def _nobody(name: str) -> TraceError:
    return TraceError(
        f"{name} was recorded: there is no model here to ask. Pass one with swap, or model_for."
    )


class RecordedProposer(Proposer):
    """A proposer as it was recorded.

    Args:
        seat: The record.
        model_for: Makes the model for a call that has to go out; None where none may.
    """

    def __init__(self, seat: SeatFacts, model_for: ModelFor | None = None) -> None:
        self._recorded, self._model_for = seat.identity, model_for
        super().__init__(
            _stand_in(seat),
            name=seat.name,
            role=seat.role,
            temperature=seat.temperature,
            max_tokens=seat.max_tokens,
            seed=seat.seed,
            timeout=seat.timeout,
        )
        self.takes_role = seat.takes_role

    @property
    def identity(self) -> ModelIdentity:
        """Which model it was."""
        return self._recorded

    def endpoint(self, defaults: Sampling) -> Any:
        """The way to call it, should it have to be called."""
        return RecordedEndpoint(self.name, lambda: self._revived().endpoint(self.sampling.over(defaults)))

    def _revived(self) -> Proposer:
        if self._model_for is None:
            raise _nobody(self.name)
        return Proposer(self._model_for(self._recorded), name=self.name)


def _stand_in(seat: SeatFacts) -> RecordedLLM | RecordedAgent:
    if seat.identity.is_agent:
        return RecordedAgent(seat.identity.model)
    return RecordedLLM(
        model=seat.identity.model,
        context_window=seat.context_window or _UNKNOWN,
        num_output=seat.num_output or _UNKNOWN,
        shares_prefix=seat.shares_prefix,
    )


class RecordedEndpoint:
    """A way to a model that is made for the first call, and kept.

    Args:
        name: Whose it is.
        make: Makes the model's own endpoint.
    """

    stoppable = True

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self._name, self._make = name, make
        self._made: Any = None
        self._lock = threading.Lock()

    async def reply(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> Any:
        """One call, one reply."""
        return await self._live().reply(messages, options)

    async def stream(
        self, messages: Sequence[ChatMessage], options: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """The reply as it grows."""
        replies = self._live().stream(messages, options)
        try:
            async for reply in replies:
                yield reply
        finally:
            await replies.aclose()

    def _live(self) -> Any:
        with self._lock:  # several rounds, on several loops, may be the first to ask
            if self._made is None:
                self._made = self._make()
            return self._made
