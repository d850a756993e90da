"""Experts that start apart: noise on their weights, and drop-upcycling.

Equal experts get equal gradients wherever the router weighs them alike, so they part slowly. Noise moves
all weights a little; drop-upcycling (arXiv 2502.19261) draws a share of each expert's intermediate
units anew and leaves the others as the dense model learned them. It knows nothing of files or routers.

Shapes: F expert width, D model width.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Generator, Tensor

from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.recipe import UpcyclingRecipe

# Which dimension of a projection counts the intermediate units.
_UNIT_DIMENSION = {"gate_proj": 0, "up_proj": 0, "down_proj": 1}


def stream(seed: int, *path: object) -> Generator:
    """Make a generator of its own for each thing that is drawn.

    What is drawn for one expert then does not depend on how many others there are, or on their order.

    Args:
        seed: The recipe's.
        path: What is drawn, and where.
    """
    name = "/".join(map(str, (seed, *path)))
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def expert_weights(dense: Tensor, part: str, layer: int, expert: int, recipe: UpcyclingRecipe) -> Tensor:
    """Make one expert's projection of the dense one.

    Args:
        dense: (F, D) for gate and up projections, (D, F) for a down projection.
        part: "gate_proj", "up_proj" or "down_proj".
        layer: Number of the layer.
        expert: Number of the expert.
        recipe: How far the experts start apart.

    Returns:
        The expert's own tensor, of the same shape and dtype.
    """
    if recipe.experts_are_copies:
        return dense.clone()
    weights = dense.float().clone()
    place = (part, layer, expert)
    if recipe.reinitialize:
        units_F = reinitialized_units(weights.shape[_UNIT_DIMENSION[part]], layer, expert, recipe)
        _redraw(weights, _UNIT_DIMENSION[part], units_F, stream(recipe.seed, "redraw", *place))
    if recipe.noise:
        noise = torch.randn(weights.shape, generator=stream(recipe.seed, "noise", *place))
        weights += recipe.noise * dense.float().std(correction=0) * noise
    return weights.to(dense.dtype)


def reinitialized_units(width: int, layer: int, expert: int, recipe: UpcyclingRecipe) -> Tensor:
    """Choose the intermediate units of an expert that are drawn anew, the same in all its projections.

    Args:
        width: F.
        layer: Number of the layer.
        expert: Number of the expert.
        recipe: With the share and the seed.

    Returns:
        round(share * F) different indices, in ascending order.
    """
    shuffled_F = torch.randperm(width, generator=stream(recipe.seed, "units", layer, expert))
    return shuffled_F[: round(recipe.reinitialize * width)].sort().values


def _redraw(weights: Tensor, dimension: int, units: Tensor, generator: Generator) -> None:
    """Draw anew what these units held, with the mean and the spread of what they held."""
    dropped = weights.index_select(dimension, units)
    if not dropped.numel():
        return
    fresh = torch.randn(dropped.shape, generator=generator) * dropped.std(correction=0) + dropped.mean()
    weights.index_copy_(dimension, units, fresh)
