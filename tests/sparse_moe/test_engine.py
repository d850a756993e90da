"""The engine decodes as transformers does, and one request's trouble is its own."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import MixtralForCausalLM

from llama_index.packs.mixture_of_agents.errors import EngineClosedError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.requests import SamplingSettings
from tests.sparse_moe import tiny_models
from tests.sparse_moe.tiny_models import Recorder, asking, oracle_ids


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def _tokens(engine: Engine, *prompt_ids: int, **changes: Any) -> list[int]:
    recorder = Recorder()
    engine.submit(asking(*prompt_ids, **changes), recorder)
    assert recorder.ending().error is None
    return recorder.tokens


@pytest.mark.parametrize("prompt_ids", [[5], [10, 20, 30], list(range(3, 90))])
def test_greedy_is_transformers_generate(
    served: Engine, model: MixtralForCausalLM, prompt_ids: list[int]
) -> None:
    recorder = Recorder()
    served.submit(asking(*prompt_ids, tokens=64, stop_ids=frozenset({tiny_models.EOS})), recorder)
    ending = recorder.ending()
    expected = oracle_ids(model, prompt_ids, 64)
    ended = expected[-1] == tiny_models.EOS
    assert recorder.tokens == (expected[:-1] if ended else expected)
    assert (ending.reason, ending.completion_tokens) == ("stop" if ended else "length", len(expected))
    assert ending.prompt_tokens == len(prompt_ids)


@pytest.mark.parametrize("kind", ["olmoe", "qwen2_moe", "granitemoehybrid"])
def test_other_architectures_decode_alike(kind: str) -> None:
    other = tiny_models.other_moe(kind)
    engine = Engine(lambda: other)
    assert _tokens(engine, 7, 8, 9, tokens=24) == oracle_ids(other, [7, 8, 9], 24)[:24]
    engine.close()


def test_a_stop_token_is_counted_but_not_handed_out(served: Engine) -> None:
    first, second, *_ = _tokens(served, tokens=3)
    recorder = Recorder()
    served.submit(asking(stop_ids=frozenset({second})), recorder)
    ending = recorder.ending()
    assert recorder.tokens == [first]
    assert (ending.reason, ending.completion_tokens) == ("stop", 2)


def test_seeds_reproduce_alone_and_side_by_side(served: Engine) -> None:
    sampling = [SamplingSettings(temperature=1.5, top_p=0.95, top_k=50, seed=seed) for seed in range(5)]
    alone = [_tokens(served, 11, 12, sampling=settings) for settings in sampling]
    together = [Recorder() for _ in sampling]
    for settings, recorder in zip(sampling, together, strict=True):
        served.submit(asking(11, 12, sampling=settings), recorder)
    assert all(recorder.ending().error is None for recorder in together)
    assert [recorder.tokens for recorder in together] == alone
    assert len({tuple(tokens) for tokens in alone}) == len(alone)
    assert served.stats().peak_active > 1


def test_without_a_seed_answers_differ_and_the_global_generator_rests(served: Engine) -> None:
    before = torch.random.get_rng_state()
    unseeded = {tuple(_tokens(served, sampling=SamplingSettings(temperature=3.0))) for _ in range(3)}
    assert len(unseeded) == 3
    assert torch.equal(torch.random.get_rng_state(), before)


def test_repetition_penalty_counts_the_prompt(served: Engine, model: MixtralForCausalLM) -> None:
    penalised = oracle_ids(model, [10, 20, 30], 12, repetition_penalty=1.7, eos_token_id=None)
    settings = SamplingSettings(temperature=0, repetition_penalty=1.7)
    assert _tokens(served, tokens=12, sampling=settings) == penalised


def test_a_late_request_joins_while_others_decode(served: Engine) -> None:
    late = Recorder()

    def submit_late(count: int) -> None:
        if count == 5:
            served.submit(asking(40, 41, tokens=5), late)

    early = Recorder(submit_late)
    served.submit(asking(tokens=30), early)
    assert early.ending().first_step == 1
    assert late.ending().first_step <= 7, "it starts within a turn of its arrival"
    # One pass reads each prompt; the late one's other four tokens come from passes that both share.
    assert late.ending().last_step < early.ending().last_step == 1 + 1 + 29
    assert served.stats().widest_step == 2


def test_who_decodes_together_gets_tokens_in_turn(served: Engine) -> None:
    order: list[str] = []
    names = ("a", "b", "c")
    gate = threading.Event()
    served.submit(asking(tokens=1), Recorder(lambda _: gate.wait(20)))
    recorders = [Recorder(lambda _, name=name: order.append(name)) for name in names]  # type: ignore[misc]
    for recorder in recorders:
        served.submit(asking(tokens=8), recorder)
    gate.set()
    assert {recorder.ending().reason for recorder in recorders} == {"length"}
    together = order[order.index("c") : len(order) - 1 - order[::-1].index("a")]
    assert together[1:-2] == (["a", "b", "c"] * 8)[: len(together) - 3]


def test_batch_limit_keeps_a_request_waiting(served: Engine) -> None:
    both = [Recorder(), Recorder()]
    for recorder in both:
        served.submit(asking(tokens=6, batch_limit=1), recorder)
    assert both[0].ending().last_step < both[1].ending().first_step
    assert served.stats().peak_active == 1


def test_cancelling_stops_before_the_next_step(served: Engine) -> None:
    recorder = Recorder(lambda count: handle.cancel() if count == 3 else None)
    gate = threading.Event()
    served.submit(asking(tokens=1), Recorder(lambda _: gate.wait(20)))
    handle = served.submit(asking(tokens=400), recorder)
    gate.set()
    ending = recorder.ending()
    assert (ending.reason, ending.completion_tokens) == ("cancelled", 3)
    assert served.stats().steps == 1 + 3
    assert handle.wait(20)
    handle.cancel()
    assert len(recorder.endings) == 1


def test_a_listener_that_has_enough_ends_the_request(served: Engine) -> None:
    recorder = Recorder(lambda count: count < 4)
    served.submit(asking(tokens=400), recorder)
    assert (recorder.ending().reason, recorder.ending().completion_tokens) == ("stop", 4)
    assert served.stats().steps == 4


def test_cancelled_while_waiting_never_runs(served: Engine) -> None:
    gate, waiting = threading.Event(), Recorder()
    running = Recorder(lambda _: gate.wait(20))
    served.submit(asking(tokens=1), running)
    handle = served.submit(asking(batch_limit=1), waiting)
    handle.cancel()
    assert (waiting.ending().reason, waiting.ending().first_step) == ("cancelled", 0)
    gate.set()
    assert running.ending().reason == "length"
    assert served.stats().steps == 1


def test_a_crowd_that_comes_and_goes(served: Engine) -> None:
    sampling = [SamplingSettings(temperature=1.0, seed=seed) for seed in range(60)]
    alone = [_tokens(served, 9, seed + 3, sampling=sampling[seed], tokens=8) for seed in range(60)]
    crowd = [Recorder() for _ in sampling]
    handles = [
        served.submit(asking(9, seed + 3, sampling=sampling[seed], tokens=8), crowd[seed])
        for seed in range(60)
    ]
    for seed in range(0, 60, 3):
        handles[seed].cancel()
    for seed, recorder in enumerate(crowd):
        reason = recorder.ending().reason
        assert reason == "length" or (seed % 3 == 0 and reason == "cancelled")
        assert recorder.tokens == alone[seed][: len(recorder.tokens)]
        assert reason == "cancelled" or recorder.tokens == alone[seed]
    assert all(handle.wait(5) for handle in handles)
    assert served.stats().active == served.stats().waiting == 0
    assert served.stats().peak_active == 8


def test_one_crash_leaves_the_others_alone(served: Engine) -> None:
    alone = _tokens(served, 50, 51)
    poisoned, broken_listener = Recorder(), Recorder(lambda _: 1 // 0)  # type: ignore[arg-type,return-value]
    healthy = [Recorder() for _ in range(3)]
    served.submit(asking(50, 51), healthy[0])
    served.submit(asking(999_999), poisoned)
    served.submit(asking(50, 51), healthy[1])
    served.submit(asking(1), broken_listener)
    served.submit(asking(50, 51), healthy[2])
    assert [recorder.tokens for recorder in healthy if recorder.ending().error is None] == [alone] * 3
    error = poisoned.ending().error
    assert isinstance(error, SparseMoEError)
    assert "the prompt has token 999999, and the model knows 259 tokens" in str(error)
    failed = broken_listener.ending().error
    assert isinstance(failed, SparseMoEError)
    assert "who was to receive the tokens failed: ZeroDivisionError" in str(failed)
    assert isinstance(failed.causes[0], ZeroDivisionError)
    assert served.stats().active == served.stats().waiting == 0


def test_nan_fails_the_request_that_met_it() -> None:
    damaged = tiny_models.tiny_mixtral()
    with torch.no_grad():
        damaged.model.embed_tokens.weight[77] = float("nan")
    engine, recorder = Engine(lambda: damaged), Recorder()
    engine.submit(asking(77), recorder)
    assert "NaN" in str(recorder.ending().error)
    assert len(_tokens(engine, 5, tokens=4)) == 4
    engine.close()


def test_a_listener_that_fails_at_the_end_is_logged(served: Engine, caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(Recorder):
        def on_end(self, ending: object) -> None:
            raise RuntimeError("gone")

    assert served.submit(asking(tokens=1), Deaf()).wait(20)
    assert len(_tokens(served, tokens=2)) == 2
    assert "a listener failed" in caplog.text


def test_the_queue_is_bounded(model: MixtralForCausalLM) -> None:
    gate = threading.Event()
    engine, first, waiting = (
        Engine(lambda: model, max_waiting=2),
        Recorder(lambda _: gate.wait(20)),
        Recorder(),
    )
    engine.submit(asking(tokens=1), first)
    _wait_until(lambda: engine.stats().active == 1)
    engine.submit(asking(), waiting)
    engine.submit(asking(), Recorder())
    with pytest.raises(SparseMoEError, match="the queue is full: 2 requests are waiting and at most 2 may"):
        engine.submit(asking(), Recorder())
    gate.set()
    assert waiting.ending().reason == "length"
    engine.close()


def test_closing_fails_what_is_open_and_refuses_what_comes(served: Engine) -> None:
    gate = threading.Event()
    running, waiting = Recorder(lambda _: gate.wait(20)), Recorder()
    served.submit(asking(tokens=400), running)
    _wait_until(lambda: served.stats().active == 1)
    served.submit(asking(batch_limit=1), waiting)
    closing = threading.Thread(target=served.close)
    closing.start()
    _wait_until(lambda: served.closed)
    gate.set()
    closing.join(20)
    assert isinstance(running.ending().error, EngineClosedError)
    assert isinstance(waiting.ending().error, EngineClosedError)
    for refused in (lambda: served.submit(asking(), Recorder()), served.load):
        with pytest.raises(EngineClosedError, match="make a new SparseMoELLM"):
            refused()
    served.close()


def test_a_failed_load_fails_its_request_and_is_tried_again(model: MixtralForCausalLM) -> None:
    attempts = 0

    def load() -> MixtralForCausalLM:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise SparseMoEError("no memory today")
        return model

    engine, first = Engine(load), Recorder()
    engine.submit(asking(), first)
    assert str(first.ending().error) == "no memory today"
    assert len(_tokens(engine, tokens=2)) == 2
    engine.load()
    assert engine.stats().loads == 2
    engine.close()


def test_nothing_is_loaded_before_it_is_needed(model: MixtralForCausalLM) -> None:
    engine = Engine(lambda: model)
    assert engine.stats().loads == 0
    engine.close()


def test_an_engine_without_users_stops_and_frees_its_model() -> None:
    model = tiny_models.tiny_mixtral()
    seen, before = weakref.ref(model), set(threading.enumerate())
    engine = Engine(lambda model=model: model)  # type: ignore[misc]
    _tokens(engine, tokens=2)
    (thread,) = set(threading.enumerate()) - before
    del engine, model
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    gc.collect()
    assert seen() is None
