"""Every accepted architecture becomes a stock class that computes the same; everything else is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM, upcycle
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.mappings import (
    MAPPINGS,
    dense_config,
    mapping_of,
    tensor_shapes,
)
from tests.sparse_moe import tiny_models
from tests.sparse_moe.upcycling.tiny_dense import KINDS, PROBE_BS, logits_of, tiny_dense

YARN = {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0}}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, changes) for kind in KINDS for changes in ({}, {"tie_word_embeddings": True}, YARN)),
    *((kind, {"head_dim": 16}) for kind in KINDS),
    ("mistral", {"sliding_window": 5}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0}),
    ("qwen3", {"attention_bias": True}),
]


def _stock(folder: Path) -> PreTrainedModel:
    found: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    loaded, report = found
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    model: PreTrainedModel = loaded
    return model


@pytest.mark.parametrize(("kind", "changes"), VARIANTS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_logits_are_the_dense_models(
    tmp_path: Path, kind: str, changes: dict[str, Any], attention: str
) -> None:
    dense = tiny_dense(kind, **changes)
    mixture = _stock(upcycle(tiny_models.save(dense, tmp_path / "dense"), tmp_path / "moe", experts=3))
    assert type(mixture).__name__ == MAPPINGS[kind].moe_class
    for model in (dense, mixture):
        model.set_attn_implementation(attention)
    # Fused attention sums in another order on each processor: 1.1e-5 was seen where others stay below 1e-6.
    assert float((logits_of(mixture) - logits_of(dense)).abs().max()) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_generated_text_is_the_dense_models(tmp_path: Path, kind: str) -> None:
    windows: dict[str, dict[str, Any]] = {
        "mistral": {"sliding_window": 7},
        "qwen3": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0},
    }
    dense = tiny_dense(kind, **windows.get(kind, {}))
    made = upcycle(tiny_models.save(dense, tmp_path / "dense"), tmp_path / "moe")
    prompt = PROBE_BS[0].tolist()
    assert tiny_models.oracle_ids(_stock(made), prompt, 20) == tiny_models.oracle_ids(dense, prompt, 20)
    llm = SparseMoELLM(made, temperature=0.0, max_new_tokens=12)
    tokenizer = tiny_models.tiny_tokenizer()
    expected = tiny_models.oracle_ids(dense, tokenizer("Hello you there")["input_ids"], 12)
    assert llm.complete("Hello you there").text == tokenizer.decode(expected, skip_special_tokens=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_window_matters_where_it_is_carried(tmp_path: Path, kind: str) -> None:
    """Without this, a window that both models ignore would pass for parity."""
    changes = {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 0}
    narrow, wide = tiny_dense(kind, **changes), tiny_dense(kind, **changes | {"sliding_window": 512})
    differs = float((logits_of(narrow) - logits_of(wide)).abs().max()) > 1e-3
    assert differs == (kind != "llama")


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    model = tiny_dense(kind, head_dim=16)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert tensor_shapes(MAPPINGS[kind], model.config) == shapes


def test_the_shared_expert_adds_nothing_and_can_learn(tmp_path: Path) -> None:
    dense = tiny_dense("qwen2")
    mixture: Any = _stock(upcycle(tiny_models.save(dense, tmp_path / "dense"), tmp_path / "moe"))
    block = mixture.model.layers[0].mlp
    states_TD = torch.randn(5, 32)
    assert torch.equal(block.shared_expert(states_TD), torch.zeros(5, 32))
    mixture(PROBE_BS, labels=PROBE_BS).loss.backward()
    assert float(block.shared_expert.down_proj.weight.grad.abs().max()) > 0


def test_the_experts_of_qwen_lie_where_stock_checkpoints_have_them(tmp_path: Path) -> None:
    made = upcycle(tiny_models.save(tiny_dense("qwen3"), tmp_path / "dense"), tmp_path / "moe", experts=2)
    saved = tiny_models.save(_stock(made), tmp_path / "again")
    ours, stock = load_file(made / "model.safetensors"), load_file(saved / "model.safetensors")
    assert ours.keys() == stock.keys()
    assert all(torch.equal(ours[name], stock[name]) for name in ours)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "mistral", "attention_bias": True}, "has attention_bias, which MixtralForCausalLM"),
        ({"model_type": "qwen3", "mlp_bias": True}, "has mlp_bias, which Qwen3MoeForCausalLM"),
        (
            {"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]},
            "is Gemma2ForCausalLM; only dense models of class LlamaForCausalLM, MistralForCausalLM, "
            "Qwen2ForCausalLM or Qwen3ForCausalLM become",
        ),
        ({}, "is unknown; only dense models"),
        ({"model_type": "qwen2_moe", "num_experts": 4}, "is a mixture of experts already"),
        ({"model_type": "qwen2", "quantization_config": {"bits": 4}}, "has quantised weights"),
    ],
)
def test_what_has_no_mapping_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mapping_of(fields, Path("somewhere"))


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0},
            "sees through a sliding window, which Qwen2MoeForCausalLM",
        ),
        (
            "qwen3",
            {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1, "num_hidden_layers": 2},
            r"mixes layers of different attention \(full_attention, sliding_attention\)",
        ),
        ("qwen3", {"hidden_size": "wide"}, "is not a valid Qwen3ForCausalLM config"),
    ],
)
def test_windows_that_cannot_be_carried_are_refused(kind: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        dense_config(MAPPINGS[kind], fields, Path("somewhere"))


def test_a_refused_model_leaves_nothing(tmp_path: Path) -> None:
    windows = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
    tiny_models.save(tiny_dense("qwen2", **windows), tmp_path / "dense")
    with pytest.raises(ConfigurationError, match="mixes layers"):
        upcycle(tmp_path / "dense", tmp_path / "moe")
    assert os.listdir(tmp_path) == ["dense"]
