"""What cannot work is refused in words: what was found, how much is needed, which layer it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import JetMoeConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from llama_index.packs.mixture_of_agents.errors import (
    ConfigurationError,
    DeadlineExceededError,
    EngineClosedError,
    OutOfMemoryError,
    QueueFullError,
)
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.serving import memory
from tests.sparse_moe import tiny_models
from tests.sparse_moe.test_batching import prompt, together
from tests.sparse_moe.tiny_models import (
    WIDTHS,
    Recorder,
    asking,
    oracle_ids,
    tiny_mixtral,
    tiny_phimoe,
    tiny_tokenizer,
)

PATIENCE = 20


def _seeded(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return model


def tiny_jetmoe() -> PreTrainedModel:
    """A mixture of experts that does not take transformers' experts interface."""
    names = ("vocab_size", "hidden_size", "intermediate_size", "initializer_range", "eos_token_id")
    return _seeded(
        JetMoeConfig(
            **{name: WIDTHS[name] for name in names},
            num_hidden_layers=2,
            num_key_value_heads=2,
            kv_channels=16,
            num_local_experts=4,
            num_experts_per_tok=2,
            max_position_embeddings=512,
        )
    )


@pytest.fixture
def serve() -> Iterator[Callable[..., Engine]]:
    """Opens engines and closes them after the test."""
    opened: list[Engine] = []

    def make(model: PreTrainedModel, **options: Any) -> Engine:
        opened.append(Engine(lambda: model, **options))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()


def _free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: size)


