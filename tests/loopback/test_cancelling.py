"""Calls in flight end when nobody waits for them any more: the server sees its clients hang up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from llama_index.packs.mixture_of_agents import DeltaEvent, MixtureOfAgentsPack, MixtureTimeoutError
from tests.loopback.clients import Client
from tests.loopback.fault_server import LONGEST_HANG, Answer, Failure, FaultServer, Hang, wait_until

Mixture = Callable[..., MixtureOfAgentsPack]
QUESTION = "Why is the sky blue?"


def test_a_hang_is_cut_at_the_layer_timeout(mixture: Mixture, client: Client, server: FaultServer) -> None:
    server.script(client.models[1], Hang())
    response = mixture(layer_timeout=0.5).run(QUESTION)
    cut = [(gone.proposer, gone.layer, gone.reason, gone.status) for gone in response.missing]
    assert cut == [(client.models[1], layer, "cut at layer_timeout of 0.5 s", None) for layer in (1, 2)]
    assert response.degraded
    assert len(response.proposals) == 4
    assert response.latency_seconds < LONGEST_HANG / 2
    assert server.attempts(client.models[1]) == 2  # a cut call is not retried
    assert wait_until(lambda: server.hung_up(client.models[1]) == 2)
    assert server.hung_up() == 2


def test_stragglers_are_cut_when_the_quorum_is_met(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    server.script(client.models[0], Hang())
    response = mixture(num_layers=2, quorum=2).run(QUESTION)
    assert [gone.reason for gone in response.missing] == ["not waited for: the quorum of 2 was met"]
    assert wait_until(lambda: server.hung_up(client.models[0]) == 1)


async def test_cancelling_a_run_cancels_every_call(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    for name in client.models:
        server.script(name, Hang())
    run = asyncio.ensure_future(mixture().arun(QUESTION))
    assert await asyncio.to_thread(wait_until, lambda: server.attempts() == 3)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await asyncio.to_thread(wait_until, lambda: server.hung_up() == 3)
    await asyncio.sleep(0.3)  # would be long enough for anyone who goes on
    assert server.attempts() == 3


async def test_cancelling_during_a_wait_for_a_retry(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    for name in client.models:
        server.script(name, Failure(429, {"Retry-After": "0.4"}), Hang())
    run = asyncio.ensure_future(mixture().arun(QUESTION))
    assert await asyncio.to_thread(wait_until, lambda: server.attempts() == 3)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.sleep(0.8)
    assert server.attempts() == 3


async def test_leaving_a_stream_ends_the_synthesis(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    server.script(client.models[3], Answer("word " * 400, pause=0.05))
    items = mixture(num_layers=2).astream(QUESTION)
    async for item in items:
        if isinstance(item, DeltaEvent):
            break
    await items.aclose()
    assert await asyncio.to_thread(wait_until, lambda: server.hung_up(client.models[3]) == 1)


def test_closing_a_blocking_stream_ends_the_synthesis(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    server.script(client.models[3], Answer("word " * 400, pause=0.05))
    pieces = mixture(num_layers=2).as_llm().stream_complete(QUESTION)
    assert next(pieces).delta
    pieces.close()
    assert wait_until(lambda: server.hung_up(client.models[3]) == 1)


def test_the_runs_own_timeout_ends_its_calls(mixture: Mixture, client: Client, server: FaultServer) -> None:
    server.script(client.models[2], Hang())
    with pytest.raises(MixtureTimeoutError) as raised:
        mixture(timeout=0.6).run(QUESTION)
    assert [proposal.proposer for proposal in raised.value.partial.proposals] == list(client.models[:2])
    assert wait_until(lambda: server.hung_up(client.models[2]) == 1)


async def test_the_first_delta_is_out_before_the_last_is_written(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    server.script(client.models[3], Answer("word " * 10, pause=0.05))
    arrived = [
        time.monotonic()
        async for item in mixture(num_layers=2).astream(QUESTION)
        if isinstance(item, DeltaEvent)
    ]
    assert len(arrived) >= 10
    assert arrived[-1] - arrived[0] > 0.2
