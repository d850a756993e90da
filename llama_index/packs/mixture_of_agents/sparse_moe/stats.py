"""What the router did, in totals: load of each expert, dropped and rerouted assignments, entropy, capacity.

`RoutingStats` are plain numbers that add up, over the steps of a request and over the requests of a
model. They know neither where the counts come from (`recording`) nor engines nor torch.

Shapes: L layers, E experts. Layers may differ in E: counts are padded to the widest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_index.packs.mixture_of_agents.errors import SparseMoEError

Counts = npt.NDArray[np.int64]
Sums = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerLabel:
    """Which layer a count belongs to.

    Args:
        index: Number among the model's MoE layers.
        name: Path of its module.
        experts: How many it has.
    """

    index: int
    name: str
    experts: int


@dataclass(frozen=True)
class LayerStats:
    """One layer's totals.

    Args:
        label: Which layer.
        tokens: Tokens that came by.
        load: Assignments that each expert computed, rerouted ones included.
        dropped: Assignments that no expert computed.
        rerouted: Assignments that another expert computed than the router's choice; part of the load.
        entropy: Mean over tokens of the entropy, in nats, of the softmax of the router's logits; None
            where none was seen. `ln(experts)` means undecided, 0 certain.
        capacity: C of the largest group; None without a limit.
    """

    label: LayerLabel
    tokens: int
    load: tuple[int, ...]
    dropped: int
    rerouted: int
    entropy: float | None
    capacity: int | None

    @property
    def kept(self) -> int:
        """Assignments that an expert computed."""
        return sum(self.load)

    @property
    def imbalance(self) -> float | None:
        """Largest load over mean load: 1 is even, E is all on one expert. None before any token."""
        return max(self.load) * len(self.load) / self.kept if self.kept else None

    @property
    def relative_entropy(self) -> float | None:
        """The entropy as a share of the largest possible; None where that is 0 or none was seen."""
        largest = math.log(self.label.experts)
        return None if self.entropy is None or largest == 0 else self.entropy / largest

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "layer": self.label.index,
            "name": self.label.name,
            "capacity": self.capacity,
            "load": list(self.load),
            "kept": self.kept,
            "dropped": self.dropped,
            "rerouted": self.rerouted,
            "entropy": self.entropy,
            "tokens": self.tokens,
        }


@dataclass(frozen=True, eq=False)
class RoutingStats:
    """Totals of some tokens in every layer. `a + b` are the totals of both; the order does not matter.

    Args:
        labels: The layers, in order.
        tokens_L: Tokens that came by.
        load_LE: Assignments that were computed; 0 beyond a layer's own experts.
        dropped_L: Assignments that were not.
        rerouted_L: Those of the load that the router had sent elsewhere.
        entropy_L: Sum over tokens of the router's entropy, in nats.
        judged_L: Tokens in that sum: those whose logits were seen and finite.
        capacity_L: C of the largest group; 0 without a limit.
    """

    labels: tuple[LayerLabel, ...]
    tokens_L: Counts
    load_LE: Counts
    dropped_L: Counts
    rerouted_L: Counts
    entropy_L: Sums
    judged_L: Counts
    capacity_L: Counts

    @classmethod
    def zero(cls, labels: tuple[LayerLabel, ...]) -> RoutingStats:
        """Totals before the first token."""
        none_L = np.zeros(len(labels), np.int64)
        load_LE = np.zeros((len(labels), widest(labels)), np.int64)
        return cls(labels, none_L, load_LE, none_L, none_L, np.zeros(len(labels)), none_L, none_L)

    def __add__(self, other: RoutingStats) -> RoutingStats:
        """The totals of both.

        Raises:
            SparseMoEError: They are of different models.
        """
        if self.labels is not other.labels and self.labels != other.labels:
            raise SparseMoEError(
                f"statistics of {len(self.labels)} layers and of {len(other.labels)} others cannot be added; "
                "add those of one model"
            )
        return RoutingStats(
            self.labels,
            self.tokens_L + other.tokens_L,
            self.load_LE + other.load_LE,
            self.dropped_L + other.dropped_L,
            self.rerouted_L + other.rerouted_L,
            self.entropy_L + other.entropy_L,
            self.judged_L + other.judged_L,
            np.maximum(self.capacity_L, other.capacity_L),
        )

    @property
    def layers(self) -> tuple[LayerStats, ...]:
        """The totals layer by layer, as plain numbers."""
        return tuple(self._layer(position, label) for position, label in enumerate(self.labels))

    def _layer(self, at: int, label: LayerLabel) -> LayerStats:
        judged = int(self.judged_L[at])
        return LayerStats(
            label,
            tokens=int(self.tokens_L[at]),
            load=tuple(self.load_LE[at, : label.experts].tolist()),
            dropped=int(self.dropped_L[at]),
            rerouted=int(self.rerouted_L[at]),
            entropy=float(self.entropy_L[at]) / judged if judged else None,
            capacity=int(self.capacity_L[at]) or None,
        )

    @property
    def tokens(self) -> int:
        """Tokens that went through the model."""
        return int(self.tokens_L.max(initial=0))

    @property
    def dropped_share(self) -> float:
        """Share of all assignments that no expert computed."""
        return self._share(self.dropped_L)

    @property
    def rerouted_share(self) -> float:
        """Share of all assignments that went to another expert than the router chose."""
        return self._share(self.rerouted_L)

    def _share(self, part_L: Counts) -> float:
        assignments = int(self.load_LE.sum() + self.dropped_L.sum())
        return int(part_L.sum()) / assignments if assignments else 0.0

    @property
    def entropy(self) -> float | None:
        """Mean entropy of the router over tokens and layers, in nats; None where none was seen."""
        judged = int(self.judged_L.sum())
        return float(self.entropy_L.sum()) / judged if judged else None

    @property
    def imbalance(self) -> float | None:
        """Mean over layers of largest load over mean load; None before any token."""
        values = [layer.imbalance for layer in self.layers if layer.imbalance is not None]
        return sum(values) / len(values) if values else None

    @property
    def most_uneven(self) -> LayerStats | None:
        """The layer with the largest imbalance, the first of equals; None before any token."""
        return max(
            (layer for layer in self.layers if layer.kept),
            key=lambda layer: layer.imbalance or 0.0,
            default=None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON, as it stands in `raw["sparse_moe"]`."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "tokens": self.tokens,
            "dropped_share": self.dropped_share,
            "rerouted_share": self.rerouted_share,
            "entropy": self.entropy,
            "imbalance": self.imbalance,
        }


def widest(labels: tuple[LayerLabel, ...]) -> int:
    """E of the layer with the most experts; 0 without layers."""
    return max((label.experts for label in labels), default=0)
