"""Who is kept, who is dropped and who goes elsewhere when an expert takes only so many tokens of a group.

Integers in, integers out: combine weights and router scores only decide an order here. Knows no model.

An assignment is one of a token's K choices; its number in the flattened (T, K) choice is token * K + slot.

Shapes: T tokens, K experts per token, E experts, G capacity groups, A = T * K assignments, B = G * E + 1
buckets (one per expert of each group, the last for padding).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings, capacity_of


@dataclass(frozen=True)
class Placement:
    """Where each assignment of a layer ended.

    Args:
        experts_TK: int64, the expert of each assignment, after rerouting.
        kept_TK: Whether it is computed; False for padding.
        rerouted_TK: Whether that is another expert than the router's choice.
    """

    experts_TK: Tensor
    kept_TK: Tensor
    rerouted_TK: Tensor


def group_capacities(
    group_sizes: Sequence[int], top_k: int, num_experts: int, settings: RoutingSettings
) -> tuple[int, ...]:
    """Return the capacity C of each group, see `capacity_of`."""
    by_size = {size: capacity_of(size, top_k, num_experts, settings) for size in set(group_sizes)}
    return tuple(by_size[size] for size in group_sizes)


def can_bind(capacities: Sequence[int], group_sizes: Sequence[int]) -> bool:
    """Tell whether any expert could be asked for more than it takes: a token never uses an expert twice."""
    return any(capacity < size for capacity, size in zip(capacities, group_sizes, strict=True))


def keep_within_capacity(
    experts_TK: Tensor,
    weights_TK: Tensor,
    groups_T: Tensor,
    capacities: Sequence[int],
    num_experts: int,
    priority: str = "weight",
) -> Tensor:
    """Keep the first C assignments of each expert in each group.

    Args:
        experts_TK: int64, the router's choice.
        weights_TK: The combine weights, for priority `"weight"`: the largest first, ties by position.
        groups_T: int64, each token's group; -1 for padding, which is never kept and takes no room.
        capacities: C of each group.
        num_experts: E.
        priority: `"weight"`, or `"position"`: the earliest tokens first.

    Returns:
        Bool (T, K): which assignments are kept.
    """
    order_A = _priority_order(weights_TK, priority)
    bucket_A = _buckets(experts_TK, groups_T, len(capacities), num_experts)
    order_A = order_A[torch.argsort(bucket_A[order_A], stable=True)]
    bucket_A = bucket_A[order_A]
    count_B = torch.bincount(bucket_A, minlength=len(capacities) * num_experts + 1)
    start_B = torch.cumsum(count_B, dim=0) - count_B
    rank_A = torch.arange(len(bucket_A), device=bucket_A.device) - start_B[bucket_A]
    capacity_G1 = torch.tensor([*capacities, 0], device=bucket_A.device)
    kept_A = torch.empty_like(bucket_A, dtype=torch.bool)
    kept_A[order_A] = rank_A < capacity_G1[bucket_A // num_experts]
    return kept_A.view_as(experts_TK)


def overflowing(kept_TK: Tensor, weights_TK: Tensor, groups_T: Tensor, priority: str = "weight") -> Tensor:
    """Return the numbers of the assignments that were not kept, in order of priority; padding is left out.

    Args:
        kept_TK: Which assignments are kept.
        weights_TK: The combine weights.
        groups_T: int64, each token's group; -1 for padding.
        priority: As in `keep_within_capacity`.

    Returns:
        int64 (number of overflowing assignments,).
    """
    over_TK = ~kept_TK & (groups_T >= 0).unsqueeze(1)
    order_A = _priority_order(weights_TK, priority)
    return order_A[over_TK.reshape(-1)[order_A]]


def place_elsewhere(
    experts_TK: Tensor,
    kept_TK: Tensor,
    groups_T: Tensor,
    capacities: Sequence[int],
    num_experts: int,
    overflow: Sequence[int],
    preferences: Mapping[int, Sequence[int]],
) -> Placement:
    """Send overflowing assignments to other experts, one after another, as long as there is room.

    Each takes the first expert of its token's preferences that has room in the token's group and that the
    token does not use already; without one it is dropped. What was kept stays where it is.

    Args:
        experts_TK: int64, the router's choice.
        kept_TK: Which assignments were kept there.
        groups_T: int64, each token's group; -1 for padding.
        capacities: C of each group.
        num_experts: E.
        overflow: Numbers of the assignments that were not kept, those that choose first coming first.
        preferences: For each token among them, the experts it may use, best first.

    Returns:
        Where everything ended.
    """
    top_k = experts_TK.shape[1]
    load = _load(experts_TK, kept_TK, groups_T, len(capacities), num_experts)
    groups = groups_T.tolist()
    used = {token: set(experts_TK[token].tolist()) for token in preferences}
    moved: dict[int, int] = {}
    for assignment in overflow:
        token = assignment // top_k
        first, room = groups[token] * num_experts, capacities[groups[token]]
        for expert in preferences[token]:
            if expert not in used[token] and load[first + expert] < room:
                load[first + expert] += 1
                used[token].add(expert)
                moved[assignment] = expert
                break
    return _moved(experts_TK, kept_TK, moved)


def _moved(experts_TK: Tensor, kept_TK: Tensor, moved: Mapping[int, int]) -> Placement:
    experts_TK, kept_TK, rerouted_TK = experts_TK.clone(), kept_TK.clone(), torch.zeros_like(kept_TK)
    places = torch.tensor(list(moved), dtype=torch.long, device=experts_TK.device)
    experts_TK.view(-1)[places] = torch.tensor(
        list(moved.values()), dtype=torch.long, device=experts_TK.device
    )
    kept_TK.view(-1)[places] = True
    rerouted_TK.view(-1)[places] = True
    return Placement(experts_TK, kept_TK, rerouted_TK)


def _priority_order(weights_TK: Tensor, priority: str) -> Tensor:
    if priority == "position":
        return torch.arange(weights_TK.numel(), device=weights_TK.device)
    return torch.argsort(weights_TK.reshape(-1), descending=True, stable=True)


def _buckets(experts_TK: Tensor, groups_T: Tensor, groups: int, num_experts: int) -> Tensor:
    buckets_TK = groups_T.unsqueeze(1) * num_experts + experts_TK
    return buckets_TK.masked_fill((groups_T < 0).unsqueeze(1), groups * num_experts).reshape(-1)


def _load(experts_TK: Tensor, kept_TK: Tensor, groups_T: Tensor, groups: int, num_experts: int) -> list[int]:
    bucket_A = _buckets(experts_TK, groups_T, groups, num_experts)[kept_TK.reshape(-1)]
    load: list[int] = torch.bincount(bucket_A, minlength=groups * num_experts + 1).tolist()
    return load
