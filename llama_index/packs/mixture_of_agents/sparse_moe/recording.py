"""Listens to a model's routing while it runs, and counts when it has run.

During a forward only references are kept. Then all layers of equal shape are counted together, by one
count over (layer, row, expert), because a decoding step has many layers and few tokens. Without a
recorder in the plan none of this is called. It knows nothing of how experts are chosen, of engines or
of text.

Shapes: M layers of equal shape, T tokens, K experts per token, E experts, G capacity groups, R rows
(requests), L all layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from llama_index.packs.mixture_of_agents.sparse_moe.stats import LayerLabel, RoutingStats, widest

if TYPE_CHECKING:
    from torch import Tensor

    from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer
    from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, LayerRouting

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Observation:
    """What one layer did in one forward.

    Args:
        layer: Which.
        routing: Who went where.
        plan: Whose the tokens are.
    """

    layer: MoELayer
    routing: LayerRouting
    plan: ForwardPlan


class RoutingRecorder:
    """The `plans.Recorder` that makes `RoutingStats`.

    Used by one thread at a time. It may serve any number of forwards; `collect` after each, since what
    was observed keeps its tensors alive until then.

    Args:
        layers: The layers that will report.
    """

    def __init__(self, layers: Sequence[MoELayer]) -> None:
        self._labels = labels_of(layers)
        self._positions = {label.index: position for position, label in enumerate(self._labels)}
        self._seen: list[Observation] = []

    @property
    def labels(self) -> tuple[LayerLabel, ...]:
        """The layers, in order."""
        return self._labels

    @property
    def observations(self) -> tuple[Observation, ...]:
        """What was seen since the last `collect`, in the order of the forward."""
        return tuple(self._seen)

    def observe(self, layer: MoELayer, routing: LayerRouting, plan: ForwardPlan) -> None:
        """Keep what a layer did. Nothing is computed while the model runs."""
        self._seen.append(Observation(layer, routing, plan))

    def discard(self) -> None:
        """Forget what was seen since the last `collect`: the forward failed."""
        self._seen.clear()

    def collect(self, rows: int) -> list[RoutingStats]:
        """Count what was seen since the last call, and forget it.

        Args:
            rows: R of the forward, the number of rows that `rows_T` tells apart.

        Returns:
            The totals of each row.
        """
        seen, self._seen = self._seen, []
        tally = _Tally(self._labels, rows)
        for alike in _alike(seen):
            tally.add(alike, [self._positions[one.layer.index] for one in alike])
        return [tally.row(number) for number in range(rows)]


def labels_of(layers: Sequence[MoELayer]) -> tuple[LayerLabel, ...]:
    """Name layers where the model itself is out of reach."""
    return tuple(LayerLabel(layer.index, layer.name, layer.num_experts) for layer in layers)


def _alike(seen: Sequence[Observation]) -> Iterable[list[Observation]]:
    """Group what can be stacked: same forward, same number of experts and choices, logits or none."""
    groups: dict[tuple[object, ...], list[Observation]] = {}
    for one in seen:
        width = one.routing.experts_TK.shape[1]
        key = (id(one.plan), one.layer.num_experts, width, one.routing.logits_TE is None)
        groups.setdefault(key, []).append(one)
    return groups.values()


class _Tally:
    """Totals of all rows, filled by one group of equal layers after the other."""

    def __init__(self, labels: tuple[LayerLabel, ...], rows: int) -> None:
        self._labels, self._rows = labels, rows
        shape = (len(labels), rows)
        self._load_LRE = np.zeros((*shape, widest(labels)), np.int64)
        self._tokens_LR, self._dropped_LR, self._rerouted_LR, self._judged_LR, self._capacity_LR = np.zeros(
            (5, *shape), np.int64
        )
        self._entropy_LR = np.zeros(shape)

    def add(self, alike: Sequence[Observation], positions: Sequence[int]) -> None:
        """Count layers of equal shape in; `positions` says which they are."""
        plan, experts = alike[0].plan, alike[0].layer.num_experts
        rows = _Rows(plan.rows_T, len(alike), self._rows)
        at = np.asarray(positions)
        load_MRE, dropped_MR = _loads(alike, rows, experts)
        np.add.at(self._load_LRE[..., :experts], at, load_MRE)
        np.add.at(self._dropped_LR, at, dropped_MR)
        np.add.at(self._tokens_LR, at, rows.tokens_R)
        if plan.settings.limited:
            rerouted_MT = _stacked(alike, "rerouted_TK").sum(-1)
            np.add.at(self._rerouted_LR, at, rows.sums(rerouted_MT).astype(np.int64))
            np.maximum.at(self._capacity_LR, at, _largest_capacities(alike[0], rows))
        if alike[0].routing.logits_TE is not None:
            entropy_MT = _entropies(alike)
            judged_MT = np.isfinite(entropy_MT)
            np.add.at(self._entropy_LR, at, rows.sums(np.where(judged_MT, entropy_MT, 0)))
            np.add.at(self._judged_LR, at, rows.sums(judged_MT).astype(np.int64))

    def row(self, number: int) -> RoutingStats:
        """The totals of one row."""
        return RoutingStats(
            self._labels,
            self._tokens_LR[:, number],
            self._load_LRE[:, number],
            self._dropped_LR[:, number],
            self._rerouted_LR[:, number],
            self._entropy_LR[:, number],
            self._judged_LR[:, number],
            self._capacity_LR[:, number],
        )


class _Rows:
    """Whose each token is, for M layers at once. Padding goes to a row of its own, which is cut off."""

    def __init__(self, rows_T: Tensor, layers: int, rows: int) -> None:
        numbers_T = rows_T.cpu().numpy()
        self.number_T = np.where(numbers_T >= 0, numbers_T, rows)
        self.cell_MT = np.arange(layers)[:, None] * (rows + 1) + self.number_T
        self.tokens_R = np.bincount(self.number_T, minlength=rows + 1)[:rows]
        self._layers, self._rows = layers, rows

    def counts(self, bins_MTK: Array, bins: int) -> Array:
        """Count, for each layer and row, how often each bin occurs."""
        index_MTK = self.cell_MT[..., None] * bins + bins_MTK
        size = self._layers * (self._rows + 1) * bins
        counted = np.bincount(index_MTK.ravel(), minlength=size)
        return counted.reshape(self._layers, self._rows + 1, bins)[:, : self._rows]

    def sums(self, values_MT: Array) -> Array:
        """Add up, for each layer and row, the values of its tokens."""
        size = self._layers * (self._rows + 1)
        summed = np.bincount(self.cell_MT.ravel(), weights=values_MT.ravel(), minlength=size)
        return summed.reshape(self._layers, self._rows + 1)[:, : self._rows]


def _stacked(alike: Sequence[Observation], name: str) -> Array:
    stacked: Array = torch.stack([getattr(one.routing, name) for one in alike]).cpu().numpy()
    return stacked


def _loads(alike: Sequence[Observation], rows: _Rows, experts: int) -> tuple[Array, Array]:
    """Kept assignments by expert, (M, R, E), and dropped ones, (M, R), which are one bin more."""
    kept_MTK = _stacked(alike, "kept_TK")
    bins_MTK = np.where(kept_MTK, _stacked(alike, "experts_TK"), experts)
    counted = rows.counts(bins_MTK, experts + 1)
    return counted[..., :experts], counted[..., experts]


def _largest_capacities(one: Observation, rows: _Rows) -> Array:
    """Each row's largest C. Layers that are alike have the same, by its definition."""
    groups_T, capacity_G = one.plan.groups_T.cpu().numpy(), one.routing.capacity_G.cpu().numpy()
    real_T = groups_T >= 0
    largest_R = np.zeros(rows.tokens_R.size + 1, np.int64)
    np.maximum.at(largest_R, rows.number_T[real_T], capacity_G[groups_T[real_T]])
    return largest_R[:-1]


def _entropies(alike: Sequence[Observation]) -> Array:
    """Entropy in nats of the softmax of each token's logits; expert probabilities of 0 add nothing."""
    logits_MTE = torch.stack([one.routing.logits_TE for one in alike if one.routing.logits_TE is not None])
    entropy_MT: Array = torch.special.entr(logits_MTE.float().softmax(-1)).sum(-1).cpu().numpy()
    return entropy_MT
