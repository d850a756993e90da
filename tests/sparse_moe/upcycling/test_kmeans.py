"""Rows of a k-means router: clusters found, load even, common direction harmless, softmax not too sure."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.kmeans import (
    balancing_bias,
    loads,
    router_rows,
    sharpness,
    spherical_kmeans,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _clustered(sizes: tuple[int, ...], width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Tight clusters around random directions, with a large vector added to all points."""
    generator = _generator(5)
    directions_ED = normalize(torch.randn(len(sizes), width, generator=generator))
    labels_T = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    noise_TD = 0.05 * torch.randn(len(labels_T), width, generator=generator)
    common_D = 3.0 * torch.randn(width, generator=generator)
    return directions_ED[labels_T] + noise_TD + common_D, labels_T


def test_clusters_are_found() -> None:
    states_TD, labels_T = _clustered((40, 40, 40))
    points_TD = normalize(states_TD - states_TD.mean(0))
    nearest_T = (points_TD @ spherical_kmeans(points_TD, 3, _generator()).T).argmax(1)
    for label in range(3):
        assert len(set(nearest_T[labels_T == label].tolist())) == 1
    assert len(set(nearest_T.tolist())) == 3


def test_a_common_direction_does_not_decide() -> None:
    """Rows of raw centroids would send nearly all tokens of these to one expert."""
    states_TD, labels_T = _clustered((40, 40, 40, 40))
    rows_ED = router_rows(states_TD, 4, 1, _generator())
    chosen_T = (states_TD @ rows_ED.T).argmax(1)
    assert torch.allclose(loads(states_TD @ rows_ED.T, 1), torch.ones(4))
    assert {len(set(chosen_T[labels_T == label].tolist())) for label in range(4)} == {1}


def test_uneven_clusters_still_share_the_load() -> None:
    states_TD, _ = _clustered((200, 20, 20, 20))
    load_E = loads(states_TD @ router_rows(states_TD, 4, 2, _generator()).T, 2)
    assert float(load_E.max()) < 1.3
    assert float(load_E.min()) > 0.5


@settings(max_examples=25, deadline=None)
@given(
    experts=st.integers(2, 9),
    extra=st.integers(0, 60),
    width=st.integers(2, 12),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_any_states_give_finite_rows_and_no_idle_cluster(
    experts: int, extra: int, width: int, seed: int, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, experts))
    states_TD = torch.randn(experts + extra, width, generator=_generator(seed)) + 1
    rows_ED = router_rows(states_TD, experts, top_k, _generator(seed))
    assert rows_ED.shape == (experts, width)
    assert bool(rows_ED.isfinite().all())
    again_ED = router_rows(states_TD, experts, top_k, _generator(seed))
    assert torch.equal(again_ED, rows_ED)
    points_TD = normalize(states_TD)
    centroids_ED = spherical_kmeans(points_TD, experts, _generator(seed))
    assert torch.allclose(centroids_ED.norm(dim=1), torch.ones(experts), atol=1e-4)


def test_equal_states_are_survived() -> None:
    rows_ED = router_rows(torch.ones(10, 8), 4, 2, _generator())
    assert bool(rows_ED.isfinite().all())


def test_balancing_never_makes_it_worse_and_usually_better() -> None:
    scores_TE = torch.randn(500, 6, generator=_generator()) + torch.tensor([1.0, 0.5, 0, 0, -0.5, -1.0])
    strength_T = torch.ones(500)
    bias_E = balancing_bias(scores_TE, strength_T, 2)
    before, after = float(loads(scores_TE, 2).max()), float(loads(scores_TE + bias_E, 2).max())
    assert before > 1.5
    assert after < 1.1
    useless_E = balancing_bias(scores_TE, torch.zeros(500), 2)
    assert torch.equal(useless_E, torch.zeros(6))


def test_loads_count_multiples_of_an_even_share() -> None:
    scores_TE = torch.tensor([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]])
    assert loads(scores_TE, 1).tolist() == [3.0, 0.0, 0.0]
    assert loads(scores_TE, 2).tolist() == [1.5, 0.75, 0.75]


@pytest.mark.parametrize(("experts", "top_k"), [(4, 1), (4, 2), (8, 2), (64, 8), (3, 2)])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 50.0])
def test_the_chosen_experts_hold_what_is_promised(experts: int, top_k: int, spread: float) -> None:
    scores_TE = spread * torch.randn(400, experts, generator=_generator())
    scale = sharpness(scores_TE, top_k)
    held = (scale * scores_TE).softmax(1).topk(top_k, dim=1).values.sum(1).mean()
    assert float(held) == pytest.approx((1 + top_k / experts) / 2, abs=1e-3)


def test_equal_scores_need_no_scale() -> None:
    assert sharpness(torch.ones(5, 4), 2) == 1.0
