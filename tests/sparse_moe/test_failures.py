"""Whatever fails, and whenever: its own request hears of it, its neighbours go on, nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from transformers import MixtralForCausalLM
from transformers.cache_utils import Cache

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.local_model import LocalModel, RoutingTotals
from llama_index.packs.mixture_of_agents.sparse_moe.serving import row_caches
from llama_index.packs.mixture_of_agents.sparse_moe.serving.decoding import DecodingRow
from tests.sparse_moe.test_batching import prompt, together
from tests.sparse_moe.tiny_models import Recorder, asking, oracle_ids, tiny_mixtral, tiny_tokenizer

PATIENCE = 20


class FailsOnce:
    """A function that fails the first time it is called, and then does what it should."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.failures = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.failures:
            self.failures += 1
            raise RuntimeError("out of memory")
        return self._function(*args, **kwargs)


@pytest.fixture
def loaded_llm(model: MixtralForCausalLM) -> Iterator[SparseMoELLM]:
    llm = SparseMoELLM(model, tiny_tokenizer(), temperature=0.0, max_new_tokens=6)
    yield llm
    llm.close()


def _in_a_thread(work: Any) -> Exception:
    """What `work` raises; a hang is a failure here, not of the whole run."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as problem:
            raised.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it waits for ever"
    (only,) = raised
    return only


WAYS: dict[str, Callable[[SparseMoELLM], object]] = {
    "complete": lambda llm: llm.complete("Hello"),
    "stream_complete": lambda llm: list(llm.stream_complete("Hello")),
    "acomplete": lambda llm: asyncio.run(llm.acomplete("Hello")),
}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_tokens_that_are_no_text_fail_the_call_instead_of_hanging_it(
    loaded_llm: SparseMoELLM, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow tokenizers raise for ids beyond their vocabulary, which a padded embedding can give."""

    def decode(self: LocalModel, ids: Sequence[int]) -> str:
        raise IndexError("piece id is out of range")

    with monkeypatch.context() as patch:
        patch.setattr(LocalModel, "decode", decode)
        error = _in_a_thread(lambda: WAYS[way](loaded_llm))
    assert isinstance(error, SparseMoEError)
    assert "piece id is out of range" in str(error)
    assert loaded_llm.complete("Hello").text


