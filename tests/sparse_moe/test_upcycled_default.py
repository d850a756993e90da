"""A k-means router on the real SmolLM2: balanced on unseen texts, and it tells code from prose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.dense_source import DenseSource
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.gguf_source import open_gguf
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.kmeans import loads
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.recipe import UpcyclingRecipe
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_init import make_routers
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_states import Visit, visit_states
from tests.sparse_moe.upcycling.held_out import HELD_OUT

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def dense(default_gguf: Path) -> Iterator[DenseSource]:
    with open_gguf(default_gguf) as opened:
        yield opened


@pytest.fixture(scope="module")
def text_side(dense: DenseSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    dense.write_text_side(folder)
    return folder


@pytest.fixture(scope="module")
def states(dense: DenseSource, text_side: Path) -> dict[str, list[torch.Tensor]]:
    """What enters the routers on texts that none of them was fitted to: by kind, then by layer."""
    tokenizer: Any = AutoTokenizer.from_pretrained(text_side)
    found: dict[str, list[torch.Tensor]] = {}
    for kind, texts in HELD_OUT.items():
        found[kind] = []
        visit_states(dense, [tokenizer(text)["input_ids"] for text in texts], _appended(found[kind]))
    return found


def _appended(layers: list[torch.Tensor]) -> Visit:
    return lambda _, states_TD: layers.append(states_TD)


def _shared_bits(experts_NK: torch.Tensor, kinds_N: torch.Tensor, experts: int) -> float:
    """Mutual information of a token's kind and its experts, in bits."""
    counts = torch.zeros(int(kinds_N.max()) + 1, experts)
    pairs = (kinds_N.repeat_interleave(experts_NK.shape[1]), experts_NK.flatten())
    joint = counts.index_put_(pairs, torch.ones(experts_NK.numel()), accumulate=True) / experts_NK.numel()
    apart = joint.sum(0, keepdim=True) * joint.sum(1, keepdim=True)
    return float(torch.where(joint > 0, joint * (joint / apart).log2(), 0.0).sum())


def test_unseen_texts_are_spread_and_kinds_are_told_apart(
    dense: DenseSource, text_side: Path, states: dict[str, list[torch.Tensor]]
) -> None:
    experts, top_k = 8, 2
    largest: dict[str, list[float]] = {"random": [], "kmeans": []}
    bits: dict[str, list[float]] = {"random": [], "kmeans": [], "shuffled": []}
    sizes = torch.tensor([len(states[kind][0]) for kind in ("prose", "code")])
    kinds_N = torch.arange(2).repeat_interleave(sizes)
    shuffled_N = kinds_N[torch.randperm(len(kinds_N), generator=torch.Generator().manual_seed(0))]
    for router in ("random", "kmeans"):
        recipe = UpcyclingRecipe(experts, top_k, router=router)
        routers = make_routers(dense, text_side, recipe, lambda _: None)
        for layer, rows_ED in enumerate(routers.weights):
            all_TD = torch.cat([states[kind][layer] for kind in HELD_OUT])
            largest[router].append(float(loads(all_TD @ rows_ED.T, top_k).max()))
            two_ND = torch.cat([states[kind][layer] for kind in ("prose", "code")])
            chosen_NK = (two_ND @ rows_ED.T).topk(top_k, dim=1).indices
            bits[router].append(_shared_bits(chosen_NK, kinds_N, experts))
            if router == "kmeans":
                bits["shuffled"].append(_shared_bits(chosen_NK, shuffled_N, experts))
    assert len(largest["kmeans"]) == 30
    assert max(largest["kmeans"]) < 1.6 < _mean(largest["random"])
    assert _mean(bits["kmeans"]) > 3 * _mean(bits["random"])
    for told, by_chance in zip(bits["kmeans"], bits["shuffled"], strict=True):
        assert told > 5 * by_chance


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
