"""The slow, obvious way: capacity, rerouting and experts as loops over numbers.

Written from the rules alone and sharing no code with the package; every fast path is compared with it.

Shapes: T tokens, K experts per token, E experts, D model width, F expert width, G capacity groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]


@dataclass
class Outcome:
    """Where every assignment ended; tables of (T, K)."""

    experts: Ints
    kept: Bools
    rerouted: Bools


def capacity(tokens: int, top_k: int, experts: int, factor: str, least: int = 1) -> int:
    """C of a group, in decimals."""
    share = Decimal(factor) * tokens * top_k / Decimal(experts)
    return max(least, int(share.to_integral_value(ROUND_CEILING)))


def by_priority(weights: Floats, priority: str) -> list[tuple[int, int]]:
    """All (token, slot), those that choose first coming first."""
    tokens, top_k = weights.shape
    pairs = [(token, slot) for token in range(tokens) for slot in range(top_k)]
    if priority == "weight":
        pairs.sort(key=lambda pair: (-float(weights[pair]), *pair))
    return pairs


def keep(
    experts: Ints, weights: Floats, groups: Sequence[int], capacities: Sequence[int], priority: str = "weight"
) -> Bools:
    """Go through assignments in order of priority; an expert says yes until it is full."""
    kept = np.zeros(experts.shape, dtype=bool)
    taken: dict[tuple[int, int], int] = {}
    for token, slot in by_priority(weights, priority):
        if groups[token] < 0:
            continue
        place = (groups[token], int(experts[token, slot]))
        if taken.get(place, 0) < capacities[groups[token]]:
            taken[place] = taken.get(place, 0) + 1
            kept[token, slot] = True
    return kept


def reroute(
    experts: Ints,
    weights: Floats,
    groups: Sequence[int],
    capacities: Sequence[int],
    scores: Floats,
    priority: str = "weight",
) -> Outcome:
    """Keep what fits; what does not takes the best free expert by `scores` (T, E), where -inf bars one."""
    kept = keep(experts, weights, groups, capacities, priority)
    experts, rerouted = experts.copy(), np.zeros(experts.shape, dtype=bool)
    for token, slot in by_priority(weights, priority):
        if kept[token, slot] or groups[token] < 0:
            continue
        best = None
        for expert in range(scores.shape[1]):
            if scores[token, expert] == -np.inf or expert in experts[token]:
                continue
            same_group = np.array(groups) == groups[token]
            load = int((kept & (experts == expert))[same_group].sum())
            if load < capacities[groups[token]] and (
                best is None or scores[token, expert] > scores[token, best]
            ):
                best = expert
        if best is not None:
            experts[token, slot], kept[token, slot], rerouted[token, slot] = best, True, True
    return Outcome(experts, kept, rerouted)


def feed_forward(hidden: Floats, gate_up: Floats, down: Floats) -> Floats:
    """One expert of Mixtral's kind for one token: silu(gate) * up, then down."""
    gate, up = np.split(gate_up @ hidden, 2)
    result: Floats = down @ (gate / (1 + np.exp(-gate)) * up)
    return result


def mixture(
    hidden: Floats, experts: Ints, weights: Floats, kept: Bools, gate_up: Floats, down: Floats
) -> Floats:
    """Every token times every kept assignment, one after another. Weights are (E, 2F, D) and (E, D, F)."""
    out = np.zeros(hidden.shape)
    for token in range(len(hidden)):
        for slot in range(experts.shape[1]):
            if kept[token, slot]:
                expert = experts[token, slot]
                out[token] += weights[token, slot] * feed_forward(
                    hidden[token], gate_up[expert], down[expert]
                )
    return out


def dense_mixture(hidden: Floats, chosen: Floats, gate_up: Floats, down: Floats) -> Floats:
    """All experts for all tokens, then weighted by `chosen` (T, E), which is 0 for those not chosen."""
    every = np.array(
        [[feed_forward(token, *pair) for pair in zip(gate_up, down, strict=True)] for token in hidden]
    )
    result: Floats = np.einsum("te,ted->td", chosen, every)
    return result
