"""What is asked of the engine, how it ends, and what the engine counted.

Small frozen values in token ids, checked when they are made. They know neither text nor torch, so
they can be built and tested without either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.checks import is_int, is_number, require, require_count
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

if TYPE_CHECKING:
    from torch import Tensor

    from llama_index.packs.mixture_of_agents.sparse_moe.stats import RoutingStats

FinishReason = Literal["stop", "length", "cancelled"]

_SEED_RANGE = range(-(2**63), 2**64)


@dataclass(frozen=True)
class SamplingSettings:
    """How the next token is chosen.

    Args:
        temperature: 0 is greedy; otherwise logits are divided by it.
        top_p: Share of probability to keep, above 0 and at most 1.
        top_k: Number of tokens to keep, or None for all. Not the number of experts.
        repetition_penalty: Above 0; 1 changes nothing.
        seed: Same seed, same prompt, same settings: same tokens. None draws a fresh one.

    Raises:
        ConfigurationError: A value is out of its range.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        require(
            is_number(self.temperature) and self.temperature >= 0,
            "temperature", self.temperature, "0 (greedy) or a number above it",
        )  # fmt: skip
        require(is_number(self.top_p) and 0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        require(
            self.top_k is None or (is_int(self.top_k) and self.top_k >= 1),
            "top_k_sampling", self.top_k, "None or a whole number of at least 1",
        )  # fmt: skip
        require(
            is_number(self.repetition_penalty) and self.repetition_penalty > 0,
            "repetition_penalty", self.repetition_penalty, "a number above 0",
        )  # fmt: skip
        require(
            self.seed is None or (is_int(self.seed) and self.seed in _SEED_RANGE),
            "seed", self.seed, "None or a whole number of at most 64 bits",
        )  # fmt: skip


class TokenConstraint(Protocol):
    """Says which tokens may come next, for one request. Called on the engine's thread."""

    def mask(self, logits_V: Tensor) -> Tensor:
        """Return the scores with those of forbidden tokens at minus infinity."""
        ...

    def accept(self, token_id: int) -> None:
        """Take note of the token that was chosen."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing may follow."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the text so far could be the whole answer."""
        ...


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt to continue.

    Args:
        prompt_ids: Token ids, at least one.
        max_new_tokens: At most so many tokens are generated, at least one.
        sampling: How each token is chosen.
        stop_ids: Generating one of these ends the answer (it is counted, but not handed out).
        batch_limit: This request starts only while fewer than so many others are being decoded.
        routing: How tokens go to experts.
        observe: Whether to count how they went.
        timeout: Seconds from now until the request is given up; None for no limit.
        constraint: Says which tokens may come next; None allows all.

    Raises:
        ConfigurationError: The prompt is empty, a number is below one, or no time is left.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    stop_ids: frozenset[int] = frozenset()
    batch_limit: int = 8
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    observe: bool = False
    timeout: float | None = None
    constraint: TokenConstraint | None = None

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise ConfigurationError("the prompt is empty; give at least one token of text to continue")
        require_count("max_new_tokens", self.max_new_tokens)
        require_count("batch_limit", self.batch_limit)
        require(
            self.timeout is None or (is_number(self.timeout) and self.timeout > 0),
            "timeout", self.timeout, "None or a number of seconds above 0",
        )  # fmt: skip


@dataclass(frozen=True)
class Ending:
    """How a request ended. Delivered exactly once per request.

    Args:
        reason: Why it stopped; None when `error` says why it failed.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens generated, a final stop token included.
        first_step: Number of the engine step that prefilled it, 0 if it never started. Steps count
            up by one over all requests, so overlapping spans show requests decoded side by side.
        last_step: Number of the engine step that computed its last token.
        error: What went wrong, if anything.
        shared_tokens: Tokens of the prompt that were not computed, because another prompt began alike.
        not_shared_because: Why this request can share nothing, whoever begins alike; None if it can.
        routing: How the tokens went to experts, shared ones included; None unless it was asked for.
    """

    reason: FinishReason | None
    prompt_tokens: int
    completion_tokens: int
    first_step: int = 0
    last_step: int = 0
    error: Exception | None = None
    shared_tokens: int = 0
    routing: RoutingStats | None = None
    not_shared_because: str | None = None


@dataclass(frozen=True)
class EngineStats:
    """What the engine did since it was made, and what it holds now.

    Args:
        steps: Forward passes, over all requests.
        active: Requests being read or decoded.
        waiting: Requests in the queue.
        peak_active: Most requests decoded side by side.
        loads: Times the model was loaded (1 once it is there).
        read_tokens: Prompt tokens that were computed.
        shared_tokens: Prompt tokens that were not, because another prompt began alike.
        prefix_bytes: Memory held for beginnings of prompts.
        widest_step: Most requests in one decoding pass.
    """

    steps: int
    active: int
    waiting: int
    peak_active: int
    loads: int
    read_tokens: int = 0
    shared_tokens: int = 0
    prefix_bytes: int = 0
    widest_step: int = 0


class Listener(Protocol):
    """Receives one request's tokens. Called on the engine's thread: be quick, never wait."""

    def on_token(self, token_id: int) -> bool:
        """Take one token; return False to end the answer here with reason "stop"."""
        ...

    def on_end(self, ending: Ending) -> None:
        """Take the ending; nothing comes after it. Called once, also for requests that never ran."""
        ...
