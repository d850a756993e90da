"""A prompt's way through a model: the same choices as the model's own router, every token accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import MixtralForCausalLM

from llama_index.packs.mixture_of_agents.errors import (
    ConfigurationError,
    ContextOverflowError,
    SparseMoEError,
)
from llama_index.packs.mixture_of_agents.sparse_moe.inspection import (
    LayerTrace,
    inspect_prompt,
    inspect_routing,
)
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
from llama_index.packs.mixture_of_agents.sparse_moe.stats import LayerLabel
from tests.sparse_moe import tiny_models

PROMPT = [10, 20, 30, 40, 50, 60, 70, 80, 90]
STOCK = RoutingSettings()


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return LoadedModel(tiny_models.tiny_mixtral())


def own_choices(model: MixtralForCausalLM, ids: list[int]) -> list[list[set[int]]]:
    """Which experts the model's own routers choose, layer by layer, by transformers' own count."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor([ids]), output_router_logits=True)
    return [[set(row.topk(2).indices.tolist()) for row in logits] for logits in output.router_logits]


def test_choices_are_the_routers_own(loaded: LoadedModel) -> None:
    ids, stats, layers = inspect_routing(loaded, PROMPT, STOCK)
    assert ids == tuple(PROMPT)
    found = [[set(row) for row in layer.experts_TK.tolist()] for layer in layers]
    assert found == own_choices(tiny_models.tiny_mixtral(), PROMPT)
    for layer, totals in zip(layers, stats.layers, strict=True):
        assert tuple(np.bincount(layer.experts_TK.ravel(), minlength=4)) == totals.load
        assert layer.kept_TK.all()
        assert layer.weights_TK.sum(axis=1) == pytest.approx(np.ones(9))
        assert (totals.tokens, totals.dropped, totals.capacity) == (9, 0, None)


def test_generated_tokens_are_looked_at_too(loaded: LoadedModel) -> None:
    ids, stats, layers = inspect_routing(loaded, PROMPT, STOCK, max_new_tokens=5)
    assert list(ids[9:]) == tiny_models.oracle_ids(tiny_models.tiny_mixtral(), PROMPT, 5)
    assert stats.tokens == 14
    assert all(len(layer.experts_TK) == 14 for layer in layers)
    stopped, *_ = inspect_routing(loaded, PROMPT, STOCK, max_new_tokens=5, stop_ids={ids[11]})
    assert stopped == ids[: ids.index(ids[11], 9)]


@pytest.mark.parametrize("overflow", ["drop", "reroute"])
def test_limits_show(loaded: LoadedModel, overflow: str) -> None:
    settings = RoutingSettings(capacity_factor=0.5, overflow=overflow)
    _, stats, layers = inspect_routing(loaded, PROMPT, settings, max_new_tokens=2)
    assert stats.dropped_share > 0
    for layer, totals in zip(layers, stats.layers, strict=True):
        assert totals.capacity == 3
        assert totals.dropped == (~layer.kept_TK).sum()
        assert totals.rerouted == layer.rerouted_TK.sum()
        assert not layer.weights_TK[~layer.kept_TK].any()
        prompt_load = np.bincount(layer.experts_TK[:9][layer.kept_TK[:9]], minlength=4)
        assert prompt_load.max() <= 3
        assert layer.kept_TK[9:].all()


def test_shares_are_of_what_was_kept() -> None:
    trace = LayerTrace(
        LayerLabel(0, "mlp", 3),
        np.array([[0, 1], [2, 0], [1, 2]]),
        np.array([[True, True], [True, False], [False, False]]),
        np.zeros((3, 2), bool),
        np.array([[1.5, 0.5], [0.2, 0.0], [0.0, 0.0]]),
    )
    assert trace.shares().tolist() == [[0.75, 0.25, 0], [0, 0, 1], [0, 0, 0]]


def test_a_directory_is_read_as_the_llm_reads_it(moe_folder: Path) -> None:
    told: list[str] = []
    seen = inspect_prompt(moe_folder, "Why?", STOCK, tell=told.append)
    assert (seen.model, seen.prompt, seen.prompt_tokens) == ("tiny-mixtral", "Why?", 4)
    assert seen.token_texts == ("W", "h", "y", "?")
    assert told == ["Loading tiny-mixtral", "Reading 4 tokens"]


def test_as_chat_the_template_is_read_too(moe_folder: Path) -> None:
    seen = inspect_prompt(moe_folder, "Why?", STOCK, as_chat=True, max_new_tokens=3)
    assert "".join(seen.token_texts).startswith("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n")
    assert seen.token_texts[0] == "<|im_start|>"
    assert len(seen.token_ids) <= seen.prompt_tokens + 3


def test_what_cannot_be_looked_into(moe_folder: Path, dense_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a mixture of experts"):
        inspect_prompt(dense_folder, "Why?", STOCK)
    with pytest.raises(ConfigurationError, match="no tokens"):
        inspect_prompt(moe_folder, "", STOCK)
    with pytest.raises(ContextOverflowError, match="by 92 tokens"):
        inspect_prompt(moe_folder, "x" * 600, STOCK, max_new_tokens=4)
    with pytest.raises(ConfigurationError, match="top_k=9"):
        inspect_prompt(moe_folder, "Why?", RoutingSettings(top_k=9))


def test_nan_names_the_layer() -> None:
    model = tiny_models.tiny_mixtral()
    with torch.no_grad():
        model.model.layers[1].mlp.experts.down_proj.fill_(float("nan"))
    with pytest.raises(SparseMoEError, match=r"model\.layers\.1\.mlp"):
        inspect_routing(LoadedModel(model), PROMPT, STOCK)


def test_the_model_is_as_it_was() -> None:
    model = tiny_models.tiny_mixtral()
    before = model(input_ids=torch.tensor([PROMPT])).logits
    inspect_routing(LoadedModel(model), PROMPT, RoutingSettings(top_k=1, capacity_factor=0.5))
    assert torch.equal(model(input_ids=torch.tensor([PROMPT])).logits, before)
