"""Whole runs against llm-katan, a real OpenAI-compatible server, through each client."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents import (
    DeltaEvent,
    MixtureError,
    MixtureOfAgentsPack,
    MixtureResponse,
    ProgressEvent,
)
from tests.loopback.clients import OPENAI_LIKE, Client

QUESTION = "Why is the sky blue?"


def pack_on(client: Client, url: str, **options: Any) -> MixtureOfAgentsPack:
    *proposers, aggregator = client.llms(url)
    return MixtureOfAgentsPack(aggregator, proposers, **options)


def test_a_full_run(client: Client, echo: str) -> None:
    response = pack_on(client, echo).run(QUESTION)
    assert [(p.proposer, p.layer) for p in response.proposals] == [
        (name, layer) for layer in (1, 2) for name in client.models[:3]
    ]
    assert not response.degraded
    assert response.synthesizer == client.models[3]
    # The echo repeats the last user message: the question itself, in every round.
    assert all(QUESTION in proposal.text for proposal in response.proposals)
    assert QUESTION in str(response)
    # It counts the words it read, and from the second round on there are proposals to read.
    first, second = response.proposals[0].usage, response.proposals[3].usage
    assert first.prompt_tokens is not None
    assert second.prompt_tokens is not None
    assert second.prompt_tokens > first.prompt_tokens
    assert response.usage.completion_tokens is not None


async def test_a_streamed_answer(client: Client, echo: str) -> None:
    items = [item async for item in pack_on(client, echo).astream(QUESTION)]
    deltas = [item.delta for item in items if isinstance(item, DeltaEvent)]
    response = items[-1]
    assert isinstance(response, MixtureResponse)
    assert len(deltas) > 5
    assert "".join(deltas) == response.text
    assert QUESTION in response.text
    answered = [item for item in items if isinstance(item, ProgressEvent) and item.kind == "answered"]
    assert len(answered) == 7


@pytest.mark.usefixtures("_quick_backoff")
async def test_429_without_retry_after_is_retried_with_growing_waits(
    client: Client, rate_limited: str
) -> None:
    pack = pack_on(client, rate_limited, num_layers=2, max_retries=2)
    await _spend_the_first_request(rate_limited)
    waits: dict[str, list[float]] = {}

    async def watch() -> None:
        async for item in pack.astream(QUESTION):
            if isinstance(item, ProgressEvent) and item.kind == "retry":
                waits.setdefault(item.proposer, []).append(item.seconds)

    with pytest.raises(MixtureError) as raised:
        await watch()
    assert set(waits) == set(client.models)
    assert all(len(each) == 2 and 0 < each[0] < each[1] for each in waits.values())
    assert str(raised.value).count("(HTTP 429)") == 4
    assert len(raised.value.causes) == 4


async def _spend_the_first_request(url: str) -> None:
    pack = MixtureOfAgentsPack(OPENAI_LIKE.build(url, "spender"), num_layers=1, max_retries=0)
    with suppress(MixtureError):  # another test had it
        await pack.arun(QUESTION)


@pytest.mark.usefixtures("_quick_backoff")
def test_a_server_that_is_broken_for_one_proposer(client: Client, echo: str, broken: str) -> None:
    down, aggregator = client.build(broken, client.models[0]), client.build(echo, client.models[3])
    others = [client.build(echo, name) for name in client.models[1:3]]
    response = MixtureOfAgentsPack(aggregator, [down, *others]).run(QUESTION)
    assert QUESTION in str(response)
    assert response.degraded
    assert [(m.proposer, m.layer, m.status) for m in response.missing] == [
        (client.models[0], 1, 500),
        (client.models[0], 2, 500),
    ]
    assert "internal server error" in response.missing[0].reason


def test_a_slow_server_is_cut_at_the_layer_timeout(client: Client, echo: str, slow: str) -> None:
    late, aggregator = client.build(slow, client.models[0]), client.build(echo, client.models[3])
    prompt = client.build(echo, client.models[1])
    pack = MixtureOfAgentsPack(aggregator, [late, prompt], num_layers=2, layer_timeout=1.0)
    response = pack.run(QUESTION)
    assert [p.proposer for p in response.proposals] == [client.models[1]]
    assert [(m.proposer, m.reason, m.status) for m in response.missing] == [
        (client.models[0], "cut at layer_timeout of 1 s", None)
    ]
    assert response.latency_seconds < 15


async def test_max_concurrency_keeps_within_what_a_server_takes(client: Client, narrow: str) -> None:
    crowded = pack_on(client, narrow, max_retries=0)
    response = await crowded.arun(QUESTION)
    assert {gone.status for gone in response.missing} == {503}
    within = pack_on(client, narrow, max_retries=0, max_concurrency=2)
    assert not (await within.arun(QUESTION)).degraded
