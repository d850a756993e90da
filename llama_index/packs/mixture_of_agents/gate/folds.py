"""Cross-fitting: every case judged by a model that was not trained on it.

It knows how to part cases, and nothing of what is learned from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
M = TypeVar("M")
R = TypeVar("R")

FOLDS = 5


def parted(cases: Sequence[T], seed: int, folds: int = FOLDS) -> Iterator[tuple[list[int], list[int]]]:
    """For each fold the places of the cases to learn from, and of those to judge; drawn from the seed."""
    order = np.random.default_rng(seed).permutation(len(cases))
    for fold in range(min(folds, len(cases))):
        held_out = sorted(int(place) for place in order[fold::folds])
        chosen = set(held_out)
        yield [place for place in range(len(cases)) if place not in chosen], held_out


def cross_fitted(
    cases: Sequence[T],
    learn: Callable[[list[T]], M],
    judge: Callable[[M, T], R],
    seed: int,
    folds: int = FOLDS,
) -> list[R]:
    """What a model says of each case that was trained on the other folds.

    Args:
        cases: In an order that stays.
        learn: Cases -> a model.
        judge: A model and a case -> what it says.
        seed: Of the folds.
        folds: How many.
    """
    said: dict[int, R] = {}
    for learning, held_out in parted(cases, seed, folds):
        model = learn([cases[place] for place in learning])
        said |= {place: judge(model, cases[place]) for place in held_out}
    return [said[place] for place in range(len(cases))]
