"""What becomes 8 bits and what stays, and that the model asked about is left as it was.

The oracle is a stock model with weights rounded by numpy and put back as floats.
"""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.experts import routed
from llama_index.packs.mixture_of_agents.sparse_moe.int8 import Int8ExpertWeight, Int8Linear
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import find_moe_layers
from llama_index.packs.mixture_of_agents.sparse_moe.plans import plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.quantize import quantize_model, weight_bytes
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from tests.sparse_moe import tiny_models
from tests.sparse_moe.rounded_models import KINDS, PROMPTS, calm, logits, oracle

kinds = pytest.mark.parametrize("kind", KINDS)


def names(model: nn.Module, *kinds: type[nn.Module]) -> set[str]:
    """The last parts of the paths of modules of some kinds."""
    return {path.split(".")[-1] for path, module in model.named_modules() if type(module) in kinds}


@kinds
def test_logits_are_those_of_the_rounded_weights(kind: str) -> None:
    model = calm(kind)
    quantized = quantize_model(model)
    expected = logits(oracle(model, quantized))
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits(quantized) / scale, expected / scale, rtol=0, atol=2e-5)


@kinds
def test_logits_stay_near_those_of_the_model(kind: str) -> None:
    """Within a twentieth for most tokens. Single tokens may take another expert and move further."""
    model = calm(kind)
    before, after = logits(model), logits(quantize_model(model))
    error = (after - before).norm(dim=-1) / before.norm(dim=-1)
    assert 0 < float(error.median()) < 0.05


@kinds
def test_within_our_engine_logits_are_the_same(kind: str) -> None:
    quantized = quantize_model(calm(kind))
    expected = logits(quantized)
    positions = [list(range(PROMPTS.shape[1]))] * len(PROMPTS)
    lengths = [PROMPTS.shape[1]] * len(PROMPTS)
    plan = plan_sequences(positions, lengths, RoutingSettings(), "cpu")
    with routed(find_moe_layers(quantized), plan):
        ours = logits(quantized)
    scale = float(expected.abs().max())
    torch.testing.assert_close(ours / scale, expected / scale, rtol=0, atol=1e-5)


@kinds
def test_the_callers_model_is_left_as_it_was(kind: str) -> None:
    model = calm(kind)
    heard: list[str] = []
    model.model.layers[0].register_forward_hook(lambda *_: heard.append("hook"))
    weights = {
        name: (weight, weight.data_ptr(), weight.clone()) for name, weight in model.state_dict().items()
    }
    modules = {path: (module, set(vars(module))) for path, module in model.named_modules()}
    parameters = list(model.parameters())
    config, before = model.config.to_dict(), logits(model)
    implementation = model.config._experts_implementation

    quantized = quantize_model(model)
    logits(quantized)

    assert {path: (module, set(vars(module))) for path, module in model.named_modules()} == modules
    assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))
    assert model.state_dict().keys() == weights.keys()
    for name, weight in model.state_dict().items():
        assert weight.data_ptr() == weights[name][1]
        assert torch.equal(weight, weights[name][2])
    assert model.config.to_dict() == config
    assert model.config._experts_implementation == implementation
    assert torch.equal(logits(model), before)
    assert heard == ["hook"] * 3


@kinds
def test_what_is_not_quantised_is_shared(kind: str) -> None:
    model = calm(kind)
    quantized = quantize_model(model)
    places = {weight.data_ptr() for weight in model.parameters()}
    assert all(weight.data_ptr() in places for weight in quantized.parameters())
    assert not {id(module) for module in quantized.modules()} & {id(module) for module in model.modules()}
    assert weight_bytes(quantized) < 0.7 * weight_bytes(model)


