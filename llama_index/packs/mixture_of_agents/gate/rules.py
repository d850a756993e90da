"""Rules a person can read: where the question looks so, these models are asked.

The first rule that holds decides; where none does, the others are asked whom `otherwise` names. No answers
are read and nothing is learned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llama_index.packs.mixture_of_agents.checks import shortened
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision, question_of
from llama_index.packs.mixture_of_agents.results import Proposal

_LONGEST = 20_000


class Rule(BaseModel):
    """Holds where all that it says of the question is so; one that says nothing always holds.

    Attributes:
        ask: Whom to ask then, the best first.
        pattern: A regular expression of Python's that is found in the question, case aside.
        words: One of these words stands in it, case aside.
        longer_than: It has more characters.
        shorter_than: It has fewer characters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ask: tuple[str, ...] = Field(min_length=1)
    pattern: str | None = None
    words: tuple[str, ...] = ()
    longer_than: int | None = None
    shorter_than: int | None = None

    @field_validator("pattern")
    @classmethod
    def _can_be_read(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"the pattern cannot be read: {error}") from error
        return pattern

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        worded = [rf"\b(?:{'|'.join(map(re.escape, self.words))})\b"] if self.words else []
        return [re.compile(p, re.IGNORECASE) for p in ([self.pattern] if self.pattern else []) + worded]

    def holds(self, question: str) -> bool:
        """Whether the question looks so."""
        end = question[:_LONGEST]
        return (
            all(pattern.search(end) for pattern in self._patterns)
            and (self.longer_than is None or len(question) > self.longer_than)
            and (self.shorter_than is None or len(question) < self.shorter_than)
        )


class RuleGate:
    """A gate of rules.

    Args:
        rules: In order; `Rule`s, or what they say as mappings.
        otherwise: Whom to ask where no rule holds; None asks everyone.

    Raises:
        ConfigurationError: A rule cannot be read, or says nothing a rule can say.
    """

    name = "rules"

    def __init__(
        self, rules: Sequence[Rule | dict[str, Any]], otherwise: Sequence[str] | None = None
    ) -> None:
        try:
            self._rules = [Rule.model_validate(rule) for rule in rules]
        except ValidationError as error:
            said = shortened("; ".join(f"{_place(fault['loc'])}: {fault['msg']}" for fault in error.errors()))
            raise ConfigurationError(
                f"A rule cannot be read: {said}. A rule has ask (names), and pattern, words, longer_than or "
                "shorter_than."
            ) from error
        self._otherwise = None if otherwise is None else tuple(otherwise)

    @property
    def models(self) -> tuple[str, ...]:
        """Everyone the rules name."""
        named = [name for rule in self._rules for name in rule.ask]
        return tuple(dict.fromkeys([*named, *(self._otherwise or ())]))

    def described(self) -> dict[str, Any]:
        """Its kind and settings, as JSON."""
        rules = [rule.model_dump(mode="json", exclude_defaults=True) for rule in self._rules]
        otherwise = None if self._otherwise is None else list(self._otherwise)
        return {"name": self.name, "rules": rules, "otherwise": otherwise}

    def check(self, names: Sequence[str]) -> None:
        """Refuse, before any call, proposers of whom a rule names nobody.

        Raises:
            ConfigurationError: A rule, or `otherwise`, does.
        """
        for wanted in [*(rule.ask for rule in self._rules), *([self._otherwise] if self._otherwise else [])]:
            if not set(wanted) & set(names):
                raise _nobody_there(wanted, names)

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        """Whom the first rule that holds names; once anyone answered, that is enough.

        Raises:
            ConfigurationError: The rules name nobody who is there.
        """
        names = [seat.name for seat in candidates]
        if proposals:
            return GateDecision(reason="the rules have chosen by the question alone")
        wanted, why = self._wanted(question_of(messages), names)
        ask = tuple(name for name in wanted if name in names)
        if not ask:
            raise _nobody_there(wanted, names)
        return GateDecision(ask=ask, reason=why)

    def weights(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> None:
        """Heads are counted."""

    def _wanted(self, question: str, names: Sequence[str]) -> tuple[Sequence[str], str]:
        for number, rule in enumerate(self._rules, 1):
            if rule.holds(question):
                return rule.ask, f"rule {number} holds"
        return (names if self._otherwise is None else self._otherwise), "no rule holds"


def _place(loc: Sequence[int | str]) -> str:
    return ".".join(map(str, loc)) or "the rule"


def _nobody_there(wanted: Sequence[str], names: Sequence[str]) -> ConfigurationError:
    """A misspelt name, most likely."""
    return ConfigurationError(
        f"A rule asks {', '.join(wanted)}, and of these nobody proposes; there are {', '.join(names)}. Name "
        "them in the rule as the mixture does."
    )
