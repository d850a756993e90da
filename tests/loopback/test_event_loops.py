"""The same LLM objects, asked from scripts, threads and one event loop after another."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from tests.loopback.clients import MISTRALAI, OPENAI, OPENAI_LIKE, Client, close
from tests.loopback.fault_server import Answer, FaultServer, wait_until

Mixture = Callable[..., MixtureOfAgentsPack]
QUESTION = "Why is the sky blue?"
ASKED_ONCE_EACH = 7


def ask_in_a_new_loop(pack: MixtureOfAgentsPack) -> None:
    response = asyncio.run(pack.arun(QUESTION))
    assert not response.missing, response.missing


def test_run_after_run_in_a_script(mixture: Mixture, server: FaultServer) -> None:
    pack = mixture()
    for _ in range(2):
        assert not pack.run(QUESTION).missing
    assert server.attempts() == 2 * ASKED_ONCE_EACH


def test_one_event_loop_after_another(mixture: Mixture, server: FaultServer) -> None:
    pack = mixture()
    for _ in range(3):
        ask_in_a_new_loop(pack)
        # None is left for the next loop to stumble on, or for the garbage collector to complain of.
        assert wait_until(lambda: server.connections == 0)
    # A connection that belongs to a dead loop fails once before it is given up.
    assert server.attempts() == 3 * ASKED_ONCE_EACH


def test_scripts_and_event_loops_in_turn(mixture: Mixture, server: FaultServer) -> None:
    pack = mixture()
    for _ in range(2):
        assert not pack.run(QUESTION).missing
        ask_in_a_new_loop(pack)
    assert server.attempts() == 4 * ASKED_ONCE_EACH


async def test_run_inside_a_running_loop(mixture: Mixture, server: FaultServer) -> None:
    pack = mixture()
    assert not (await pack.arun(QUESTION)).missing
    assert not pack.run(QUESTION).missing
    assert not (await pack.arun(QUESTION)).missing
    assert server.attempts() == 3 * ASKED_ONCE_EACH


def test_two_mixtures_of_the_same_llms(client: Client, server: FaultServer) -> None:
    llms = client.llms(server.url)
    ask_in_a_new_loop(MixtureOfAgentsPack(llms[3], llms[:3]))
    ask_in_a_new_loop(MixtureOfAgentsPack(llms[0], llms[1:]))


def test_llms_that_the_caller_has_used_in_another_loop(client: Client, server: FaultServer) -> None:
    llms = client.llms(server.url)
    callers_own = asyncio.new_event_loop()
    for llm in llms:
        callers_own.run_until_complete(llm.achat([ChatMessage(content="hello")]))
    greetings, kept = server.attempts(), server.connections
    pack = MixtureOfAgentsPack(llms[3], llms[:3])
    ask_in_a_new_loop(pack)
    assert wait_until(lambda: server.connections == kept)
    assert not pack.run(QUESTION).missing
    # A connection of another loop's would have failed, and have been tried again.
    assert server.attempts() == greetings + 2 * ASKED_ONCE_EACH
    for llm in llms:
        callers_own.run_until_complete(close(llm))
    callers_own.close()


def test_a_mixture_let_go_of_closes_its_connections(mixture: Mixture, server: FaultServer) -> None:
    pack = mixture()
    pack.run(QUESTION)
    assert server.connections > 0  # kept for the next run on the shared loop
    del pack
    gc.collect()
    assert wait_until(lambda: server.connections == 0)


def test_connections_are_kept_between_runs(mixture: Mixture, server: FaultServer) -> None:
    pack = mixture(num_layers=2)
    pack.run(QUESTION)
    before = server.accepted
    pack.run(QUESTION)
    assert server.accepted == before


def test_the_callers_llms_are_unchanged(client: Client, server: FaultServer) -> None:
    llms = client.llms(server.url)
    before = [_state(llm) for llm in llms]
    pack = MixtureOfAgentsPack(llms[3], llms[:3], max_tokens=50, temperature=0.3)
    pack.run(QUESTION)
    ask_in_a_new_loop(pack)
    assert [_state(llm) for llm in llms] == before


def _state(llm: LLM) -> tuple[Any, ...]:
    """What the caller could tell: settings, retries, and which client objects it holds."""
    clients = [getattr(llm, name, None) for name in ("_client", "_aclient", "_async_http_client")]
    configuration = getattr(clients[0], "sdk_configuration", None)
    settings = llm.model_dump(exclude={"callback_manager"})
    held = [id(client) for client in (*clients, configuration, getattr(configuration, "async_client", None))]
    return (settings, settings["max_retries"], *held)


@pytest.mark.parametrize("client", [OPENAI, OPENAI_LIKE], ids=str, indirect=True)
async def test_an_http_client_that_the_caller_passed_in_is_used_and_left_open(
    client: Client, server: FaultServer
) -> None:
    import httpx

    async with httpx.AsyncClient(headers={"X-Caller": "mine"}) as own:
        llms = [client.build(server.url, name, async_http_client=own) for name in client.models]
        pack = MixtureOfAgentsPack(llms[3], llms[:3])
        assert not (await pack.arun(QUESTION)).missing
        assert all(attempt.headers.get("x-caller") == "mine" for attempt in server.of())
        del pack
        gc.collect()
        await asyncio.sleep(0.1)
        assert not own.is_closed


@pytest.mark.parametrize(
    ("client", "limit"), [(OPENAI, 1), (OPENAI, 5), (MISTRALAI, 2)], ids=str, indirect=["client"]
)
def test_max_concurrency_holds_across_threads_and_loops(
    mixture: Mixture, server: FaultServer, limit: int
) -> None:
    server.default = Answer(after=0.1)
    peak = _peak_of_three_at_once(mixture(max_concurrency=limit, num_layers=2), server)
    assert peak == limit


@pytest.mark.parametrize("client", [OPENAI], ids=str, indirect=True)
def test_without_max_concurrency_all_are_in_flight_at_once(mixture: Mixture, server: FaultServer) -> None:
    server.default = Answer(after=0.5)
    assert _peak_of_three_at_once(mixture(num_layers=2), server) == 9


def _peak_of_three_at_once(pack: MixtureOfAgentsPack, server: FaultServer) -> int:
    responses: list[Any] = []
    together = threading.Barrier(3)

    def in_a_thread() -> None:
        together.wait(10)
        responses.append(pack.run(QUESTION))

    def in_a_loop() -> None:
        together.wait(10)
        responses.append(asyncio.run(pack.arun(QUESTION)))

    threads = [threading.Thread(target=work) for work in (in_a_thread, in_a_thread, in_a_loop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [response.missing for response in responses] == [[], [], []]
    return server.peak