@pytest.mark.parametrize(
    ("kind", "small", "whole"),
    [
        ("mixtral", {"q_proj", "k_proj", "v_proj", "o_proj"}, {"lm_head"}),
        ("gpt_oss", {"q_proj", "k_proj", "v_proj", "o_proj"}, {"lm_head"}),
        (
            "qwen2_moe",
            {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
            {"lm_head", "shared_expert_gate"},
        ),
        (
            "granitemoehybrid",
            {"q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "out_proj", "input_linear", "output_linear"},
            {"lm_head"},
        ),
        (
            "jamba",
            {"q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "out_proj"}
            | {"gate_proj", "up_proj", "down_proj"},
            {"lm_head", "x_proj", "dt_proj"},
        ),
        (
            "qwen3_next",
            {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
            | {"in_proj_qkvz", "out_proj"},
            {"lm_head", "shared_expert_gate", "in_proj_ba"},
        ),
        (
            "deepseek_v3",
            {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}
            | {"gate_proj", "up_proj", "down_proj"},
            {"lm_head"},
        ),
    ],
)
def test_what_is_quantised_and_what_stays(kind: str, small: set[str], whole: set[str]) -> None:
    quantized = quantize_model(calm(kind))
    assert names(quantized, Int8Linear) == small
    assert names(quantized, nn.Linear) == whole
    assert names(quantized, Int8ExpertWeight) == {"gate_up_proj", "down_proj"}
    stacks = {name.split(".")[-1] for name, weight in quantized.named_parameters() if weight.dim() == 3}
    assert stacks <= {"weight"}, "a convolution's, at most"


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_and_head_stay_whole_and_tied(tied: bool) -> None:
    model = tiny_models.tiny_mixtral(tie_word_embeddings=tied)
    quantized: Any = quantize_model(model)
    assert (quantized.lm_head.weight is quantized.model.embed_tokens.weight) is tied
    assert quantized.lm_head.weight.data_ptr() == model.lm_head.weight.data_ptr()


def test_layers_with_tied_weights_stay_whole() -> None:
    model: Any = tiny_models.tiny_mixtral()
    first, second = (layer.self_attn for layer in model.model.layers)
    second.q_proj.weight = first.q_proj.weight
    second.o_proj = first.o_proj
    quantized: Any = quantize_model(model)
    small, other = (layer.self_attn for layer in quantized.model.layers)
    assert type(small.q_proj) is type(other.q_proj) is nn.Linear
    assert small.q_proj.weight is other.q_proj.weight
    assert isinstance(small.o_proj, Int8Linear)
    assert small.o_proj is other.o_proj


@torch.no_grad()
def test_it_works_with_transformers() -> None:
    """Its class and settings, its generate with a cache, and another experts forward that indexes."""
    model = tiny_models.tiny_mixtral()
    quantized = quantize_model(model)
    assert type(quantized) is type(model)
    assert quantized.can_generate()
    assert (quantized.device, quantized.dtype) == (model.device, model.dtype)
    assert quantized.generation_config.to_dict() == model.generation_config.to_dict()
    assert quantized.config is not model.config
    prompt = PROMPTS[0].tolist()
    expected = tiny_models.oracle_ids(oracle(model, quantized), prompt, 20)
    assert tiny_models.oracle_ids(quantized, prompt, 20) == expected
    before = logits(quantized)
    quantized.set_experts_implementation("batched_mm")
    torch.testing.assert_close(logits(quantized), before, rtol=1e-4, atol=1e-4)


def test_it_can_be_copied_and_pickled() -> None:
    quantized = quantize_model(tiny_models.tiny_gpt_oss())
    for again in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert torch.equal(logits(again), logits(quantized))


def test_moving_the_copy_does_not_move_the_model() -> None:
    model = tiny_models.tiny_mixtral()
    before = logits(model)
    quantized: Any = quantize_model(model)
    quantized.to(torch.bfloat16)
    assert quantized.dtype == torch.bfloat16
    assert logits(quantized).dtype == torch.bfloat16
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss", "granitemoehybrid"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(kind: str, dtype: torch.dtype) -> None:
    """Computed in their own dtype; most tokens as near as that dtype's rounding and the 8 bits allow."""
    model: Any = calm(kind)
    model.to(dtype)
    quantized = quantize_model(model)
    before, after = logits(model).float(), logits(quantized)
    assert after.dtype == dtype
    error = (after.float() - before).norm(dim=-1) / before.norm(dim=-1)
    assert 0 < float(error.median()) < 0.06


@kinds
def test_in_place_gives_the_same_model(kind: str) -> None:
    model = calm(kind)
    copied = logits(quantize_model(model))
    converted = quantize_model(model, in_place=True)
    assert converted is model
    assert torch.equal(logits(model), copied)


def test_in_place_frees_a_layers_floats_before_it_takes_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_models.tiny_mixtral(num_hidden_layers=6)
    heavy = [weight for name, weight in model.named_parameters() if "_proj" in name]
    floats = [weakref.ref(weight) for weight in heavy]
    assert len(floats) == 6 * (4 + 2)
    del heavy
    alive: list[int] = []
    register = nn.Module.register_buffer

    def counted(module: nn.Module, name: str, *args: Any, **options: Any) -> None:
        if name.startswith("scale_"):
            alive.append(sum(one() is not None for one in floats))
        register(module, name, *args, **options)

    monkeypatch.setattr(nn.Module, "register_buffer", counted)
    quantize_model(model, in_place=True)
    assert alive == list(range(36, 0, -1))


@pytest.mark.parametrize("scheme", ["int4", "int3", "INT8", "", 8])
def test_other_schemes_are_refused(scheme: Any) -> None:
    with pytest.raises(ConfigurationError, match="int8"):
        quantize_model(tiny_models.tiny_mixtral(), scheme)


def test_int4_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigurationError, match="not available yet"):
        quantize_model(tiny_models.tiny_mixtral(), "int4")


def _quantised_by_another() -> PreTrainedModel:
    model = tiny_models.tiny_mixtral()
    model.config.quantization_config = {"quant_method": "fp8"}
    return model


def _integers() -> Any:
    model: Any = tiny_models.tiny_mixtral()
    norm = model.model.layers[1].input_layernorm
    norm.weight = nn.Parameter(torch.ones(32, dtype=torch.int8), requires_grad=False)
    return model


def _float8() -> Any:
    model: Any = tiny_models.tiny_mixtral()
    linear = model.model.layers[1].self_attn.q_proj
    linear.weight = nn.Parameter(linear.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantize_model(tiny_models.tiny_mixtral()), "quantised already"),
        (_quantised_by_another, "quantised already"),
        (_integers, r"layers\.1\.input_layernorm\.weight of MixtralForCausalLM is torch\.int8"),
        (_float8, r"q_proj\.weight .* is torch\.float8"),
        (lambda: nn.Module.to(tiny_models.tiny_mixtral(), "meta"), r"is not loaded \(meta device\)"),
    ],
)
def test_weights_that_are_no_plain_floats_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        quantize_model(make())


@pytest.mark.parametrize(
    "path", ["model.layers.1.self_attn.v_proj.weight", "model.layers.1.mlp.experts.down_proj"]
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_damaged_weights_are_refused_by_name(path: str, bad: float) -> None:
    model = tiny_models.tiny_mixtral()
    with torch.no_grad():
        model.get_parameter(path).view(-1)[7] = bad
    with pytest.raises(ConfigurationError, match=path.removesuffix(".weight").replace(".", r"\.")):
        quantize_model(model)
