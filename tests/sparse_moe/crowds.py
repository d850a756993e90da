"""A seeded crowd of requests: lengths, sampling, routing and beginnings mixed, some of them poisoned.

The same seed makes the same crowd. Knows no engine; `Crowd.submit_all` is given the function that takes them.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from llama_index.packs.mixture_of_agents.sparse_moe.requests import GenerationRequest, SamplingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving.tickets import RequestHandle
from tests.sparse_moe.tiny_models import Recorder

ROUTINGS = (RoutingSettings(), RoutingSettings(capacity_factor=0.75, capacity_block=16))
FORBIDDEN_POSITION = 360
"""No healthy request gets this far; the forward of the one that does is made to fail."""

Submit = Callable[[GenerationRequest, Recorder], RequestHandle]


def _ids(draw: random.Random, length: int) -> tuple[int, ...]:
    return tuple(draw.randrange(3, 259) for _ in range(length))


def _skewed(draw: random.Random, most: int) -> int:
    """1 to `most`, mostly short, so that a slow core is done in time; the longest does occur."""
    return min(most, 1 + int(most * draw.random() ** 3 * 1.05))


def _healthy(
    draw: random.Random, beginnings: list[tuple[int, ...]], batch_limits: tuple[int, ...]
) -> GenerationRequest:
    own = _ids(draw, _skewed(draw, 300))
    shared = draw.choice(beginnings) if draw.random() < 0.4 else ()
    hot = SamplingSettings(
        temperature=draw.uniform(0.3, 2.0),
        top_p=draw.choice([1.0, 0.9]),
        top_k=draw.choice([None, 40]),
        repetition_penalty=draw.choice([1.0, 1.3]),
        seed=draw.randrange(1 << 30),
    )
    return GenerationRequest(
        (*shared, *own)[:300],
        _skewed(draw, 40),
        hot if draw.random() < 0.6 else SamplingSettings(temperature=0.0),
        stop_ids=frozenset(_ids(draw, draw.choice([0, 0, 3]))),
        batch_limit=draw.choice(batch_limits),
        routing=draw.choice(ROUTINGS),
        observe=draw.random() < 0.2,
    )


def _poisoned(draw: random.Random) -> dict[str, GenerationRequest]:
    return {
        "token out of the vocabulary": GenerationRequest((*_ids(draw, 40), 999_999), 5),
        "listener raises": GenerationRequest(_ids(draw, 60), 20),
        "forward raises": GenerationRequest(_ids(draw, FORBIDDEN_POSITION - 8), 30),
    }


@dataclass
class Member:
    """One request of a crowd, and what became of it."""

    request: GenerationRequest
    recorder: Recorder
    poison: str | None = None
    handle: RequestHandle | None = None


@dataclass
class Crowd:
    """Requests in the order in which they are submitted.

    Args:
        seed: Of everything.
        size: How many requests, the poisoned ones included.
        cancellations: How many of them are cancelled, each at the moment when the crowd hears some token.
    """

    seed: int
    size: int = 200
    cancellations: int = 40
    members: list[Member] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        draw = random.Random(self.seed)
        beginnings = [_ids(draw, length) for length in (64, 128, 200)]
        poisoned = _poisoned(draw)
        # Narrow ones come late, so that the poisoned decode beside others.
        requests = [
            _healthy(draw, beginnings, (8,) if index < self.size * 3 // 4 else (8, 3, 1))
            for index in range(self.size - 2 * len(poisoned))
        ]
        names: list[str | None] = [None] * len(requests)
        # Each poisoned one decodes beside somebody who is not cancelled and takes long.
        companions = [GenerationRequest(_ids(draw, 5), 40, SamplingSettings(temperature=0.0))]
        for name, request in poisoned.items():
            place = draw.randrange(self.size // 8, self.size // 2)
            requests[place:place] = [*companions, request]
            names[place:place] = [*(None for _ in companions), name]
        self.members = [
            Member(request, Recorder(self._hears(name)), name)
            for request, name in zip(requests, names, strict=True)
        ]
        self._heard = 0
        healthy = [n for n, name in enumerate(names) if name is None and requests[n] not in companions]
        tokens = sum(request.max_new_tokens for request in requests)
        moments = sorted(draw.sample(range(1, tokens // 2), self.cancellations))
        self._plan = dict(zip(moments, draw.sample(healthy, self.cancellations), strict=True))

    def _hears(self, poison: str | None) -> Callable[[int], bool]:
        def hear(count: int) -> bool:
            if poison == "listener raises" and count == 3:
                raise ZeroDivisionError("poisoned")
            self._heard += 1
            victim = self._plan.get(self._heard)
            if victim is not None:
                self._cancel(victim)
            return True

        return hear

    def _cancel(self, victim: int) -> None:
        handle = self.members[victim].handle
        if handle is not None:
            self.cancelled.add(victim)
            handle.cancel()

    def submit_all(self, submit: Submit, threads: int = 4) -> None:
        """Submit everything, from several threads at once."""

        def submit_every(first: int) -> None:
            for member in self.members[first::threads]:
                member.handle = submit(member.request, member.recorder)

        workers = [threading.Thread(target=submit_every, args=(first,)) for first in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
