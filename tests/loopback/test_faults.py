"""What servers do wrong, and how often they are asked again, counted at the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents import MixtureError, MixtureOfAgentsPack, MixtureResponse, Proposer
from llama_index.packs.mixture_of_agents.errors import BrokenStreamError
from tests.loopback.clients import OPENAI, OPENAI_LIKE, Client
from tests.loopback.fault_server import Answer, Failure, FaultServer
from tests.loopback.katan import free_port

Mixture = Callable[..., MixtureOfAgentsPack]
QUESTION = "Why is the sky blue?"

pytestmark = pytest.mark.usefixtures("_quick_backoff")


def missing(response: MixtureResponse) -> list[tuple[str, int, int | None]]:
    return [(gone.proposer, gone.layer, gone.status) for gone in response.missing]


def test_everyone_sees_the_round_before_and_is_asked_once(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    response = mixture().run(QUESTION)
    assert str(response) == f"answer of {client.models[3]}"
    assert server.attempts() == 7
    assert [server.attempts(name) for name in client.models] == [2, 2, 2, 1]
    for name in client.models[:3]:
        first, second = (str(attempt.body["messages"]) for attempt in server.of(name))
        assert not any(f"answer of {other}" in first for other in client.models)
        assert all(f"answer of {other}" in second for other in client.models[:3])
    (synthesis,) = server.of(client.models[3])
    assert all(f"answer of {other}" in str(synthesis.body["messages"]) for other in client.models[:3])


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_passing_failure_is_retried(
    mixture: Mixture, client: Client, server: FaultServer, status: int
) -> None:
    server.script(client.models[0], Failure(status), Answer("recovered"))
    response = mixture(num_layers=2).run(QUESTION)
    assert not response.degraded
    assert response.proposals[0].text == "recovered"
    assert server.attempts(client.models[0]) == 2


@pytest.mark.parametrize(("options", "tries"), [({}, 3), ({"max_retries": 0}, 1), ({"max_retries": 4}, 5)])
def test_endless_500_is_asked_once_and_max_retries_times(
    mixture: Mixture, client: Client, server: FaultServer, options: dict[str, int], tries: int
) -> None:
    # LlamaIndex's OpenAI alone would make 3 x (1 + 3) attempts of each of these.
    server.script(client.models[0], Failure(500))
    response = mixture(**options).run(QUESTION)
    assert server.attempts(client.models[0]) == tries * 2  # in each of two layers
    assert missing(response) == [(client.models[0], 1, 500), (client.models[0], 2, 500)]
    assert [server.attempts(name) for name in client.models[1:]] == [2, 2, 1]


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_will_not_pass_is_not_retried(
    mixture: Mixture, client: Client, server: FaultServer, status: int
) -> None:
    server.script(client.models[0], Failure(status))
    response = mixture(num_layers=2).run(QUESTION)
    assert server.attempts(client.models[0]) == 1
    assert missing(response) == [(client.models[0], 1, status)]
    assert response.degraded


@pytest.mark.parametrize("client", [OPENAI, OPENAI_LIKE], ids=str, indirect=True)
def test_an_empty_account_is_not_retried(mixture: Mixture, client: Client, server: FaultServer) -> None:
    server.script(client.models[0], Failure(429, code="insufficient_quota"))
    response = mixture(num_layers=2).run(QUESTION)
    assert server.attempts(client.models[0]) == 1
    assert missing(response) == [(client.models[0], 1, 429)]


def test_retry_after_is_honoured(mixture: Mixture, client: Client, server: FaultServer) -> None:
    server.script(client.models[0], Failure(429, {"Retry-After": "1"}), Answer("patience"))
    response = mixture(num_layers=2).run(QUESTION)
    refused, answered = server.of(client.models[0])
    # The backoff of these tests would have been 0.02 s.
    assert 0.99 <= answered.arrived - refused.arrived < 10
    assert response.proposals[0].text == "patience"
    assert response.proposals[0].latency_seconds >= 0.99


def test_a_wait_longer_than_a_minute_is_given_up(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    server.script(client.models[0], Failure(429, {"Retry-After": "600"}))
    response = mixture(num_layers=2).run(QUESTION)
    assert server.attempts(client.models[0]) == 1
    assert missing(response) == [(client.models[0], 1, 429)]


async def test_connection_refused_is_retried_and_then_missing(client: Client, server: FaultServer) -> None:
    nobody = client.build(f"http://127.0.0.1:{free_port()}", client.models[0])
    others = [client.build(server.url, name) for name in client.models[1:3]]
    pack = MixtureOfAgentsPack(client.build(server.url, client.models[3]), [nobody, *others], num_layers=2)
    items = [item async for item in pack.astream(QUESTION)]
    retries = [item for item in items if getattr(item, "kind", "") == "retry"]
    assert [item.proposer for item in retries] == [client.models[0]] * 2  # type: ignore[union-attr]
    response = items[-1]
    assert isinstance(response, MixtureResponse)
    assert missing(response) == [(client.models[0], 1, None)]
    assert "connect" in response.missing[0].reason.lower()
    assert len(response.proposals) == 2


def test_the_aggregator_is_told_who_is_missing(mixture: Mixture, client: Client, server: FaultServer) -> None:
    server.script(client.models[1], Failure(401))
    response = mixture(num_layers=2).run(QUESTION)
    (synthesis,) = server.of(client.models[3])
    assert client.models[1] in str(synthesis.body["messages"])
    assert "answer of " + client.models[0] in str(synthesis.body["messages"])
    assert str(response.missing[0]).startswith(f"{client.models[1]}, layer 1: ")
    assert str(response.missing[0]).endswith("(HTTP 401)")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_proposers_model_stands_in_for_the_aggregator(
    mixture: Mixture, client: Client, server: FaultServer, streamed: bool
) -> None:
    server.script(client.models[3], Failure(500))
    server.script(client.models[0], Answer("draft"), Answer("stand-in's synthesis"))
    pack = mixture(num_layers=2)
    if streamed:
        *_, response = [item async for item in pack.astream(QUESTION)]
        assert isinstance(response, MixtureResponse)
    else:
        response = await pack.arun(QUESTION)
    assert server.attempts(client.models[3]) == 3
    assert str(response) == "stand-in's synthesis"
    assert response.synthesizer == client.models[0]
    assert missing(response) == [(client.models[3], 2, 500)]
    assert response.degraded


def test_when_nothing_answers_one_error_names_every_cause(
    mixture: Mixture, client: Client, server: FaultServer
) -> None:
    for name, status in zip(client.models, (500, 401, 503, 400), strict=True):
        server.script(name, Failure(status))
    with pytest.raises(MixtureError) as raised:
        mixture(num_layers=2).run(QUESTION)
    for name, status in zip(client.models, (500, 401, 503, 400), strict=True):
        assert any(
            name in line and line.endswith(f"(HTTP {status})") for line in str(raised.value).splitlines()
        )
    assert len(raised.value.causes) == 4
    assert [server.attempts(name) for name in client.models] == [3, 1, 3, 1]


def test_a_stream_that_breaks_off_is_not_started_again(client: Client, server: FaultServer) -> None:
    server.script(client.models[3], Answer("one two three", breaks_after=2))
    *proposers, aggregator = client.llms(server.url)
    llm = MixtureOfAgentsPack(aggregator, proposers, num_layers=2).as_llm()
    pieces = llm.stream_chat([ChatMessage(role=MessageRole.USER, content=QUESTION)])
    assert "one two three".startswith((next(pieces).delta or "").strip())
    # Nothing takes back what is out already, so another model's answer must not follow it.
    with pytest.raises(BrokenStreamError):
        list(pieces)
    assert server.attempts(client.models[3]) == 1


async def test_usage_is_counted_in_streams_too(mixture: Mixture, client: Client, server: FaultServer) -> None:
    *_, response = [item async for item in mixture(num_layers=2).astream(QUESTION)]
    assert isinstance(response, MixtureResponse)
    written = [len(f"answer of {name}".split()) for name in client.models]
    # A look-alike is not asked to count, since it may refuse the request: its last call is estimated.
    assert response.usage.estimated == (client is OPENAI_LIKE)
    if client is OPENAI_LIKE:
        assert response.usage.completion_tokens
        return
    assert response.usage.prompt_tokens == 7 * 4
    assert response.usage.completion_tokens == sum(written)


def test_a_proposers_own_timeout_covers_its_retries(client: Client, server: FaultServer) -> None:
    server.script(client.models[0], Failure(503, {"Retry-After": "30"}))
    *proposers, aggregator = client.llms(server.url)
    hurried = Proposer(proposers[0], timeout=0.5)
    response = MixtureOfAgentsPack(aggregator, [hurried, *proposers[1:]], num_layers=2).run(QUESTION)
    assert [gone.reason for gone in response.missing] == ["no answer within its timeout of 0.5 s"]
    assert server.attempts(client.models[0]) == 1
    assert response.latency_seconds < 20
