"""Noise and drop-upcycling: exactly as far apart as asked, and the same again with the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from llama_index.packs.mixture_of_agents.sparse_moe import upcycle
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.divergence import (
    expert_weights,
    reinitialized_units,
    stream,
)
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.recipe import UpcyclingRecipe
from tests.sparse_moe import tiny_models
from tests.sparse_moe.upcycling.tiny_dense import tiny_dense

D, F = 32, 48
PARTS = {"gate_proj": (F, D), "up_proj": (F, D), "down_proj": (D, F)}


def _dense(part: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(PARTS[part], generator=stream(9, part)) * 0.3 + 0.1).to(dtype)


def _changed_units(part: str, made: torch.Tensor) -> set[int]:
    differs = made != _dense(part)
    return set(differs.any(dim=1 if part != "down_proj" else 0).nonzero().flatten().tolist())


def test_without_either_an_expert_is_a_copy_of_its_own() -> None:
    dense = _dense("up_proj")
    made = expert_weights(dense, "up_proj", 0, 1, UpcyclingRecipe())
    assert torch.equal(made, dense)
    assert made.data_ptr() != dense.data_ptr()


@pytest.mark.parametrize("noise", [0.01, 0.5])
@pytest.mark.parametrize("part", PARTS)
def test_noise_is_relative_to_the_spread_of_its_matrix(part: str, noise: float) -> None:
    dense = _dense(part)
    added = expert_weights(dense, part, 0, 0, UpcyclingRecipe(noise=noise)) - dense
    assert float(added.std() / dense.std()) == pytest.approx(noise, rel=0.06)
    assert abs(float(added.mean())) < 0.1 * noise


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1), expert=st.integers(0, 7), seed=st.integers(0, 2**63 - 1))
def test_the_exact_share_of_units_is_drawn_anew_in_all_three(share: float, expert: int, seed: int) -> None:
    recipe = UpcyclingRecipe(experts=8, reinitialize=share, seed=seed)
    units = set(reinitialized_units(F, 3, expert, recipe).tolist())
    assert len(units) == round(share * F)
    for part in PARTS:
        assert _changed_units(part, expert_weights(_dense(part), part, 3, expert, recipe)) == units


def test_new_units_have_mean_and_spread_of_the_dropped_ones() -> None:
    dense = torch.cat([torch.randn(400, D) * 0.5 + 2.0, torch.zeros(400, D)])
    recipe = UpcyclingRecipe(reinitialize=0.5)
    units = reinitialized_units(800, 0, 0, recipe)
    dropped, fresh = dense[units], expert_weights(dense, "up_proj", 0, 0, recipe)[units]
    assert float(fresh.mean()) == pytest.approx(float(dropped.mean()), abs=0.05)
    assert float(fresh.std()) == pytest.approx(float(dropped.std()), rel=0.05)


def test_experts_layers_and_seeds_differ() -> None:
    recipe = UpcyclingRecipe(noise=0.1, reinitialize=0.5)
    made = [
        expert_weights(_dense("up_proj"), "up_proj", layer, expert, chosen)
        for layer, expert, chosen in (
            (0, 0, recipe),
            (0, 1, recipe),
            (1, 0, recipe),
            (0, 0, UpcyclingRecipe(noise=0.1, reinitialize=0.5, seed=1)),
        )
    ]
    assert all(not torch.equal(one, two) for i, one in enumerate(made) for two in made[:i])
    again = expert_weights(_dense("up_proj"), "up_proj", 0, 0, recipe)
    assert torch.equal(again, made[0])


def test_an_expert_does_not_depend_on_how_many_there_are() -> None:
    few, many = (UpcyclingRecipe(experts=count, noise=0.1, reinitialize=0.3) for count in (2, 16))
    dense = _dense("down_proj")
    one, other = (expert_weights(dense, "down_proj", 0, 1, recipe) for recipe in (few, many))
    assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_stays(dtype: torch.dtype) -> None:
    dense = _dense("up_proj", dtype)
    made = expert_weights(dense, "up_proj", 0, 0, UpcyclingRecipe(noise=0.1, reinitialize=0.5))
    assert made.dtype == dtype
    assert not torch.equal(made, dense)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_same_seed_gives_the_same_files_and_another_other_ones(tmp_path: Path, kind: str) -> None:
    source = tiny_models.save(tiny_dense(kind), tmp_path / "dense")
    options: dict[str, Any] = {"noise": 0.1, "reinitialize": 0.25, "router": "kmeans"}
    one, two, other = (
        _files(upcycle(source, tmp_path / str(index), seed=seed, **options))
        for index, seed in enumerate((3, 3, 4))
    )
    assert one == two
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors", "README.md"}


def test_the_written_experts_differ_in_the_share_that_was_asked_for(
    dense_folder: Path, tmp_path: Path
) -> None:
    made = upcycle(dense_folder, tmp_path / "moe", reinitialize=0.25)
    weights, dense = load_file(made / "model.safetensors"), load_file(dense_folder / "model.safetensors")
    sets = []
    for expert in range(4):
        block = f"model.layers.1.block_sparse_moe.experts.{expert}"
        changed = [
            (weights[f"{block}.{name}.weight"] != dense[f"model.layers.1.mlp.{part}.weight"]).any(dim=dim)
            for name, part, dim in (("w1", "gate_proj", 1), ("w3", "up_proj", 1), ("w2", "down_proj", 0))
        ]
        assert torch.equal(changed[0], changed[1])
        assert torch.equal(changed[0], changed[2])
        assert int(changed[0].sum()) == 12
        sets.append(tuple(changed[0].tolist()))
    assert len(set(sets)) == 4
    attention = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(weights[attention], dense[attention])
