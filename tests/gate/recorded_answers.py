"""Sums that made-up models answered, more or less well: what gates learn from in tests."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.facts import ModelIdentity, SeatFacts
from llama_index.packs.mixture_of_agents.gate.ballots import Case
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.recorded import Sample
from llama_index.packs.mixture_of_agents.gate.training import cases_of
from llama_index.packs.mixture_of_agents.results import Proposal

SKILLS: Mapping[str, tuple[float, float]] = {"tiny": (0.6, 0.2), "small": (0.8, 0.3), "large": (0.97, 0.9)}
"""Name -> how often it is right on easy and on hard sums."""


def samples(
    count: int = 120,
    seed: int = 0,
    skills: Mapping[str, tuple[float, float]] = SKILLS,
    missing: float = 0.0,
) -> list[Sample]:
    """Questions with answers; each response is missing with that probability."""
    draw = random.Random(seed)
    return [_sample(draw, place, skills, missing) for place in range(count)]


def _sample(
    draw: random.Random, place: int, skills: Mapping[str, tuple[float, float]], missing: float
) -> Sample:
    is_hard = draw.random() < 0.5
    terms = [draw.randint(2, 9) for _ in range(7 if is_hard else 2)]
    right = sum(terms)
    responses = {
        name: _response(terms, right if draw.random() < skill[is_hard] else right + draw.randint(1, 50))
        for name, skill in skills.items()
        if draw.random() >= missing
    }
    question = f"A shop sells {', '.join(map(str, terms))} pens on its days. How many pens in all?"
    return Sample(id=f"q{place}", question=question, answer=str(right), responses=responses)


def _response(terms: Sequence[int], result: int) -> str:
    return f"All days together: {' + '.join(map(str, terms))} = {result}.\n#### {result}"


def cases(
    count: int = 120, seed: int = 0, reader: Reader | None = None, missing: float = 0.0
) -> tuple[list[Case], Reader]:
    """The samples as they are learned from, and their reader."""
    reader = reader or Reader("number")
    return cases_of(samples(count, seed, missing=missing), reader), reader


def written(path: Path, some: Sequence[Sample]) -> Path:
    """The samples as a file."""
    path.write_text("".join(f"{sample.model_dump_json()}\n" for sample in some), encoding="utf-8")
    return path


def document(text: str) -> dict[str, object]:
    """A text that holds one JSON object."""
    return dict(json.loads(text))


def asking(question: str) -> list[ChatMessage]:
    """A conversation of one question."""
    return [ChatMessage(role=MessageRole.USER, content=question)]


def seats(*names: str) -> list[SeatFacts]:
    """Who may be asked."""
    return [SeatFacts(name=name, identity=ModelIdentity(model=name)) for name in names]


def proposals(**texts: str) -> list[Proposal]:
    """Who answered, and what."""
    return [Proposal(proposer=name, layer=1, text=text) for name, text in texts.items()]
