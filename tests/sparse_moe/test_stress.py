"""Two hundred requests of all kinds, many cancelled and three poisoned: the others never notice.

In float64, so that sums in another order cannot turn a near-tie round: what differs here is a mistake. How
far float32 agrees is the subject of `test_batching`.
"""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from transformers import MixtralForCausalLM
from transformers.cache_utils import Cache

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.serving.decoding import DecodingRow
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
from llama_index.packs.mixture_of_agents.sparse_moe.serving.tickets import Ticket
from tests.sparse_moe.crowds import FORBIDDEN_POSITION, Crowd, Member
from tests.sparse_moe.tiny_models import Recorder, tiny_mixtral

pytestmark = pytest.mark.timeout(180)
SEED = 5
PREFIX_BYTES = 1_000_000
# What the allocator may keep of a wave that held no more than a few megabytes at a time.
RSS_MARGIN = 24_000_000


@pytest.fixture(scope="module")
def precise() -> MixtralForCausalLM:
    # Stock experts that multiply all at once know no float64.
    return tiny_mixtral(experts_implementation="eager").double()


@pytest.fixture(scope="module")
def alone(precise: MixtralForCausalLM) -> list[list[int]]:
    """What each healthy member of the crowd is told when there is nobody else."""
    engine = Engine(lambda: precise, prefix_bytes=0)
    answers = [_asked_alone(engine, member) for member in Crowd(SEED).members]
    engine.close()
    return answers


def _asked_alone(engine: Engine, member: Member) -> list[int]:
    if member.poison:
        return []
    recorder = Recorder()
    engine.submit(member.request, recorder)
    assert recorder.ending().error is None
    return recorder.tokens


@pytest.fixture
def poisonous(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Make each pass fail that feeds the forbidden position; counts failures by the width of the pass."""
    run, failures = LoadedModel.run, Counter[int]()

    def run_or_fail(
        self: LoadedModel, ids_BS: Any, positions_BS: Any, cache: Cache, mask_BL: Any, plan: Any
    ) -> Tensor:
        if any(FORBIDDEN_POSITION in positions for positions in positions_BS):
            failures[len(positions_BS)] += 1
            raise RuntimeError("poisoned pass")
        return run(self, ids_BS, positions_BS, cache, mask_BL, plan)

    monkeypatch.setattr(LoadedModel, "run", run_or_fail)
    return failures


@pytest.fixture
def crowded(precise: MixtralForCausalLM) -> Iterator[Engine]:
    engine = Engine(lambda: precise, prefix_bytes=PREFIX_BYTES)
    yield engine
    engine.close()


def _wave(engine: Engine) -> Crowd:
    crowd = Crowd(SEED)
    crowd.submit_all(engine.submit)
    for member in crowd.members:
        assert member.handle is not None
        assert member.handle.wait(120), "a request never ended"
    return crowd


def _traces(model: torch.nn.Module) -> dict[str, Any]:
    """Everything by which a module could tell that someone was there."""
    return {
        name: (
            type(module),
            {key: id(value) for key, value in vars(module).items() if not isinstance(value, dict)},
            [list(value) for value in vars(module).values() if isinstance(value, dict)],
        )
        for name, module in model.named_modules()
    }


def _live(*kinds: type) -> list[Any]:
    gc.collect()
    return [one for one in gc.get_objects() if issubclass(type(one), kinds)]


def _tensor_bytes() -> int:
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in _live(Tensor)}
    return sum(storages.values())


def _check_answers(crowd: Crowd, alone: list[list[int]]) -> None:
    for index, (member, expected) in enumerate(zip(crowd.members, alone, strict=True)):
        (ending,) = member.recorder.endings
        tokens = member.recorder.tokens
        if member.poison:
            assert isinstance(ending.error, SparseMoEError), member.poison
            continue
        assert ending.error is None
        assert tokens == (expected[: len(tokens)] if ending.reason == "cancelled" else expected)
        assert ending.reason != "cancelled" or index in crowd.cancelled
        assert ending.prompt_tokens == len(member.request.prompt_ids)
        assert (ending.routing is not None) == (member.request.observe and ending.first_step > 0)


def _check_counts(crowd: Crowd, engine: Engine) -> None:
    reasons = Counter(member.recorder.endings[0].reason for member in crowd.members)
    assert reasons["cancelled"] >= 15
    assert reasons["length"] + reasons["stop"] >= 120
    assert reasons[None] == 3
    stats = engine.stats()
    assert (stats.active, stats.waiting) == (0, 0)
    assert stats.peak_active == 8
    assert stats.widest_step > 3
    assert stats.shared_tokens > 0
    assert 0 < stats.prefix_bytes <= PREFIX_BYTES


def test_everyone_else_is_answered_as_if_alone_and_nothing_is_left_behind(
    crowded: Engine, precise: MixtralForCausalLM, alone: list[list[int]], poisonous: Counter[int]
) -> None:
    weights = {name: tensor.clone() for name, tensor in precise.state_dict().items()}
    traces, others = _traces(precise), len(_live(DecodingRow, Cache, Ticket))
    first = _wave(crowded)
    _check_answers(first, alone)
    _check_counts(first, crowded)
    held, resident = _tensor_bytes(), psutil.Process().memory_info().rss

    second = _wave(crowded)
    _check_answers(second, alone)
    _check_counts(second, crowded)
    # The errors of both waves are kept all the while, and keep nothing.
    assert len(_live(Cache)) <= others
    assert _tensor_bytes() <= held + PREFIX_BYTES
    assert psutil.Process().memory_info().rss <= resident + RSS_MARGIN
    assert poisonous[1] == 2, "each time the poisoned request failed alone"
    assert sum(poisonous.values()) == 4, "and before that it took a shared pass down"

    del first, second
    assert len(_live(DecodingRow, Cache, Ticket)) <= others
    assert _traces(precise) == traces
    assert all(torch.equal(tensor, weights[name]) for name, tensor in precise.state_dict().items())


@pytest.mark.usefixtures("poisonous")
def test_closing_in_the_middle_of_a_wave_ends_everyone_once(precise: MixtralForCausalLM) -> None:
    engine, crowd = Engine(lambda: precise), Crowd(SEED + 1, size=60, cancellations=10)
    closing = threading.Timer(0.5, engine.close)
    closing.start()
    refused = []

    def submit(request: Any, recorder: Recorder) -> Any:
        try:
            return engine.submit(request, recorder)
        except SparseMoEError as problem:
            refused.append(problem)
            return None

    crowd.submit_all(submit)
    closing.join()
    endings = [member.recorder.endings for member in crowd.members if member.handle is not None]
    assert {len(each) for each in endings} == {1}
    assert len(endings) + len(refused) == 60
    assert (engine.stats().active, engine.stats().waiting) == (0, 0)
