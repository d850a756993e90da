"""A model that returns NaN says in which layer it begins, under the routing of the call that met it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import PreTrainedModel

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import (
    LoadedModel,
    first_nan_layer,
    lock_of,
)
from tests.sparse_moe.test_batching import prompt, together
from tests.sparse_moe.tiny_models import asking, oracle_ids, tiny_mixtral


@pytest.fixture
def serve() -> Iterator[Callable[[PreTrainedModel], Engine]]:
    """Opens engines and closes them after the test."""
    opened: list[Engine] = []

    def make(model: PreTrainedModel) -> Engine:
        opened.append(Engine(lambda: model))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()


def _damaged(path: str, expert: int | None = None, layers: int = 2) -> PreTrainedModel:
    model = tiny_mixtral(num_hidden_layers=layers)
    with torch.no_grad():
        tensor = model.get_parameter(path)
        (tensor if expert is None else tensor[expert]).fill_(float("nan"))
    return model


@pytest.mark.parametrize(
    ("path", "expert", "named"),
    [
        ("model.layers.1.mlp.experts.down_proj", 2, r"model\.layers\.1\.mlp\.experts \(Mixtral"),
        ("model.layers.2.mlp.experts.gate_up_proj", None, r"model\.layers\.2\.mlp\.experts\.act_fn \(SiLU"),
        ("model.layers.2.self_attn.v_proj.weight", None, r"model\.layers\.2\.self_attn\.v_proj \(Linear"),
        ("model.layers.0.mlp.gate.weight", None, r"model\.layers\.0\.mlp\.gate \(MixtralTopKRouter"),
        ("model.norm.weight", None, r"model\.norm \(MixtralRMSNorm"),
        ("lm_head.weight", None, r"lm_head \(Linear"),
    ],
)  # fmt: skip
def test_nan_logits_name_the_layer(
    serve: Callable[..., Engine], path: str, expert: int | None, named: str
) -> None:
    model = _damaged(path, expert, layers=3)
    # Long enough that some token goes to every expert.
    (recorder,) = together(serve(model), [asking(*prompt(60), tokens=4)])
    error = recorder.ending().error
    assert isinstance(error, SparseMoEError)
    assert error.args[0].startswith("the model returned NaN logits, first in ")
    assert recorder.tokens == []
    with pytest.raises(SparseMoEError, match=f"first in {named}"):
        raise error
    assert not any(module._forward_hooks for module in model.modules())


def test_nan_met_while_decoding_is_named_too_and_stays_in_its_row(serve: Callable[..., Engine]) -> None:
    healthy = tiny_mixtral()
    expected = [oracle_ids(healthy, list(prompt(5, seed)), 20, eos_token_id=None) for seed in range(2)]
    # A token that only the second answer has, and not at once.
    bad = next(
        t for t in expected[1][2:] if t not in {*expected[0], *prompt(5, 0), *prompt(5, 1), *expected[1][:2]}
    )
    with torch.no_grad():
        healthy.model.embed_tokens.weight[bad] = float("nan")
    recorders = together(serve(healthy), [asking(*prompt(5, seed)) for seed in range(2)])
    assert (recorders[0].tokens, recorders[0].ending().error) == (expected[0], None)
    assert "first in model.embed_tokens (Embedding)" in str(recorders[1].ending().error)
    assert recorders[1].tokens == expected[1][: expected[1].index(bad) + 1]


def test_nan_that_only_the_calls_own_routing_meets_is_named(serve: Callable[..., Engine]) -> None:
    """With all four experts, every token meets the damaged one; with two, these tokens do not."""
    engine = serve(_damaged("model.layers.1.mlp.experts.down_proj", expert=3))
    spared = next(
        ids for ids in (prompt(2, seed) for seed in range(40))
        if together(engine, [asking(*ids, tokens=1)])[0].ending().error is None
    )  # fmt: skip
    (recorder,) = together(engine, [asking(*spared, tokens=1, routing=RoutingSettings(top_k=4))])
    assert "first in model.layers.1.mlp.experts" in str(recorder.ending().error)


def test_who_copies_the_model_meanwhile_meets_no_hook() -> None:
    model = _damaged("model.norm.weight")
    loaded = LoadedModel(model)
    found: list[str | None] = []
    looking = threading.Thread(target=lambda: found.append(first_nan_layer(loaded, [5, 6])))
    with lock_of(model):
        looking.start()
        looking.join(0.2)
        hooks = [hook for module in model.modules() for hook in module._forward_hooks]
    looking.join()
    assert hooks == []
    assert found == ["model.norm (MixtralRMSNorm)"]