def test_a_request_that_would_not_fit_says_how_much_it_needs(
    served: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Keys and values, 2 layers, 2 heads of 8 floats: 256 bytes a token; 2000 tokens: 0.5 MB.
    token = 2 * 2 * 2 * 8 * 4
    served.load()
    _free(monkeypatch, 2000 * token - 1)
    large, small = Recorder(), Recorder()
    served.submit(asking(*prompt(500), tokens=1500), large)
    error = large.ending().error
    served.submit(asking(tokens=3), small)
    assert isinstance(error, OutOfMemoryError)
    assert isinstance(error, MemoryError)
    assert "the cache of a request of 2000 tokens needs 0.5 MB of memory and 0.5 MB is free on cpu" in str(
        error
    )
    assert "shorten the prompt, lower max_tokens" in str(error)
    assert (large.ending().first_step, large.tokens) == (0, [])
    assert small.ending().error is None


def test_who_is_admitted_already_is_counted_too(served: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    token = 2 * 2 * 2 * 8 * 4
    served.load()
    _free(monkeypatch, (3 * 400 - 100) * token)
    gate = threading.Event()
    recorders = [Recorder(lambda _: gate.wait(PATIENCE)), Recorder(), Recorder()]
    for recorder in recorders:
        served.submit(asking(*prompt(8), tokens=392), recorder)
    gate.set()
    assert [type(recorder.ending().error) for recorder in recorders].count(OutOfMemoryError) == 1
    assert "of 400 tokens beside 2 others needs" in str(recorders[2].ending().error)


def test_weights_that_would_not_fit_are_not_loaded(moe_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk = (moe_folder / "model.safetensors").stat().st_size
    _free(monkeypatch, 20_000)
    llm = SparseMoELLM(moe_folder, max_new_tokens=1)
    message = (
        f"loading tiny-mixtral needs {on_disk / 1e6:.1f} MB of memory and 0.0 MB is free on cpu; free some"
    )
    for ask in (llm.load, lambda: llm.complete("Hello")):
        with pytest.raises(OutOfMemoryError, match=message):
            ask()
    half = SparseMoELLM(moe_folder, max_new_tokens=1, dtype="bfloat16")
    with pytest.raises(OutOfMemoryError, match=f"needs {on_disk // 2 / 1e6:.1f} MB"):
        half.load()
    _free(monkeypatch, 10**12)
    assert llm.complete("Hello").raw
    llm.close()


class Clock:
    """Tells the time it is set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_full_queue_is_an_error_of_its_own(serve: Callable[..., Engine]) -> None:
    gate, engine = threading.Event(), serve(tiny_mixtral(), max_waiting=1)
    running, waiting = Recorder(lambda _: gate.wait(PATIENCE)), Recorder()

    def crowd() -> None:
        for recorder in (running, waiting, Recorder(), Recorder()):
            engine.submit(asking(tokens=1), recorder)

    engine.load()
    # Nobody reads the second one before the gate opens, so it waits.
    with pytest.raises(QueueFullError, match=r"at most 1 may\. Wait for some to finish, or send fewer"):
        crowd()
    gate.set()
    assert running.ending().error is None


@pytest.mark.parametrize("stage", ["waiting", "reading", "decoding"])
def test_a_deadline_ends_a_request_wherever_it_is(serve: Callable[..., Engine], stage: str) -> None:
    clock = Clock()
    engine = serve(tiny_mixtral(window=2048), clock=clock)
    late = Recorder(
        lambda count: setattr(clock, "now", 111.0) if stage == "decoding" and count == 4 else None
    )

    def act(count: int) -> None:
        # "reading": after one chunk of the long prompt.
        if count == 3 and stage != "decoding":
            clock.now = 111.0

    companion = Recorder(act)
    gate = threading.Event()
    engine.submit(asking(tokens=1), Recorder(lambda _: gate.wait(PATIENCE)))
    engine.submit(asking(tokens=12), companion)
    limit = {"batch_limit": 1} if stage == "waiting" else {}
    length = 1000 if stage == "reading" else 5
    engine.submit(asking(*prompt(length), tokens=30, timeout=10, **limit), late)
    gate.set()
    ending = late.ending()
    assert isinstance(ending.error, DeadlineExceededError)
    assert isinstance(ending.error, TimeoutError)
    assert "not done within its timeout of 10 s; give it more time" in str(ending.error)
    assert len(late.tokens) == (4 if stage == "decoding" else 0)
    assert (ending.first_step > 0) == (stage != "waiting")
    assert companion.ending().reason == "length"
    assert len(companion.tokens) == 12
    assert engine.stats().active == engine.stats().waiting == 0


def test_time_spent_loading_counts(serve: Callable[..., Engine]) -> None:
    clock = Clock()

    def load() -> PreTrainedModel:
        clock.now += 50
        return tiny_mixtral()

    engine, recorder = Engine(load, clock=clock), Recorder()
    engine.submit(asking(timeout=10), recorder)
    assert isinstance(recorder.ending().error, DeadlineExceededError)
    assert recorder.ending().first_step == 0
    engine.close()


async def test_a_closed_engine_says_what_to_do(moe_folder: Path) -> None:
    llm = SparseMoELLM(moe_folder, max_new_tokens=2)
    llm.load()
    llm.close()
    for ask in (llm.load, lambda: llm.complete("Hi"), lambda: list(llm.stream_complete("Hi"))):
        with pytest.raises(EngineClosedError, match="make a new SparseMoELLM"):
            ask()
    with pytest.raises(EngineClosedError, match="make a new SparseMoELLM"):
        await llm.acomplete("Hi")
    llm.close()


@pytest.mark.parametrize("kind", ["directory", "loaded"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity_factor": 0}, "capacity_factor=0 is not valid"),
        ({"capacity_factor": -0.5}, "capacity_factor=-0.5 is not valid"),
        ({"capacity_factor": float("inf")}, "capacity_factor=inf is not valid"),
        ({"capacity_factor": True}, "capacity_factor=True is not valid"),
        ({"top_k": 0}, "top_k=0 is not valid"),
        (
            {"top_k": 5},
            "top_k=5 is more than the 4 experts of (MixtralForCausalLM|mixtral); it must be between 1 and 4",
        ),
        ({"top_k": 1.0}, "top_k=1.0 is not valid"),
    ],
)
def test_routing_is_checked_at_construction(
    moe_folder: Path, kind: str, options: dict[str, Any], message: str
) -> None:
    model: Any = moe_folder if kind == "directory" else tiny_mixtral()
    with pytest.raises(ConfigurationError, match=message):
        SparseMoELLM(model, tiny_tokenizer(), **options)


def test_a_router_that_takes_no_other_top_k(tmp_path: Path) -> None:
    folder = tiny_models.save(tiny_phimoe(), tmp_path / "phimoe")
    llm = SparseMoELLM(folder, top_k=1, max_new_tokens=2)
    for ask in (llm.load, lambda: llm.complete("Hello")):
        with pytest.raises(
            ConfigurationError, match=r"PhimoeTopKRouter chooses 2 experts .* when asked for 1"
        ):
            ask()
    # The checkpoint's own number is no override.
    assert SparseMoELLM(folder, top_k=2, max_new_tokens=2).complete("Hello").raw
    llm.close()


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (tiny_phimoe, {"top_k": 1}, "PhimoeTopKRouter chooses 2 experts"),
        (tiny_phimoe, {"capacity_factor": 1.0, "overflow": "reroute"}, "overflow='reroute' is not available"),
        (tiny_jetmoe, {"capacity_factor": 1.0}, "does not take transformers' experts"),
    ],
)
def test_a_loaded_model_is_asked_at_construction(
    build: Callable[[], PreTrainedModel], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SparseMoELLM(build(), tiny_tokenizer(), **options)


def test_tokens_the_model_does_not_know_never_reach_it(serve: Callable[..., Engine]) -> None:
    engine = serve(tiny_mixtral())
    for token in (259, -1):
        error = together(engine, [asking(5, token)])[0].ending().error
        assert f"the prompt has token {token}, and the model knows 259 tokens" in str(error)
    assert engine.stats().steps == 2, "only those that held the worker"


def test_a_model_in_double_precision_decodes(serve: Callable[..., Engine]) -> None:
    model = tiny_mixtral().double()
    model.set_experts_implementation("eager")
    expected = oracle_ids(model, [5, 6, 7], 8, eos_token_id=None)
    model.set_experts_implementation("grouped_mm")
    assert together(serve(model), [asking(5, 6, 7, tokens=8)])[0].tokens == expected


def test_without_the_experts_interface_plain_generation_works(
    serve: Callable[..., Engine],
) -> None:
    model = tiny_jetmoe()
    engine = serve(model)
    prompts = [prompt(length, length) for length in (3, 50, 17)]
    recorders = together(engine, [asking(*ids, tokens=8, observe=True) for ids in prompts])
    for ids, recorder in zip(prompts, recorders, strict=True):
        assert recorder.tokens == oracle_ids(model, list(ids), 8, eos_token_id=None)
        assert recorder.ending().routing is None


def test_without_the_experts_interface_routing_is_refused_in_words(tmp_path: Path) -> None:
    folder = tiny_models.save(tiny_jetmoe(), tmp_path / "jetmoe")
    plain = SparseMoELLM(folder, max_new_tokens=3, temperature=0.0)
    answer: Any = plain.complete("Hello").raw
    assert (answer["usage"]["completion_tokens"], answer["sparse_moe"]["layers"]) == (3, [])
    errors = []
    for options in ({"capacity_factor": 1.0}, {"top_k": 1}):
        limited = SparseMoELLM(folder, max_new_tokens=3, **options)
        for ask in (limited.load, lambda llm=limited: llm.complete("Hello")):
            with pytest.raises(
                ConfigurationError, match="JetMoeForCausalLM does not take transformers' experts"
            ) as found:
                ask()
            errors.append(found.value)
    # An error that is raised again drags along the frames of everyone it was raised for.
    assert len({id(error) for error in errors}) == len(errors)
    plain.close()


def test_a_model_of_whole_numbers_is_refused() -> None:
    class Int8Mixtral(type(tiny_mixtral())):  # type: ignore[misc]
        dtype = torch.int8

    model = tiny_mixtral()
    model.__class__ = Int8Mixtral
    with pytest.raises(ConfigurationError, match=r"the model computes in torch\.int8; load it as float32"):
        SparseMoELLM(model, tiny_tokenizer())
