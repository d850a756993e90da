"""What `SparseMoELayer` must answer, worked out one token and one choice at a time.

No tensor operation decides anything here; of the layer, only weights and settings are read.

Shapes: B sequences, S tokens each, D model width, E experts.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_index.packs.mixture_of_agents.sparse_moe.layer import SparseMoELayer

Array = npt.NDArray[Any]


@dataclass
class Seat:
    """One of a token's K choices: the expert it goes to, and what becomes of it."""

    token: int
    slot: int
    expert: int
    weight: float
    group: object
    kept: bool = False
    rerouted: bool = False


def oracle(layer: SparseMoELayer, hidden_BSD: Array, real_BS: Array) -> tuple[Array, list[Seat]]:
    """The layer's output, and every assignment in the order of tokens and choices."""
    places = [tuple(place) for place in np.argwhere(real_BS)]
    scores = [softmax(layer.gate.weight.detach().numpy() @ hidden_BSD[place]) for place in places]
    groups = [group_of(layer, real_BS, *place) for place in places]
    seats = [
        seat for token in range(len(places)) for seat in choices(layer, token, scores[token], groups[token])
    ]
    for group, tokens in Counter(groups).items():
        seat_group(layer, [seat for seat in seats if seat.group == group], tokens, scores)
    output_BSD = np.zeros_like(hidden_BSD)
    for seat in seats:
        if seat.kept:
            hidden_D = hidden_BSD[places[seat.token]]
            output_BSD[places[seat.token]] += seat.weight * answer(layer, seat.expert, hidden_D)
    return output_BSD, seats


def softmax(logits_E: Array) -> Array:
    powers_E = np.exp(logits_E - logits_E.max())
    probabilities_E: Array = powers_E / powers_E.sum()
    return probabilities_E


def group_of(layer: SparseMoELayer, real_BS: Array, row: int, column: int) -> object:
    if layer.settings.capacity_scope == "batch":
        return "all"
    return row, int(real_BS[row, :column].sum()) // layer.settings.capacity_block


def choices(layer: SparseMoELayer, token: int, scores_E: Array, group: object) -> list[Seat]:
    top_k = layer.settings.top_k
    best = best_first(scores_E)[:top_k]
    scale = 1.0 if top_k == 1 else 1 / sum(scores_E[best])
    return [Seat(token, slot, expert, scores_E[expert] * scale, group) for slot, expert in enumerate(best)]


def best_first(scores_E: Array) -> list[int]:
    return sorted(range(len(scores_E)), key=lambda expert: -scores_E[expert])


def seat_group(layer: SparseMoELayer, seats: list[Seat], tokens: int, scores: list[Array]) -> None:
    options, room, load = layer.settings, room_of(layer, tokens), Counter[int]()
    before = {seat.token: 0.0 for seat in seats}
    for seat in seats:
        before[seat.token] += seat.weight
    if options.capacity_priority == "weight":
        seats = sorted(seats, key=lambda seat: (-seat.weight, seat.token, seat.slot))
    for seat in seats:
        seat.kept = load[seat.expert] < room
        load[seat.expert] += seat.kept
    for seat in seats:
        if options.overflow == "reroute" and not seat.kept:
            move(seat, seats, load, room, scores[seat.token])
    for token in before if options.renormalize else ():
        kept = [seat for seat in seats if seat.token == token and seat.kept]
        total = sum(seat.weight for seat in kept)
        for seat in kept:
            seat.weight *= before[token] / total


def room_of(layer: SparseMoELayer, tokens: int) -> int:
    options = layer.settings
    if options.capacity_factor is None:
        return tokens
    assert options.top_k is not None
    share = options.capacity_factor * tokens * options.top_k / len(layer.gate.weight)
    return max(options.min_capacity, math.ceil(share - 1e-9))


def move(seat: Seat, seats: list[Seat], load: Counter[int], room: int, scores_E: Array) -> None:
    used = {other.expert for other in seats if other.token == seat.token}
    for expert in best_first(scores_E):
        if expert not in used and load[expert] < room:
            seat.weight *= scores_E[expert] / scores_E[seat.expert]
            seat.expert, seat.kept, seat.rerouted = expert, True, True
            load[expert] += 1
            return


def answer(layer: SparseMoELayer, expert: int, hidden_D: Array) -> Array:
    weights = {name: value.detach().numpy()[expert] for name, value in layer.experts.named_parameters()}
    if "up_proj" in weights:
        inner = np.maximum(weights["up_proj"] @ hidden_D, 0)
    else:
        gate, up = np.split(weights["gate_up_proj"] @ hidden_D, 2)
        inner = gate / (1 + np.exp(-gate)) * up
    result: Array = weights["down_proj"] @ inner
    return result