def test_a_call_whose_ending_cannot_be_counted_still_ends(
    loaded_llm: SparseMoELLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(self: RoutingTotals, ending: object) -> None:
        raise ValueError("other layers")

    monkeypatch.setattr(RoutingTotals, "add", add)
    error = _in_a_thread(lambda: loaded_llm.complete("Hello"))
    assert isinstance(error, SparseMoEError)
    assert "other layers" in str(error)


def test_who_finds_no_memory_to_join_fails_alone(
    served: Engine, model: MixtralForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = FailsOnce(row_caches.join_rows)
    monkeypatch.setattr(row_caches, "join_rows", joining)
    recorders = together(served, [asking(*prompt(5, seed)) for seed in range(4)])
    errors = [recorder.ending().error for recorder in recorders]
    assert joining.failures == 1
    assert [error is not None for error in errors] == [False, True, False, False]
    assert isinstance(errors[1], SparseMoEError)
    for seed in (0, 2, 3):
        assert recorders[seed].tokens == oracle_ids(model, list(prompt(5, seed)), 20, eos_token_id=None)
    assert not served.closed


def test_who_leaves_takes_nobody_along_even_without_memory(
    served: Engine, model: MixtralForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = FailsOnce(row_caches.keep_rows)
    monkeypatch.setattr(row_caches, "keep_rows", leaving)
    lengths = [4, 9, 20]
    recorders = together(
        served, [asking(*prompt(5, seed), tokens=tokens) for seed, tokens in enumerate(lengths)]
    )
    assert leaving.failures == 1
    for seed, (recorder, tokens) in enumerate(zip(recorders, lengths, strict=True)):
        assert recorder.ending().error is None
        assert recorder.tokens == oracle_ids(model, list(prompt(5, seed)), tokens, eos_token_id=None)
    assert served.stats().active == 0


def test_a_pass_that_fails_halfway_leaves_no_half_written_cache(
    served: Engine, model: MixtralForCausalLM
) -> None:
    """The first layer has taken its token in when the second one fails."""
    second, failing = model.model.layers[1], threading.Event()

    def fail(*_: Any) -> None:
        if failing.is_set():
            failing.clear()
            raise RuntimeError("halfway")

    def fail_soon(count: int) -> None:
        if count == 5:
            failing.set()

    hook = second.register_forward_pre_hook(fail)
    gate = threading.Event()
    served.submit(asking(3, tokens=1), Recorder(lambda _: gate.wait(PATIENCE)))
    recorders = [Recorder(fail_soon), Recorder(), Recorder()]
    for seed, recorder in enumerate(recorders):
        served.submit(asking(*prompt(5 + 3 * seed, seed)), recorder)
    gate.set()
    for seed, recorder in enumerate(recorders):
        assert recorder.ending().error is None
        expected = oracle_ids(model, list(prompt(5 + 3 * seed, seed)), 20, eos_token_id=None)
        assert recorder.tokens == expected
    hook.remove()
    assert not failing.is_set()


def _live(*kinds: type) -> int:
    gc.collect()
    return sum(issubclass(type(one), kinds) for one in gc.get_objects())


def test_an_error_that_someone_keeps_keeps_no_cache_alive(served: Engine) -> None:
    before = _live(DecodingRow, Cache)
    kept = [Recorder(), Recorder(lambda count: 1 // (3 - count))]  # type: ignore[arg-type,return-value]
    served.submit(asking(*prompt(40), 999_999), kept[0])
    served.submit(asking(*prompt(40)), kept[1])
    assert all(recorder.ending().error is not None for recorder in kept)
    # One more turn, so that the worker's own variables speak of somebody else.
    assert together(served, [asking(5, tokens=2)])[0].ending().error is None
    assert _live(Cache) == 0
    assert _live(DecodingRow, Cache) - before <= len(kept)


def test_an_error_that_someone_keeps_keeps_no_model_alive_behind_a_closed_engine() -> None:
    model = tiny_mixtral()
    seen = weakref.ref(model)
    engine, failing = Engine(lambda model=model: model), Recorder(lambda _: 1 // 0)  # type: ignore[misc, arg-type, return-value]
    engine.submit(asking(5), failing)
    assert failing.ending().error is not None
    engine.close()
    del engine, model
    gc.collect()
    assert seen() is None


def test_an_error_of_loading_that_someone_keeps_keeps_no_model_alive() -> None:
    seen: list[weakref.ref[MixtralForCausalLM]] = []

    def load() -> MixtralForCausalLM:
        broken = tiny_mixtral()
        broken.lm_head.weight = torch.nn.Parameter(torch.zeros(259, 31), requires_grad=False)
        seen.append(weakref.ref(broken))
        return broken

    engine, recorder = Engine(load), Recorder()
    engine.submit(asking(), recorder)
    assert recorder.ending().error is not None
    engine.close()
    gc.collect()
    assert seen[0]() is None


def test_a_thread_that_cannot_start_leaves_no_request_behind(
    model: MixtralForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine, refused = Engine(lambda: model), Recorder()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            engine.submit(asking(), refused)
    assert engine.stats().waiting == 0
    assert together(engine, [asking(tokens=2)])[0].ending().error is None
    assert refused.endings == []
    engine.close()


def test_without_any_thread_closing_still_works(
    model: MixtralForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(lambda: model)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            engine.submit(asking(), Recorder())
    engine.close()
    assert engine.closed


def test_a_model_that_cannot_even_be_tried_says_so() -> None:
    broken = tiny_mixtral()
    broken.lm_head.weight = torch.nn.Parameter(torch.zeros(259, 31), requires_grad=False)
    engine, recorder = Engine(lambda: broken), Recorder()
    engine.submit(asking(), recorder)
    error = recorder.ending().error
    assert isinstance(error, SparseMoEError)
    assert isinstance(error.causes[0], RuntimeError)
    with pytest.raises(SparseMoEError, match="could not be made ready"):
        engine.load()
    engine.close()
