"""GGUF files of dense models become the same mixture as their safetensors would."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import MixtralForCausalLM, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM, upcycle
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.gguf_source import (
    halves_from_pairs,
    open_gguf,
    stock_name,
)
from tests.sparse_moe import tiny_models
from tests.sparse_moe.upcycling.tiny_dense import logits_of, tiny_dense

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip
Change = Callable[[gguf.GGUFWriter], object]


def _gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{kind}"
    _, _, index, part = stem.split(".", 3)
    return f"blk.{index}.{NAMES[part]}.{kind}"


def _paired(weights: torch.Tensor, heads: int) -> torch.Tensor:
    """Order the rows as llama.cpp's converter does: row by row, one from each half in turn."""
    width = weights.shape[0] // heads
    order = [
        head * width + half * width // 2 + row
        for head in range(heads)
        for row in range(width // 2)
        for half in (0, 1)
    ]
    return weights[order]


def _write(
    path: Path, dense: PreTrainedModel, change: Change | None = None, kind: str = "llama", without: str = ""
) -> Path:
    writer = gguf.GGUFWriter(path, kind)
    config: Any = dense.config
    writer.add_name("Tiny Dense")
    writer.add_license("mit")
    writer.add_context_length(512)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    if without != "feed_forward_length":
        writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if kind == "qwen3":
        writer.add_key_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    _add_tokenizer(writer)
    if change:
        change(writer)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    if kind != "llama":
        heads = {}
    for name, weights in dense.state_dict().items():
        rows = next((_paired(weights, count) for part, count in heads.items() if part in name), weights)
        if not (name == "lm_head.weight" and config.tie_word_embeddings):
            writer.add_tensor(_gguf_name(name), rows.contiguous().numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    vocabulary = tiny_models.tiny_tokenizer().get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    # A byte-pair tokenizer needs a merge, and the merge a token.
    tokens[-1] = "ab"
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_chat_template(tiny_models.CHAT_TEMPLATE)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"num_key_value_heads": 4}])
def test_logits_are_the_dense_models(tmp_path: Path, changes: dict[str, Any]) -> None:
    dense = tiny_models.tiny_llama(**changes)
    made = upcycle(_write(tmp_path / "tiny.gguf", dense), tmp_path / "moe")
    mixture = MixtralForCausalLM.from_pretrained(made)
    assert float((logits_of(mixture) - logits_of(dense)).abs().max()) < 1e-4


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}])
@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_qwen_keeps_its_rows_biases_and_norms(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    dense = tiny_dense(kind, **{"head_dim": 16} if kind == "qwen3" else {}, **changes)
    file = _write(tmp_path / "tiny.gguf", dense, kind=kind)
    mixture: Any = AutoModelForCausalLM.from_pretrained(upcycle(file, tmp_path / "moe"))
    assert mixture.config.model_type == f"{kind}_moe"
    assert float((logits_of(mixture) - logits_of(dense)).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_transformers_reads_the_same_weights_from_the_same_file(tmp_path: Path, kind: str) -> None:
    """The order of rows, by an implementation that is not ours."""
    dense = tiny_dense(kind)
    file = _write(tmp_path / "tiny.gguf", dense, kind=kind)
    loaded: dict[str, Any] = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=dense)
    with open_gguf(file) as source:
        assert source.shapes().keys() == loaded["tensors"].keys()
        for name, values in loaded["tensors"].items():
            assert torch.equal(source.read(name), torch.as_tensor(values)), name


def test_the_result_opens_with_template_ends_and_card(tmp_path: Path) -> None:
    dense = tiny_models.tiny_llama()
    made = upcycle(_write(tmp_path / "tiny.gguf", dense), tmp_path / "moe")
    llm = SparseMoELLM(made, temperature=0.0, max_new_tokens=15)
    assert llm.metadata.is_chat_model
    assert llm._local is not None
    assert llm._local.stop_ids == {1}
    assert llm._local.encode("Hi", special_tokens=True) == tuple(
        tiny_models.tiny_tokenizer()("Hi")["input_ids"]
    )
    card = (made / "README.md").read_text(encoding="utf-8")
    assert "license: mit" in card
    assert "Tiny Dense (tiny.gguf)" in card


def test_rows_of_a_pair_part_again() -> None:
    weights = torch.arange(48.0).reshape(16, 3)
    assert torch.equal(halves_from_pairs(_paired(weights, 2), 2), weights)


def test_names() -> None:
    assert stock_name("blk.7.attn_q.weight") == "model.layers.7.self_attn.q_proj.weight"
    assert stock_name("blk.0.attn_q.bias") == "model.layers.0.self_attn.q_proj.bias"
    assert stock_name("token_embd.weight") == "model.embed_tokens.weight"
    assert stock_name("rope_freqs.weight") == "rope_freqs.weight"


def _rope_factors(writer: gguf.GGUFWriter) -> None:
    writer.add_tensor("rope_freqs.weight", np.ones(4, dtype=np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN),
            r"scales its rotary .*\(yarn\)",
        ),
        (_rope_factors, "no place for, first rope_freqs.weight"),
        (lambda writer: writer.add_expert_count(4), "is a mixture of experts already"),
        (lambda writer: writer.add_rope_dimension_count(4), "turns only 4 of 8"),
        (lambda writer: writer.add_sliding_window(64), "sees through a sliding window, which is not carried"),
    ],
)
def test_what_does_not_map_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    file = _write(tmp_path / "tiny.gguf", tiny_models.tiny_llama(), change)
    with pytest.raises(ConfigurationError, match=message):
        upcycle(file, tmp_path / "moe")
    assert os.listdir(tmp_path) == ["tiny.gguf"]


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    file = _write(tmp_path / "tiny.gguf", tiny_models.tiny_llama(), kind="gemma")
    with pytest.raises(ConfigurationError, match=r"is GGUF architecture 'gemma'; only dense models of class"):
        upcycle(file, tmp_path / "moe")


def test_missing_metadata_is_named(tmp_path: Path) -> None:
    file = _write(tmp_path / "tiny.gguf", tiny_models.tiny_llama(), without="feed_forward_length")
    with pytest.raises(ConfigurationError, match=r"lacks metadata of a llama model: .*feed_forward_length"):
        upcycle(file, tmp_path / "moe")


@pytest.mark.parametrize("keep", [0, 3, 40, 5_000, -1, -20_000])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    file = _write(tmp_path / "tiny.gguf", tiny_models.tiny_llama())
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ConfigurationError, match="is truncated or no GGUF file"):
        upcycle(file, tmp_path / "moe")
