"""Gates made of recorded answers: `trained` is the door to every kind that learns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.checks import shown, whole_number
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.ballots import Case
from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.cascade_training import train_cascade
from llama_index.packs.mixture_of_agents.gate.folds import FOLDS
from llama_index.packs.mixture_of_agents.gate.gated import GatedCascade
from llama_index.packs.mixture_of_agents.gate.gated_training import train_gated
from llama_index.packs.mixture_of_agents.gate.jury import LEAST_CASES
from llama_index.packs.mixture_of_agents.gate.order import Order, ordered
from llama_index.packs.mixture_of_agents.gate.question_features import QuestionFeatures
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.recorded import Sample, models_of
from llama_index.packs.mixture_of_agents.gate.scoring_gate import TOP_K, ScoringGate
from llama_index.packs.mixture_of_agents.gate.scoring_training import train_scoring
from llama_index.packs.mixture_of_agents.gate.targets import HALF, Target

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

LEAST = LEAST_CASES + math.ceil(LEAST_CASES / (FOLDS - 1))
"""Questions to learn from: without the fold that is held out there are still as many as a jury needs."""
KINDS = ("cascade", "gated", "network", "neighbours")


@dataclass(frozen=True)
class Recipe:
    """How a gate is to be made.

    Attributes:
        kind: "cascade"; "gated", a network before a cascade; "network" or "neighbours", which read the
            question alone.
        target: What its threshold keeps to.
        seed: Of everything that is drawn.
        costs: US dollars for a call, by model; where some are not known, the model most often right counts
            as the dearest.
        first: For a cascade: how many of the cheapest are asked at once; None for as many as are cheap.
        top_k: For the others: how many of the cheaper models are asked where the dearest is left out.
        embed: Name of the embedding model, kept with the gate; None for none.
    """

    kind: str = "cascade"
    target: Target = field(default_factory=lambda: Target(share=HALF))
    seed: int = 0
    costs: Mapping[str, float] = field(default_factory=dict)
    first: int | None = None
    top_k: int = TOP_K
    embed: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(f"kind must be one of {', '.join(KINDS)}; found {shown(self.kind)}.")
        whole_number("seed", self.seed, 0)
        whole_number("top_k", self.top_k, 1)
        if self.embed is not None and self.kind == "cascade":
            raise ConfigurationError(
                "A cascade does without an embedding model; embed is for the other kinds."
            )


def cases_of(samples: Sequence[Sample], reader: Reader, models: Sequence[str] | None = None) -> list[Case]:
    """Samples as they are learned from.

    Args:
        samples: Questions, right answers, answers given.
        reader: What an answer is.
        models: Whose answers count; None for everyone's.

    Raises:
        ConfigurationError: A right answer cannot be read as one.
    """
    cases = []
    for sample in samples:
        truth = reader.answer(sample.answer)
        if truth is None:
            raise ConfigurationError(
                f"The right answer of {sample.id or sample.question[:40]!r} is {shown(sample.answer)}, in "
                f"which {reader.extract!r} finds no answer. Correct it, or choose another way to extract."
            )
        kept = {n: t for n, t in sample.responses.items() if models is None or n in models}
        cases.append(Case(sample.model_copy(update={"responses": kept}), reader, truth))
    return cases


def trained(
    cases: Sequence[Case], reader: Reader, recipe: Recipe, embed_model: BaseEmbedding | None = None
) -> CascadeGate | GatedCascade | ScoringGate:
    """Make a gate.

    Args:
        cases: Of `cases_of`.
        reader: The same as there.
        recipe: How.
        embed_model: The model that `recipe.embed` names.

    Raises:
        ConfigurationError: Too few questions were answered, or a cost is none.
        MissingExtraError: The kind needs a library that is not installed.
    """
    # The order of a file's lines says nothing, and would draw other folds.
    cases = sorted(cases, key=_content)
    order, target, seed = _order(cases, recipe), recipe.target, recipe.seed
    if recipe.kind == "cascade":
        return train_cascade(cases, order, reader, target, seed=seed, first=recipe.first)
    if len(order.models) < 2:
        raise ConfigurationError("A gate that reads the question chooses between two models at least.")
    features, embed = QuestionFeatures(embed_model), recipe.embed
    if recipe.kind == "gated":
        return train_gated(cases, order, reader, target, features, seed=seed, first=recipe.first, embed=embed)
    return train_scoring(
        recipe.kind, cases, order, reader, target, features, seed=seed, top_k=recipe.top_k, embed=embed
    )


def _content(case: Case) -> tuple[str, str, list[tuple[str, str]]]:
    return case.sample.question, case.truth, sorted(case.sample.responses.items())


def _order(cases: Sequence[Case], recipe: Recipe) -> Order:
    models = models_of(case.sample for case in cases)
    if not models:
        raise ConfigurationError("Nobody answered any question: there is nothing to learn from.")
    if len(cases) < LEAST:
        raise ConfigurationError(
            f"There are {len(cases)} questions; a gate needs {LEAST} at least to learn from, and some "
            "hundreds to learn well. Record more answers."
        )
    seldom = [m for m in models if sum(m in case.sample.responses for case in cases) < LEAST]
    if seldom:
        raise ConfigurationError(
            f"{', '.join(seldom)} answered fewer than {LEAST} of {len(cases)} questions, too few to "
            "learn from. Leave such models out, or record more of their answers."
        )
    return ordered(cases, models, recipe.costs)
