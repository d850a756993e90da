"""Requests that share a forward pass get what each would get alone, and leave no trace of one another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import MixtralForCausalLM, PreTrainedModel

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.requests import GenerationRequest, SamplingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
from tests.sparse_moe.tiny_models import Recorder, asking, oracle_ids, state_kinds, tiny_jamba, tiny_mixtral

KINDS = {**state_kinds(), "no continuing": tiny_jamba}


@pytest.fixture(params=sorted(KINDS))
def any_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return KINDS[request.param]()


@pytest.fixture
def any_engine(any_model: PreTrainedModel) -> Iterator[Engine]:
    engine = Engine(lambda: any_model)
    yield engine
    engine.close()


def together(engine: Engine, requests: list[GenerationRequest]) -> list[Recorder]:
    """Ask all at once: the worker is held until they have arrived."""
    gate = threading.Event()
    engine.submit(asking(3, tokens=1), Recorder(lambda _: gate.wait(20)))
    recorders = [Recorder() for _ in requests]
    for request, recorder in zip(requests, recorders, strict=True):
        engine.submit(request, recorder)
    gate.set()
    for recorder in recorders:
        recorder.ending()
    return recorders


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    ids = torch.randint(3, 259, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return tuple(ids)


def test_lengths_that_differ_decode_as_alone(any_engine: Engine, any_model: PreTrainedModel) -> None:
    prompts = [prompt(length, length) for length in (4, 41, 17, 2)]
    recorders = together(any_engine, [asking(*ids, tokens=12) for ids in prompts])
    expected = [oracle_ids(any_model, list(ids), 12, eos_token_id=None) for ids in prompts]
    assert [recorder.tokens for recorder in recorders] == expected
    assert any_engine.stats().widest_step == 4


def test_a_batch_costs_as_many_passes_as_its_longest_answer(served: Engine) -> None:
    recorders = together(served, [asking(*prompt(5, seed), tokens=20) for seed in range(6)])
    assert {recorder.ending().reason for recorder in recorders} == {"length"}
    # One pass held the worker; each prompt is one, and so is each further token of the last to begin.
    assert served.stats().steps <= 1 + 6 + 19 + 6
    assert served.stats().widest_step == 6


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3)), min_size=2, max_size=7),
    st.integers(1, 4),
)
def test_who_comes_and_goes_changes_nobodys_tokens(
    model: MixtralForCausalLM, shapes: list[tuple[int, int, int]], limit: int
) -> None:
    def request(length: int, tokens: int, seed: int) -> GenerationRequest:
        sampling = SamplingSettings(temperature=float(seed > 0), seed=seed)
        return asking(*prompt(length, seed), tokens=tokens, sampling=sampling, batch_limit=limit)

    alone, crowd = Engine(lambda: model, prefix_bytes=0), Engine(lambda: model)
    expected = [together(alone, [request(*shape)])[0].tokens for shape in shapes]
    recorders = together(crowd, [request(*shape) for shape in shapes])
    assert [recorder.tokens for recorder in recorders] == expected
    assert crowd.stats().widest_step <= limit
    alone.close()
    crowd.close()


def test_settings_that_differ_never_share_a_pass(model: MixtralForCausalLM, served: Engine) -> None:
    wide, narrow = RoutingSettings(), RoutingSettings(top_k=1)
    recorders = together(served, [asking(*prompt(6), routing=one) for one in (wide, narrow, wide, narrow)])
    expected = [
        oracle_ids(one, list(prompt(6)), 20, eos_token_id=None)
        for one in (model, tiny_mixtral(num_experts_per_tok=1))
    ]
    assert [recorder.tokens for recorder in recorders] == expected * 2
    assert expected[0] != expected[1]
    assert served.stats().widest_step == 2


def test_routing_the_model_cannot_do_fails_its_own_request(served: Engine) -> None:
    good, bad = together(served, [asking(*prompt(6)), asking(*prompt(6), routing=RoutingSettings(top_k=9))])
    assert good.ending().error is None
    assert isinstance(bad.ending().error, ConfigurationError)
    assert "top_k" in str(bad.ending().error)


def test_after_a_failed_pass_each_goes_on_alone(
    served: Engine, model: MixtralForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = 77
    run = LoadedModel.run

    def poisoned(self: LoadedModel, ids_BS: Any, *rest: Any) -> torch.Tensor:
        if any(poison in ids for ids in ids_BS):
            raise RuntimeError("poisoned")
        return run(self, ids_BS, *rest)

    expected = [oracle_ids(model, list(prompt(5, seed)), 20, eos_token_id=None) for seed in range(3)]
    others = {3, *expected[0], *expected[2], *prompt(5, 0), *prompt(5, 1), *prompt(5, 2)}
    victim = next(index for index, token in enumerate(expected[1]) if index > 3 and token not in others)
    assert expected[1].index(expected[1][victim]) == victim
    poison = expected[1][victim]
    monkeypatch.setattr(LoadedModel, "run", poisoned)
    recorders = together(served, [asking(*prompt(5, seed)) for seed in range(3)])
    assert isinstance(recorders[1].ending().error, SparseMoEError)
    assert recorders[1].tokens == expected[1][: victim + 1]
    assert [recorders[0].tokens, recorders[2].tokens] == [expected[0], expected[2]]
    assert served.stats().active == 0


def test_a_long_prompt_is_read_between_others_tokens(served: Engine) -> None:
    long = Recorder()

    def submit_long(count: int) -> None:
        if count == 3:
            served.submit(asking(*prompt(500), tokens=2), long)

    early = Recorder(submit_long)
    served.submit(asking(*prompt(4), tokens=30), early)
    ending = long.ending()
    # 500 tokens are four chunks; early's tokens come in between.
    assert ending.last_step - ending.first_step >= 2 * 3
    assert early.ending().last_step > ending.first_step
    assert long.tokens == together(served, [asking(*prompt(500), tokens=2)])[0].tokens
