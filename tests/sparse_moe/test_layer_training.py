"""The layer trains: points from eight clusters, each turned into its answer by a matrix of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from llama_index.packs.mixture_of_agents.sparse_moe.gating import Routing
from llama_index.packs.mixture_of_agents.sparse_moe.layer import SparseMoELayer


class Clusters:
    def __init__(self) -> None:
        fixed = torch.Generator().manual_seed(1)
        self.centres_CD = 3 * torch.linalg.qr(torch.randn(8, 8, generator=fixed)).Q
        self.maps_CDD = torch.randn(8, 8, 8, generator=fixed) / 8**0.5

    def draw(self, points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        cluster_T = torch.randint(8, (points,), generator=generator)
        points_TD = self.centres_CD[cluster_T] + 0.5 * torch.randn(points, 8, generator=generator)
        return points_TD.unsqueeze(0), torch.einsum("tij,tj->ti", self.maps_CDD[cluster_T], points_TD)


def trained(experts: int, balance: float, **options: Any) -> tuple[float, Routing]:
    """A layer's error on new points after 400 steps, and how it routes them."""
    torch.manual_seed(0)
    layer, problem = SparseMoELayer(8, 8, experts, 1, kind="relu", **options), Clusters()
    optimizer, points = torch.optim.Adam(layer.parameters(), lr=1e-2), torch.Generator().manual_seed(2)
    for _ in range(400):
        hidden_BSD, wanted_TD = problem.draw(256, points)
        output_BSD, routing = layer(hidden_BSD)
        error = functional.mse_loss(output_BSD[0], wanted_TD)
        optimizer.zero_grad()
        (error + balance * routing.load_balancing_loss + 1e-4 * routing.router_z_loss).backward()
        optimizer.step()
    hidden_BSD, wanted_TD = problem.draw(2048, torch.Generator().manual_seed(3))
    with torch.no_grad():
        output_BSD, routing = layer(hidden_BSD)
    return functional.mse_loss(output_BSD[0], wanted_TD).item(), routing


def test_it_learns_what_a_dense_network_of_the_active_size_cannot() -> None:
    dense, _ = trained(1, 0.0)
    mixture, routing = trained(8, 0.1)
    assert mixture < dense / 5
    assert max(routing.load.tolist()) < 1.5 * 2048 / 8
    assert min(routing.load.tolist()) > 0.5 * 2048 / 8


def test_without_the_balancing_loss_experts_lie_idle() -> None:
    _, alone = trained(8, 0.0)
    assert sum(load < 20 for load in alone.load.tolist()) >= 2
    assert max(alone.load.tolist()) > 2 * 2048 / 8
