"""The card of an upcycled model: what was made of what, and how. Only text; it makes nothing itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.dense_source import DenseSource
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.mappings import shared_width
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.recipe import UpcyclingRecipe

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_init import Routers


def card(dense: DenseSource, recipe: UpcyclingRecipe, routers: Routers, dtype: str) -> str:
    """Write the README.md of the mixture; the same for the same source and recipe.

    Args:
        dense: What it was made of.
        recipe: How.
        routers: Its routers.
        dtype: Of its weights.
    """
    licence = dense.licence or "unknown: ask whoever made the source model"
    front = f"---\nlicense: {dense.licence}\n---\n\n" if dense.licence else ""
    return f"""{front}# {dense.name}, upcycled to {recipe.experts} experts

A sparse mixture of experts (`{dense.mapping.moe_class}`, {recipe.experts} experts, {recipe.top_k} per token)
made by `moa upcycle` from the dense model {dense.name} ({dense.origin.name}).

## Source

- Architecture: `{dense.mapping.dense_class}`
- Licence of the source model: {licence}. It holds for this copy too.
{_files(dense.files)}

## How it was made

- Weights: {dtype}
- Experts: {_experts(recipe)}
- Router: {_router(recipe, routers)}
- Seed: {recipe.seed}

## What stays the same

{_kept(dense, recipe)}

## How to use it

```python
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM

llm = SparseMoELLM("path/to/this/folder")
print(llm.complete("Once upon a time"))
```

It is a stock checkpoint: transformers' `AutoModelForCausalLM.from_pretrained` loads it as well.
"""


def _files(files: Sequence[Path]) -> str:
    return "\n".join(
        f"- `{path.name}`: {path.stat().st_size} bytes, sha256 `{_sha256(path)}`" for path in files
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _experts(recipe: UpcyclingRecipe) -> str:
    if recipe.experts_are_copies:
        return "copies of the dense feed-forward network"
    changes = []
    if recipe.reinitialize:
        changes.append(
            f"{recipe.reinitialize:.4g} of the intermediate units of each drawn anew (drop-upcycling, "
            "arXiv 2502.19261)"
        )
    if recipe.noise:
        changes.append(f"Gaussian noise on each matrix, {recipe.noise:.4g} times its standard deviation")
    return f"the dense feed-forward network, with {', then '.join(changes)}"


def _router(recipe: UpcyclingRecipe, routers: Routers) -> str:
    if routers.worst_load is None:
        return "random"
    source = "our own prompts" if recipe.prompts is None else "prompts of its maker's choice"
    return (
        f"k-means centroids of the dense model's hidden states on {routers.tokens} tokens of "
        f"{routers.prompts} texts ({source}). On these, no expert gets more than "
        f"{routers.worst_load:.2f} times an even share in any layer"
    )


def _kept(dense: DenseSource, recipe: UpcyclingRecipe) -> str:
    lines = ["- Attention, norms and embeddings are the dense model's own."]
    if recipe.experts_are_copies:
        lines.append(
            "- All experts are equal and their weights sum to one: its answers are the dense model's"
        )
        lines.append("  answers, up to rounding, until the experts are trained apart.")
    else:
        lines.append("- The experts differ, so its answers are no longer the dense model's: train it.")
    if dense.mapping.shared_expert:
        width = shared_width(dense.config)
        lines.append(
            f"- The shared expert that `{dense.mapping.moe_class}` insists on ({width} wide) adds nothing:"
        )
        lines.append("  its down projection is zero. It can be trained.")
    return "\n".join(lines)
