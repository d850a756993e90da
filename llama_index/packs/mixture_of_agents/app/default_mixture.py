"""The mixture that is asked when nobody names models: three roles on one local model.

Its numbers are what was seen to work with a model of 135 M parameters. It does not know where the
model's files come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.strategies import ROLES

_BRIEF = "Answer in at most five sentences."
_PROPOSAL_TOKENS = 160
"""Five sentences fit; a small model that runs on repeats itself."""
_ANSWER_TOKENS = 300
_ANSWER_TEMPERATURE = 0.2


@dataclass(frozen=True)
class _Seat:
    name: str
    role: str
    temperature: float


_SEATS = tuple(
    _Seat(name, f"{role} {_BRIEF}", temperature)
    for name, role, temperature in zip(("expert", "critic", "teacher"), ROLES, (0.3, 0.7, 0.5), strict=False)
)


@dataclass(frozen=True)
class Wishes:
    """What the caller wants other than the defaults; None leaves them.

    Attributes:
        temperature: Of every call.
        max_tokens: Of every call.
        seed: Of the first proposer; each further one gets the next number.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


def default_proposers(llm: Any, wishes: Wishes, strategy: str = "model") -> list[Proposer]:
    """Three proposers that differ in role, temperature and seed, all on one model.

    A strategy that makes several of one gets one that is nobody in particular.
    """
    if strategy != "model":
        limit = _or(wishes.max_tokens, _PROPOSAL_TOKENS)
        return [
            Proposer(llm, name="local", temperature=wishes.temperature, max_tokens=limit, seed=wishes.seed)
        ]
    return [
        Proposer(
            llm,
            name=seat.name,
            role=seat.role,
            temperature=_or(wishes.temperature, seat.temperature),
            max_tokens=_or(wishes.max_tokens, _PROPOSAL_TOKENS),
            seed=seed,
        )
        for seat, seed in zip(_SEATS, seeds(wishes.seed, len(_SEATS)), strict=True)
    ]


def default_aggregator(llm: Any, wishes: Wishes) -> Proposer:
    """The same model once more, cooler and with more room, to write the answer."""
    return Proposer(
        llm,
        name="aggregator",
        temperature=_or(wishes.temperature, _ANSWER_TEMPERATURE),
        max_tokens=_or(wishes.max_tokens, _ANSWER_TOKENS),
        seed=wishes.seed,
    )


def named_proposers(llms: Sequence[Any], wishes: Wishes) -> list[Proposer]:
    """A proposer for each model the caller named; seeds differ, so that equal models do too."""
    return [Proposer(llm, seed=seed) for llm, seed in zip(llms, seeds(wishes.seed, len(llms)), strict=True)]


def seeds(first: int | None, number: int) -> list[int | None]:
    """So many seeds from the first one on; no seeds where there is none."""
    return [None if first is None else first + n for n in range(number)]


def _or(wished: Any, default: Any) -> Any:
    return default if wished is None else wished
