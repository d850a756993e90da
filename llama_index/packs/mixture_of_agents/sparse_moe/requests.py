"""What is asked of the engine, how it ends, and what the engine counted.

Small frozen values in token ids, checked when they are made. They know neither text nor torch, so
they can be built and tested without either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

FinishReason = Literal["stop", "length", "cancelled"]

_SEED_RANGE = range(-(2**63), 2**64)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(ok: bool, name: str, value: object, valid: str) -> None:
    if not ok:
        raise ConfigurationError(f"{name}={value!r} is not valid; it must be {valid}")


def require_count(name: str, value: object) -> None:
    """Refuse anything but a whole number of at least one.

    Raises:
        ConfigurationError: Names the option and what it must be.
    """
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    _require(ok, name, value, "a whole number of at least 1")


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
        _require(
            _is_number(self.temperature) and self.temperature >= 0,
            "temperature", self.temperature, "0 (greedy) or a number above it",
        )  # fmt: skip
        _require(_is_number(self.top_p) and 0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _require(
            self.top_k is None or (_is_int(self.top_k) and self.top_k >= 1),
            "top_k_sampling", self.top_k, "None or a whole number of at least 1",
        )  # fmt: skip
        _require(
            _is_number(self.repetition_penalty) and self.repetition_penalty > 0,
            "repetition_penalty", self.repetition_penalty, "a number above 0",
        )  # fmt: skip
        _require(
            self.seed is None or (_is_int(self.seed) and self.seed in _SEED_RANGE),
            "seed", self.seed, "None or a whole number of at most 64 bits",
        )  # fmt: skip


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt to continue.

    Args:
        prompt_ids: Token ids, at least one.
        max_new_tokens: At most so many tokens are generated, at least one.
        sampling: How each token is chosen.
        stop_ids: Generating one of these ends the answer (it is counted, but not handed out).
        batch_limit: This request starts only while fewer than so many others are being decoded.

    Raises:
        ConfigurationError: The prompt is empty, or a number is below one.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    stop_ids: frozenset[int] = frozenset()
    batch_limit: int = 8

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise ConfigurationError("the prompt is empty; give at least one token of text to continue")
        require_count("max_new_tokens", self.max_new_tokens)
        require_count("batch_limit", self.batch_limit)


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
    """

    reason: FinishReason | None
    prompt_tokens: int
    completion_tokens: int
    first_step: int = 0
    last_step: int = 0
    error: Exception | None = None


@dataclass(frozen=True)
class EngineStats:
    """What the engine did since it was made, and what it holds now.

    Args:
        steps: Forward passes, over all requests.
        active: Requests being decoded.
        waiting: Requests in the queue.
        peak_active: Most requests decoded side by side.
        loads: Times the model was loaded (1 once it is there).
    """

    steps: int
    active: int
    waiting: int
    peak_active: int
    loads: int


class Listener(Protocol):
    """Receives one request's tokens. Called on the engine's thread: be quick, never wait."""

    def on_token(self, token_id: int) -> bool:
        """Take one token; return False to end the answer here with reason "stop"."""
        ...

    def on_end(self, ending: Ending) -> None:
        """Take the ending; nothing comes after it. Called once, also for requests that never ran."""
        ...
