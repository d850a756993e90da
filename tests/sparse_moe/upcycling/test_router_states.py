"""Hidden states before each feed-forward network are those of the whole model, one layer at a time."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe import upcycle
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.dense_source import open_directory
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.router_states import visit_states
from tests.sparse_moe import tiny_models
from tests.sparse_moe.upcycling.tiny_dense import KINDS, tiny_dense

TEXTS = [[3, 14, 15, 92, 65, 35], [89, 79], [38, 46, 26, 43, 38, 32, 79, 50, 28]]


def _states_of_the_whole_model(model: PreTrainedModel, ids: list[int]) -> list[torch.Tensor]:
    """By hooks on transformers' own forward pass, one text at a time."""
    seen: list[torch.Tensor] = []
    layers: Any = model.model.layers
    hooks = [
        layer.post_attention_layernorm.register_forward_hook(lambda *args: seen.append(args[2][0, 1:]))
        for layer in layers
    ]
    with torch.no_grad():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_the_model_run_as_a_whole(tmp_path: Path, kind: str) -> None:
    changes = {"sliding_window": 4} if kind == "mistral" else {}
    model = tiny_dense(kind, **changes)
    expected = [_states_of_the_whole_model(model, ids) for ids in TEXTS]
    visited: list[torch.Tensor] = []
    with open_directory(tiny_models.save(model, tmp_path / "dense")) as dense:
        visit_states(dense, TEXTS, lambda _, states_TD: visited.append(states_TD))
    for layer, states_TD in enumerate(visited):
        whole_TD = torch.cat([text[layer] for text in expected])
        assert torch.allclose(states_TD, whole_TD, atol=1e-4)
    assert len(visited) == model.config.num_hidden_layers


def test_one_layer_is_in_memory_at_a_time(dense_folder: Path) -> None:
    read: list[str] = []
    with open_directory(dense_folder) as dense:

        def spy(name: str) -> torch.Tensor:
            read.append(name)
            return dense.read(name)

        visit_states(replace(dense, read=spy), TEXTS, lambda layer, _: read.append(f"visit {layer}"))
    second = next(place for place, name in enumerate(read) if name.startswith("model.layers.1."))
    assert read.index("visit 0") < second < read.index("visit 1")
    assert "lm_head.weight" not in read
    assert "model.norm.weight" not in read


def test_damaged_weights_are_noticed(tmp_path: Path) -> None:
    source = tiny_models.save(tiny_dense("llama"), tmp_path / "dense")
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"hidden states of .* in layer 1 are not finite"):
        upcycle(source, tmp_path / "moe", router="kmeans")
    assert os.listdir(tmp_path) == ["dense"]
