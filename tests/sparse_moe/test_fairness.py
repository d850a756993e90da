"""Nobody waits for ever: neither who decodes behind prompts without end, nor who wants to be alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.requests import Ending, GenerationRequest
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from tests.sparse_moe.test_batching import prompt, together
from tests.sparse_moe.tiny_models import Recorder, asking

PATIENCE = 20


class Endless(Recorder):
    """Asks anew whenever it is answered, until told to stop."""

    def __init__(self, engine: Engine, seed: int, stop: threading.Event, **changes: Any) -> None:
        super().__init__()
        self._engine, self._seed, self._stop, self._changes = engine, seed, stop, changes
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        ids = prompt(400, 1000 * self._seed + self.asked)
        self._engine.submit(asking(*ids, tokens=1, **self._changes), self)

    def on_end(self, ending: Ending) -> None:
        if self._stop.is_set():
            super().on_end(ending)
        else:
            self.ask()


@pytest.fixture
def flooded(served: Engine) -> Any:
    """An engine to which new long prompts come as fast as it reads them; stops at the test's end."""
    stop = threading.Event()
    streams = [Endless(served, seed, stop) for seed in range(12)]
    for stream in streams:
        stream.ask()
    yield served, streams
    stop.set()
    for stream in streams:
        stream.ending()


@pytest.mark.parametrize("routing", [RoutingSettings(), RoutingSettings(capacity_factor=1.0)])
def test_endless_prompts_cost_a_decode_one_chunk_per_token(flooded: Any, routing: RoutingSettings) -> None:
    engine, _ = flooded
    recorder = Recorder()
    engine.submit(asking(*prompt(6), tokens=40, routing=routing), recorder)
    ending = recorder.ending()
    assert ending.reason == "length"
    # Its own prompt may stand behind seven others of four chunks; then each token is one chunk away.
    assert ending.last_step - ending.first_step <= 2 * 40


def test_who_wants_to_be_alone_gets_a_turn_although_others_keep_coming(flooded: Any) -> None:
    engine, streams = flooded
    before = sum(stream.asked for stream in streams)
    recorder = Recorder()
    engine.submit(asking(*prompt(6), tokens=3, batch_limit=1), recorder)
    assert recorder.ending().reason == "length"
    # In turn: those that were before it, and those that were being read.
    assert sum(stream.asked for stream in streams) - before <= 3 * len(streams)


def test_who_came_behind_it_is_not_forgotten(served: Engine) -> None:
    def request(index: int) -> GenerationRequest:
        return asking(*prompt(5, index), tokens=6, batch_limit=1 if index == 3 else 8)

    recorders = together(served, [request(index) for index in range(8)])
    endings = [recorder.ending() for recorder in recorders]
    assert {ending.reason for ending in endings} == {"length"}
    assert max(ending.last_step for ending in endings[:3]) < endings[3].first_step
    # The lonely one starts alone; who came later may join it, but not overtake it.
    assert all(ending.first_step > endings[3].first_step for ending in endings[4:])


def test_settings_of_many_kinds_all_move_on_in_each_turn(served: Engine) -> None:
    settings = [RoutingSettings(), *(RoutingSettings(capacity_factor=0.5 + n / 4) for n in range(5))]
    recorders = together(served, [asking(*prompt(5), tokens=12, routing=routing) for routing in settings])
    endings = [recorder.ending() for recorder in recorders]
    # Six batches of one row: between two tokens of one: a token of each other, and one prompt at most.
    spans = [ending.last_step - ending.first_step for ending in endings]
    assert max(spans) <= 11 * (len(settings) + 1)
