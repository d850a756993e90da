"""Routers fitted to prompts: balanced on unseen texts, refused on too few tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe import upcycle
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling import router_init
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.dense_source import open_directory
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.kmeans import loads
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.recipe import UpcyclingRecipe
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_init import Routers, make_routers
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_prompts import DEFAULT_PROMPTS
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_states import visit_states
from tests.sparse_moe import tiny_models
from tests.sparse_moe.upcycling.held_out import HELD_OUT
from tests.sparse_moe.upcycling.tiny_dense import tiny_dense


def _loads_on_held_out(folder: Path, routers: Routers, top_k: int) -> list[torch.Tensor]:
    tokenizer = tiny_models.tiny_tokenizer()
    texts = [tokenizer(text)["input_ids"] for kind in HELD_OUT.values() for text in kind]
    found: list[torch.Tensor] = []
    with open_directory(folder) as dense:
        visit_states(
            dense, texts, lambda layer, h_TD: found.append(loads(h_TD @ routers.weights[layer].T, top_k))
        )
    return found


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize(("experts", "top_k"), [(4, 1), (8, 2)])
def test_unseen_texts_are_spread_better_than_by_a_random_router(
    tmp_path: Path, kind: str, experts: int, top_k: int
) -> None:
    folder = tiny_models.save(tiny_dense(kind, num_hidden_layers=3), tmp_path / "dense")
    found = {}
    for router in ("random", "kmeans"):
        recipe = UpcyclingRecipe(experts, top_k, router=router)
        with open_directory(folder) as dense:
            routers = make_routers(dense, folder, recipe, lambda _: None)
        found[router] = _loads_on_held_out(folder, routers, top_k)
    random, fitted = (torch.stack(found[router]) for router in ("random", "kmeans"))
    assert float(fitted.max(1).values.mean()) < float(random.max(1).values.mean())
    assert float(fitted.max()) < 1.6
    assert float(fitted.min()) > 0.4


def test_the_written_routers_are_the_fitted_ones_and_the_rest_does_not_change(
    dense_folder: Path, tmp_path: Path
) -> None:
    stages: list[str] = []
    made = upcycle(dense_folder, tmp_path / "kmeans", router="kmeans", progress=stages.append)
    fitted = load_file(made / "model.safetensors")
    random = load_file(upcycle(dense_folder, tmp_path / "random") / "model.safetensors")
    changed = {name for name in fitted if not torch.equal(fitted[name], random[name])}
    assert changed == {f"model.layers.{layer}.block_sparse_moe.gate.weight" for layer in (0, 1)}
    assert stages[1:3] == ["router 1 of 2", "router 2 of 2"]
    with open_directory(dense_folder) as dense:
        routers = make_routers(dense, dense_folder, UpcyclingRecipe(router="kmeans"), lambda _: None)
    assert torch.equal(routers.weights[1], fitted["model.layers.1.block_sparse_moe.gate.weight"])
    assert routers.worst_load is not None
    assert routers.worst_load < 1.1


def test_other_prompts_give_other_routers(dense_folder: Path) -> None:
    made = []
    for prompts in (["Hello there, how are you today?"], ["0123456789 0123456789 0123456789"]):
        recipe = UpcyclingRecipe(router="kmeans", prompts=prompts)
        with open_directory(dense_folder) as dense:
            made.append(make_routers(dense, dense_folder, recipe, lambda _: None))
    assert not torch.equal(made[0].weights[0], made[1].weights[0])
    assert [routers.tokens for routers in made] == [30, 31]


def test_long_and_many_prompts_are_cut_to_what_a_batch_holds(dense_folder: Path) -> None:
    prompts = [*["word " * 500] * 99, "0123456789"]
    recipe = UpcyclingRecipe(router="kmeans", prompts=prompts)
    with open_directory(dense_folder) as dense:
        routers = make_routers(dense, dense_folder, recipe, lambda _: None)
    assert (routers.prompts, routers.tokens) == (64, 64 * 127)


def test_of_too_many_prompts_some_are_taken_from_everywhere(
    dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[list[int]] = []

    def visit_nothing(_dense: object, texts: list[list[int]], visit: Any) -> None:
        taken.extend(texts)
        visit(0, torch.randn(6, 32))

    monkeypatch.setattr(router_init, "_BATCH_TOKENS", 9)
    monkeypatch.setattr(router_init, "visit_states", visit_nothing)
    recipe = UpcyclingRecipe(2, 1, router="kmeans", prompts=["abc", "def", "ghi", "jkl", "mno", "pqr"])
    with open_directory(dense_folder) as dense:
        make_routers(dense, dense_folder, recipe, lambda _: None)
    tokenizer = tiny_models.tiny_tokenizer()
    assert taken == [tokenizer(text)["input_ids"] for text in ("abc", "ghi", "mno")]


@pytest.mark.parametrize("prompts", [["abc"], ["a"] * 20])
def test_fewer_tokens_than_experts_are_refused_and_leave_nothing(
    dense_folder: Path, tmp_path: Path, prompts: list[str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"less than experts=4; give more or longer prompts"):
        upcycle(dense_folder, tmp_path / "moe", router="kmeans", prompts=prompts)
    assert os.listdir(tmp_path) == []


def test_our_own_prompts_are_several_dozen_and_all_different() -> None:
    assert len(set(DEFAULT_PROMPTS)) == len(DEFAULT_PROMPTS) > 36
    held_out = {text for kind in HELD_OUT.values() for text in kind}
    assert not held_out & set(DEFAULT_PROMPTS)
