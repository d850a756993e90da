"""Shards of a bounded size, written while the next tensors do not exist yet."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llama_index.packs.mixture_of_agents.sparse_moe.upcycling import shards
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.shards import write_shards


def test_few_weights_are_one_file_without_an_index(tmp_path: Path) -> None:
    write_shards(tmp_path, [("a", torch.ones(3)), ("b", torch.zeros(2, 2))])
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert load_file(tmp_path / "model.safetensors").keys() == {"a", "b"}


def test_a_full_shard_is_let_go_before_the_next_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 1000)
    made: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal most
        for index in range(20):
            tensor = torch.full((100,), float(index))
            made.append(weakref.ref(tensor))
            most = max(most, sum(reference() is not None for reference in made))
            yield f"t{index}", tensor

    write_shards(tmp_path, tensors())
    assert most <= 4, "two to a shard, one that starts the next, and one in the loop's hands"
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-{number:05d}-of-00010.safetensors" for number in range(1, 11)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    for name, home in index["weight_map"].items():
        assert float(load_file(tmp_path / home)[name][0]) == float(name[1:])
    assert len(index["weight_map"]) == 20


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 1000)
    write_shards(tmp_path, [("small", torch.ones(2)), ("large", torch.ones(900)), ("last", torch.ones(2))])
    held = [set(load_file(path)) for path in sorted(tmp_path.glob("*.safetensors"))]
    assert held == [{"small"}, {"large"}, {"last"}]
