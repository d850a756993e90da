"""Cross-fitting: every case judged by a model that was not trained on it, nor on its like.

A question that was asked twice is in one fold, or a model would be judged on what it was trained on. It knows
how to part cases, and nothing of what is learned from them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
M = TypeVar("M")
R = TypeVar("R")

FOLDS = 5


def parted(kin: Sequence[Hashable], seed: int, folds: int = FOLDS) -> Iterator[tuple[list[int], list[int]]]:
    """For each fold the places of the cases to learn from, and of those to judge; drawn from the seed.

    Args:
        kin: Of each case what it has in common with its like, which stay together: the question.
        seed: Of the folds.
        folds: How many.
    """
    families: dict[Hashable, list[int]] = {}
    for place, key in enumerate(kin):
        families.setdefault(key, []).append(place)
    places = list(families.values())
    order = np.random.default_rng(seed).permutation(len(places))
    for fold in range(min(folds, len(places))):
        held_out = sorted(place for family in order[fold::folds] for place in places[family])
        chosen = set(held_out)
        yield [place for place in range(len(kin)) if place not in chosen], held_out


def cross_fitted(
    cases: Sequence[T],
    learn: Callable[[list[T]], M],
    judge: Callable[[M, T], R],
    kin: Callable[[T], Hashable],
    seed: int,
    folds: int = FOLDS,
) -> list[R]:
    """What a model says of each case that was trained on the other folds.

    Args:
        cases: In an order that stays.
        learn: Cases -> a model.
        judge: A model and a case -> what it says.
        kin: A case -> what it has in common with its like.
        seed: Of the folds.
        folds: How many.
    """
    said: dict[int, R] = {}
    for learning, held_out in parted(list(map(kin, cases)), seed, folds):
        model = learn([cases[place] for place in learning])
        said |= {place: judge(model, cases[place]) for place in held_out}
    return [said[place] for place in range(len(cases))]
