"""A checkpoint directory is checked whole before anything is loaded, and refused with a remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import (
    context_window,
    expert_count,
    read_checkpoint,
    require_moe,
    safetensors_names,
)
from tests.sparse_moe import tiny_models


@pytest.fixture
def damaged(moe_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(moe_folder, tmp_path / "copy")


@pytest.mark.parametrize(
    ("config", "experts"),
    [
        ({}, 0),
        ({"hidden_size": 64}, 0),
        ({"num_local_experts": 8}, 8),
        ({"num_experts": 64}, 64),
        ({"n_routed_experts": 256}, 256),
        ({"moe_num_experts": 16}, 16),
        ({"num_experts": None, "num_local_experts": 4}, 4),
        ({"num_experts": [1, 16]}, 16),
        ({"num_experts": True}, 0),
        ({"num_local_experts": 1}, 1),
        ({"text_config": {"num_experts": 32}}, 32),
        ({"ffn_config": {"moe_num_experts": 4}}, 4),
    ],
)
def test_experts_are_counted_from_the_config(config: dict[str, Any], experts: int) -> None:
    assert expert_count(config) == experts


@pytest.mark.parametrize("kind", ["olmoe", "qwen2_moe", "granitemoehybrid"])
def test_real_configs_are_recognised(kind: str) -> None:
    assert expert_count(tiny_models.other_moe(kind).config.to_dict()) == 4


@pytest.mark.parametrize("experts", [0, 1])
def test_a_dense_model_is_told_how_to_become_one(experts: int) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "num_local_experts": experts}
    remedy = r"^not a mixture of experts: LlamaForCausalLM; upcycle it with `moa upcycle SRC DST`$"
    with pytest.raises(ConfigurationError, match=remedy):
        require_moe(config)


def test_context_window_may_be_nested_or_missing() -> None:
    assert context_window({"max_position_embeddings": 8}) == 8
    assert context_window({"text_config": {"max_position_embeddings": 9}}) == 9
    assert context_window({}) is None


def test_a_whole_checkpoint_passes(moe_folder: Path) -> None:
    checkpoint = read_checkpoint(moe_folder)
    assert checkpoint.config["model_type"] == "mixtral"
    assert [path.name for path in checkpoint.weight_files] == ["model.safetensors"]
    assert "model.norm.weight" in safetensors_names(checkpoint.weight_files[0])


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])


def _cut_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00\x01")


def _git_lfs_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")


def _broken_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((4).to_bytes(8, "little") + b"{no}")


def _odd_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((7).to_bytes(8, "little") + b'{"a":1}')


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _half_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "mix', encoding="utf-8")


def _list_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]", encoding="utf-8")


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")


def _changed_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")


def _dense(folder: Path) -> None:
    _changed_config(folder, num_local_experts=1, architectures=["MistralForCausalLM"])


def _remote_code(folder: Path) -> None:
    _changed_config(folder, model_type="my_moe", auto_map={"AutoConfig": "config.MyConfig"})


def _unknown_architecture(folder: Path) -> None:
    _changed_config(folder, model_type="my_moe")


def _odd_value(folder: Path) -> None:
    _changed_config(folder, max_position_embeddings="many")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, r"model.safetensors is truncated or damaged: \d+ bytes of weights, \d+ expected"),
        (_cut_header, r"model.safetensors is truncated or no safetensors file \(2 bytes"),
        (_git_lfs_pointer, "git-lfs pointer"),
        (_broken_header, "model.safetensors is not a readable safetensors file"),
        (_odd_header, "model.safetensors is not a safetensors file"),
        (_pickled, r"are pickled \(pytorch_model.bin\).*download the safetensors version"),
        (_no_weights, "no weights in .*: no model.safetensors and no model.safetensors.index.json"),
        (_no_config, "config.json is missing in .*; download the model again"),
        (_half_config, "config.json cannot be read"),
        (_list_config, "does not hold a JSON object"),
        (_no_tokenizer, "no tokenizer in .*pass tokenizer="),
        (_broken_tokenizer, "the tokenizer in .* cannot be loaded"),
        (_dense, "not a mixture of experts: MistralForCausalLM; upcycle it with `moa upcycle SRC DST`"),
        (_remote_code, "brings code of its own, which is never run"),
        (_unknown_architecture, "the installed transformers does not know it"),
        (_odd_value, "config.json in .* is not valid: .*max_position_embeddings"),
    ],
)
def test_a_damaged_directory_is_refused_at_construction(
    damaged: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(damaged)
    with pytest.raises(ConfigurationError, match=message):
        SparseMoELLM(damaged)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no model directory at .*nowhere. Only local directories are loaded"),
        ("model.gguf", "is a GGUF file, not a checkpoint directory"),
    ],
)
def test_no_directory_at_all(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigurationError, match=message):
        SparseMoELLM(str(tmp_path / name))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return tiny_models.save(tiny_models.tiny_mixtral(), tmp_path / "sharded", shards="60KB")


def test_shards_are_found_by_their_index(sharded: Path) -> None:
    assert len(read_checkpoint(sharded).weight_files) > 1
    assert SparseMoELLM(sharded, temperature=0.0).complete("hi", max_tokens=2).text


def test_a_missing_shard_is_named(sharded: Path) -> None:
    shard = read_checkpoint(sharded).weight_files[1]
    shard.unlink()
    with pytest.raises(ConfigurationError, match=f"{shard.name} is missing in .*half-written"):
        SparseMoELLM(sharded)


def test_an_exchanged_shard_is_noticed(sharded: Path) -> None:
    first, second, *_ = read_checkpoint(sharded).weight_files
    shutil.copyfile(first, second)
    with pytest.raises(ConfigurationError, match=f"{second.name} lacks .* tensors"):
        SparseMoELLM(sharded)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [({}, "lists no weights"), ({"a": "../other.safetensors"}, "names a file outside of it")],
)
def test_a_strange_index_is_refused(sharded: Path, weight_map: dict[str, str], message: str) -> None:
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        SparseMoELLM(sharded)
