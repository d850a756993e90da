"""What prompts begin with alike is computed once, and changes neither tokens nor counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import MixtralForCausalLM, PreTrainedModel

from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.requests import Ending
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving.prefill import chunk_end
from tests.sparse_moe.test_batching import prompt, together
from tests.sparse_moe.tiny_models import asking, oracle_ids, state_kinds, tiny_jamba

KINDS = state_kinds()
TIGHT = RoutingSettings(capacity_factor=0.5, capacity_block=16)


@pytest.fixture
def unshared(model: MixtralForCausalLM) -> Iterator[Engine]:
    engine = Engine(lambda: model, prefix_bytes=0)
    yield engine
    engine.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_common_beginning_is_computed_once(kind: str) -> None:
    model = KINDS[kind]()
    engine = Engine(lambda: model)
    prompts = [prompt(100, 1) + prompt(9, 10 + seed) for seed in range(4)]
    recorders = together(engine, [asking(*ids, tokens=8) for ids in prompts])
    expected = [oracle_ids(model, list(ids), 8, eos_token_id=None) for ids in prompts]
    assert [recorder.tokens for recorder in recorders] == expected
    assert [recorder.ending().shared_tokens for recorder in recorders] == [0, 96, 96, 96]
    assert engine.stats().read_tokens == 1 + 109 + 3 * 13
    assert engine.stats().shared_tokens == 3 * 96
    engine.close()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_equal_prompts_of_whole_blocks_share_all_but_the_last(kind: str) -> None:
    engine = Engine(KINDS[kind])
    recorders = together(engine, [asking(*prompt(96, 1), tokens=4)] * 3)
    assert [recorder.ending().shared_tokens for recorder in recorders] == [0, 64, 64]
    assert recorders[0].tokens == recorders[1].tokens == recorders[2].tokens
    engine.close()


def test_later_rounds_share_too_and_memory_is_bounded(model: MixtralForCausalLM) -> None:
    token = 2 * 2 * 2 * 8 * 4
    engine = Engine(lambda: model, prefix_bytes=96 * token)
    for round_number in range(3):
        ending = together(engine, [asking(*prompt(64), *prompt(5, round_number), tokens=2)])[0].ending()
        assert ending.shared_tokens == (64 if round_number else 0)
    for other in range(4):
        together(engine, [asking(*prompt(64, 20 + other), tokens=2)])
        assert engine.stats().prefix_bytes <= 96 * token
    assert together(engine, [asking(*prompt(64), 9, tokens=2)])[0].ending().shared_tokens == 0
    engine.close()


@pytest.mark.parametrize(
    "routing",
    [RoutingSettings(), TIGHT, RoutingSettings(capacity_factor=0.5, overflow="reroute", capacity_block=16)],
)
@pytest.mark.parametrize("kind", ["attention", "recurrent", "sliding windows"])
def test_one_pass_chunks_and_sharing_route_alike(
    kind: str, routing: RoutingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = KINDS[kind]()
    ids = prompt(75, 4)
    endings: list[Ending] = []
    tokens: list[list[int]] = []
    for chunk, shared in ((512, False), (16, False), (48, True)):
        monkeypatch.setattr(
            "llama_index.packs.mixture_of_agents.sparse_moe.serving.schedule.IDLE_CHUNK", chunk
        )
        engine = Engine(lambda: model)
        if shared:
            together(engine, [asking(*ids[:60], 5, tokens=1, routing=routing, observe=True)])
        recorder = together(engine, [asking(*ids, tokens=6, routing=routing, observe=True)])[0]
        endings.append(recorder.ending())
        tokens.append(recorder.tokens)
        engine.close()
    assert endings[2].shared_tokens > 0
    assert tokens[0] == tokens[1] == tokens[2]
    loads = [[layer.load for layer in ending.routing.layers] for ending in endings if ending.routing]
    dropped = [[layer.dropped for layer in ending.routing.layers] for ending in endings if ending.routing]
    assert loads[0] == loads[1] == loads[2]
    assert dropped[0] == dropped[1] == dropped[2]
    assert sum(dropped[0]) > 0 or not routing.limited or routing.reroutes


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 70), st.integers(1, 40)), min_size=2, max_size=5),
    st.sampled_from([RoutingSettings(), TIGHT]),
)
def test_sharing_changes_no_token(
    model: MixtralForCausalLM, unshared: Engine, shapes: list[tuple[int, int]], routing: RoutingSettings
) -> None:
    engine = Engine(lambda: model)
    requests = [
        asking(*prompt(70)[:common], *prompt(own, own), tokens=5, routing=routing) for common, own in shapes
    ]
    alone = [together(unshared, [request])[0].tokens for request in requests]
    assert [recorder.tokens for recorder in together(engine, requests)] == alone
    engine.close()


@pytest.mark.parametrize(
    ("build", "routing", "reason"),
    [
        (tiny_jamba, RoutingSettings(), "cannot go on from a cache"),
        (
            KINDS["attention"],
            RoutingSettings(capacity_factor=1.0, capacity_scope="batch"),
            "capacity_scope='batch'",
        ),
    ],
)
def test_who_cannot_share_says_so(
    build: Callable[[], PreTrainedModel], routing: RoutingSettings, reason: str
) -> None:
    model = build()
    engine = Engine(lambda: model)
    request = asking(*prompt(100), tokens=2, routing=routing)
    endings = [recorder.ending() for recorder in together(engine, [request, request])]
    assert [ending.shared_tokens for ending in endings] == [0, 0]
    assert all(reason in str(ending.not_shared_because) for ending in endings)
    assert engine.stats().prefix_bytes == 0
    engine.close()


def test_settings_do_not_share_each_others_beginnings(served: Engine) -> None:
    first, second = together(
        served, [asking(*prompt(80), tokens=1, routing=routing) for routing in (TIGHT, RoutingSettings())]
    )
    assert second.ending().shared_tokens == 0
    assert first.ending().not_shared_because is None


@given(
    st.integers(0, 20),
    st.integers(1, 300),
    st.integers(1, 64),
    st.integers(1, 200),
    st.lists(st.integers(0, 20)),
)
def test_chunks_end_where_blocks_end(
    start: int, tokens: int, block: int, largest: int, stops: list[int]
) -> None:
    begin = start * block
    if begin >= tokens:
        return
    end = chunk_end(begin, tokens, block, largest, [stop * block for stop in stops])
    assert begin < end <= tokens
    assert end == tokens or end % block == 0
    assert end - begin <= max(block, largest)
    assert not any(begin < stop * block < end for stop in stops)
