"""What a provider, model or proposer takes: the limits, checked, and whom a pattern means.

    {"OpenAI": Limits(in_flight=20, requests_per_minute=500, tokens_per_minute=200_000),
     "OpenAI(gpt-4o)": Limits(in_flight=5, budget_share=0.5)}

Plain numbers, and what one call needs of them. It counts nothing and knows no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from llama_index.packs.mixture_of_agents.checks import number, shown, whole_number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import ModelIdentity


@dataclass(frozen=True)
class Limits:
    """What may be asked of those whom one pattern means, all of them together; None is no limit.

    Args:
        in_flight: Calls at a time.
        requests_per_minute: Requests that go out, further tries at a call among them, in any 60 seconds.
        tokens_per_minute: Tokens read and written, in any 60 seconds.
        budget_share: The most of a budget that may go here, from 0 to 1; `Capacity` is told the budget.

    Raises:
        ConfigurationError: A value cannot work, or nothing is limited.
    """

    in_flight: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget_share: float | None = None

    def __post_init__(self) -> None:
        for name in ("in_flight", "requests_per_minute", "tokens_per_minute"):
            whole_number(name, getattr(self, name), 1, none="for no limit")
        number("budget_share", self.budget_share, 0, 1, none="for no limit")
        if all(value is None for value in vars(self).values()):
            raise ConfigurationError(
                "Limits() limits nothing: give in_flight, requests_per_minute, tokens_per_minute or "
                "budget_share, or leave this entry out."
            )


@dataclass(frozen=True)
class Need:
    """What a call, or several, may take.

    Attributes:
        calls: Places in flight.
        requests: Requests: as many as there may be tries.
        tokens: Tokens read and written, at most as far as can be told.
        usd: US dollars, likewise; None where nobody knows.
    """

    calls: int = 0
    requests: int = 0
    tokens: int = 0
    usd: float | None = None

    def beside(self, other: Need | None) -> Need:
        """Both together; the money is this one's alone."""
        if other is None:
            return self
        return Need(
            self.calls + other.calls, self.requests + other.requests, self.tokens + other.tokens, self.usd
        )


def checked_limits(limits: object) -> dict[str, Limits]:
    """The limits by pattern.

    Raises:
        ConfigurationError: They are no such mapping, or an empty one.
    """
    rule = "a mapping of a class (OpenAI), a model (OpenAI(gpt-4o)), or a proposer's name to Limits(...)"
    if not isinstance(limits, Mapping) or not limits:
        raise ConfigurationError(f"limits must be {rule}, of one entry or more; found {shown(limits)}.")
    for pattern, given in limits.items():
        if not isinstance(pattern, str) or not pattern.strip():
            raise ConfigurationError(f"limits must be {rule}; found the key {shown(pattern)}.")
        if not isinstance(given, Limits):
            raise ConfigurationError(f"limits must be {rule}; found {shown(given)} for {pattern!r}.")
    return dict(limits)


def means(pattern: str, identity: ModelIdentity, name: str) -> bool:
    """Whether a pattern means this model or proposer.

    Args:
        pattern: "OpenAI", "OpenAI(gpt-4o)", a proposer's name; `*` and `?` stand for any text and letter.
        identity: The model.
        name: The proposer's name; empty for none.
    """
    return any(fnmatchcase(called, pattern) for called in _names(identity, name))


def _names(identity: ModelIdentity, name: str) -> Sequence[str]:
    return [called for called in (str(identity), identity.class_name, name) if called]
