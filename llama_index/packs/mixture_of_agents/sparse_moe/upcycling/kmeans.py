"""A router made of hidden states: directions that tell tokens apart, balanced, and not too sure.

A softmax router without a bias scores token h for expert e as w_e . h. Three things make plain
centroids of the states poor rows for it, and are dealt with here:

- All states of a layer share a large common direction, their mean. A row's part along it adds the same
  to every token's score, and the expert with most of it gets every token. So that direction is taken
  out of the states before they are clustered (spherical k-means with k-means++ seeding).
- Clusters differ in size. Put back in a measured dose, the common direction acts as the bias that
  the router lacks, and evens out the load.
- Rows of length one may leave the softmax flat, or next to certain. All rows are scaled by one number.

It knows nothing of models or text.

Shapes: T tokens, D model width, E experts, K top-k.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

_ROUNDS = 30
_BALANCING_STEPS = 200
_TINY = 1e-6


def router_rows(states_TD: Tensor, experts: int, top_k: int, generator: Generator) -> Tensor:
    """Fit a layer's router to the hidden states that enter it.

    Args:
        states_TD: Hidden states after the norm, of at least as many tokens as there are experts.
        experts: E, at least 2.
        top_k: K.
        generator: For the seeding of k-means.

    Returns:
        weights_ED: On these tokens the load is close to even, and the K chosen experts hold on average
        half of what lies between their share under a flat softmax, K / E, and all (K = E: as for E - 1).
    """
    mean_D = states_TD.mean(0)
    common_D = normalize(mean_D, dim=0)
    along_T = states_TD @ common_D
    varying_TD = states_TD - along_T[:, None] * common_D
    rows_ED = spherical_kmeans(normalize(varying_TD), experts, generator)
    if (length := float(mean_D.norm())) > _TINY:
        bias_E = balancing_bias(varying_TD @ rows_ED.T, along_T / length, top_k)
        rows_ED = rows_ED + bias_E[:, None] * common_D / length
    return rows_ED * sharpness(states_TD @ rows_ED.T, min(top_k, experts - 1))


def spherical_kmeans(points_TD: Tensor, clusters: int, generator: Generator) -> Tensor:
    """Cluster directions by their cosine (Dhillon and Modha, 2001).

    Args:
        points_TD: Unit vectors, at least as many as clusters.
        clusters: How many.
        generator: For the seeding (k-means++, Arthur and Vassilvitskii, 2007).

    Returns:
        Unit vectors (clusters, D).
    """
    centroids_ED = _seeds(points_TD, clusters, generator)
    for _ in range(_ROUNDS):
        cosines_TE = points_TD @ centroids_ED.T
        nearest_T = cosines_TE.argmax(1)
        sums_ED = torch.zeros_like(centroids_ED).index_add_(0, nearest_T, points_TD)
        for empty in (torch.bincount(nearest_T, minlength=clusters) == 0).nonzero().flatten():
            # A cluster that lost all its points starts again at the one that is served worst.
            worst = cosines_TE.max(1).values.argmin()
            sums_ED[empty], cosines_TE[worst] = points_TD[worst], 1.0
        moved_ED = normalize(sums_ED)
        if torch.equal(moved_ED, centroids_ED):
            break
        centroids_ED = moved_ED
    return centroids_ED


def _seeds(points_TD: Tensor, clusters: int, generator: Generator) -> Tensor:
    first = int(torch.randint(len(points_TD), (1,), generator=generator))
    chosen = [first]
    nearest_T = points_TD @ points_TD[first]
    while len(chosen) < clusters:
        # The squared distance between unit vectors is 2 - 2 cos.
        distances_T = (1 - nearest_T).clamp(min=_TINY)
        distances_T[chosen] = 0
        chosen.append(int(torch.multinomial(distances_T, 1, generator=generator)))
        nearest_T = torch.maximum(nearest_T, points_TD @ points_TD[chosen[-1]])
    return points_TD[chosen]


def balancing_bias(scores_TE: Tensor, strength_T: Tensor, top_k: int) -> Tensor:
    """Find what to add to each expert's scores so that the load is close to even.

    Experts with more than their share lose a little, the others gain, in ever smaller steps; the bias
    with the smallest largest load wins, and none at all is the first candidate.

    Args:
        scores_TE: Scores without bias.
        strength_T: What a bias is multiplied by for each token, 1 on average.
        top_k: K.

    Returns:
        bias_E, summing to zero.
    """
    E = scores_TE.shape[1]
    step = float(scores_TE.std())
    bias_E = best_E = torch.zeros(E)
    smallest = float("inf")
    for turn in range(_BALANCING_STEPS):
        load_E = loads(scores_TE + strength_T[:, None] * bias_E, top_k)
        if float(load_E.max()) < smallest:
            smallest, best_E = float(load_E.max()), bias_E
        bias_E = bias_E - step / E / (1 + turn / 10) * (load_E - 1)
        bias_E = bias_E - bias_E.mean()
    return best_E


def loads(scores_TE: Tensor, top_k: int) -> Tensor:
    """Say how much each expert gets, as a multiple of an even share (E,)."""
    T, E = scores_TE.shape
    chosen_TK = scores_TE.topk(top_k, dim=1).indices
    return torch.bincount(chosen_TK.flatten(), minlength=E) * (E / (T * top_k))


def sharpness(scores_TE: Tensor, top_k: int) -> float:
    """Find the scale at which the top K of a softmax hold (1 + K / E) / 2 on average.

    Args:
        scores_TE: Scores at scale one.
        top_k: K, less than E.

    Returns:
        The scale, found by halving an interval; 1 if all scores are equal.
    """
    E = scores_TE.shape[1]
    spread = float((scores_TE - scores_TE.mean(1, keepdim=True)).std())
    if spread < _TINY:
        return 1.0
    wanted = (1 + top_k / E) / 2
    low, high = 1e-3 / spread, 1e3 / spread
    for _ in range(40):
        middle = (low * high) ** 0.5
        top_TK = (middle * scores_TE).softmax(1).topk(top_k, dim=1).values
        low, high = (middle, high) if float(top_TK.sum(1).mean()) < wanted else (low, middle)
    return low
