"""The table of settings, held against the requests that each LLM class really sends.

The request bodies are those that a server on loopback received; classes that are not installed are
skipped. Knows nothing of rounds and synthesis.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, Proposer
from llama_index.packs.mixture_of_agents.calls.endpoint import LLMEndpoint
from llama_index.packs.mixture_of_agents.calls.sampling import (
    Sampling,
    accepts_keywords,
    form_of,
    refused_keywords,
    settle,
    split_options,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.loopback.fault_server import FaultServer

pytestmark = [
    # google-genai subclasses a class of aiohttp's that does not like it.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

SETTINGS = Sampling(temperature=0.25, max_tokens=33, seed=7)
HELLO = [ChatMessage(content="hello")]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@dataclass(frozen=True)
class Form:
    """One LLM class, and where its API has the settings.

    Attributes:
        build: (server address, settings of its own) -> the LLM.
        temperature, max_tokens, seed: Paths into the request body; None where the API has no place.
        own_temperature: How the class takes a temperature of its own.
        overriding: Further entries of its `additional_kwargs` that would override the settings.
    """

    build: Callable[..., LLM]
    temperature: tuple[str, ...] | None = ("temperature",)
    max_tokens: tuple[str, ...] | None = ("max_tokens",)
    seed: tuple[str, ...] | None = ("seed",)
    overriding: dict[str, Any] | None = None

    def read(self, body: dict[str, Any]) -> dict[str, Any]:
        """The settings that a request body carries."""
        places = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": self.seed}
        return {name: _at(body, path) for name, path in places.items() if path is not None}


def _at(body: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        body = body.get(step) if isinstance(body, dict) else None
    return body


def _openai(url: str, **own: Any) -> LLM:
    module: Any = pytest.importorskip("llama_index.llms.openai")
    llm: LLM = module.OpenAI(**{"model": "gpt-4o-mini", "api_base": f"{url}/v1", "api_key": "test", **own})
    return llm


def _openai_like(url: str, **own: Any) -> LLM:
    module: Any = pytest.importorskip("llama_index.llms.openai_like")
    fixed = {"model": "any", "api_base": f"{url}/v1", "api_key": "test", "is_chat_model": True}
    llm: LLM = module.OpenAILike(**{**fixed, **own})
    return llm


def _mistralai(url: str, **own: Any) -> LLM:
    module: Any = pytest.importorskip("llama_index.llms.mistralai")
    llm: LLM = module.MistralAI(
        **{"model": "mistral-small-latest", "endpoint": url, "api_key": "test", **own}
    )
    return llm


def _anthropic(url: str, **own: Any) -> LLM:
    module: Any = pytest.importorskip("llama_index.llms.anthropic")
    if int(version("anthropic").partition(".")[0]) >= 1:
        pytest.skip("LlamaIndex's class cannot call with anthropic 1.0 and later; install anthropic<1")
    llm: LLM = module.Anthropic(**{"model": "claude-haiku-4-5", "base_url": url, "api_key": "test", **own})
    return llm


def _ollama(url: str, **own: Any) -> LLM:
    module: Any = pytest.importorskip("llama_index.llms.ollama")
    llm: LLM = module.Ollama(**{"model": "llama3.2", "base_url": url, "context_window": 4096, **own})
    return llm


def _google_genai(url: str, **own: Any) -> LLM:
    module: Any = pytest.importorskip("llama_index.llms.google_genai")
    fixed = {"model": "gemini-2.0-flash", "api_key": "test", "http_options": {"base_url": url}}
    # With both limits given it does not ask the service for them.
    llm: LLM = module.GoogleGenAI(**{**fixed, "context_window": 8192, "max_tokens": 1000, **own})
    return llm


FORMS = {
    "OpenAI": Form(_openai, overriding={"temperature": 1.5, "max_tokens": 999, "seed": 999}),
    "OpenAILike": Form(_openai_like, overriding={"temperature": 1.5, "max_tokens": 999, "seed": 999}),
    "MistralAI": Form(
        _mistralai,
        seed=("random_seed",),
        overriding={"temperature": 0.9, "max_tokens": 999, "random_seed": 999},
    ),
    "Anthropic": Form(_anthropic, seed=None, overriding={"temperature": 0.9, "max_tokens": 999}),
    "Ollama": Form(
        _ollama,
        temperature=("options", "temperature"),
        max_tokens=("options", "num_predict"),
        seed=("options", "seed"),
        overriding={"temperature": 1.5, "num_predict": 999, "seed": 999},
    ),
    "GoogleGenAI": Form(
        _google_genai,
        temperature=("generationConfig", "temperature"),
        max_tokens=("generationConfig", "maxOutputTokens"),
        seed=("generationConfig", "seed"),
    ),
}
GIVEN = {"temperature": 0.25, "max_tokens": 33, "seed": 7}


@pytest.fixture(params=FORMS.values(), ids=list(FORMS))
def form(request: pytest.FixtureRequest) -> Form:
    chosen: Form = request.param
    return chosen


@asynccontextmanager
async def used(llm: LLM) -> AsyncIterator[LLM]:
    """Use an LLM; at the end close what GoogleGenAI keeps open itself, one session for each loop."""
    try:
        yield llm
    finally:
        its_own = getattr(getattr(llm, "_client", None), "aio", None)
        if its_own is not None:
            await its_own.aclose()


async def _text(endpoint: LLMEndpoint, streamed: bool) -> str:
    if streamed:
        return "".join([piece.delta async for piece in endpoint.stream(HELLO, {})])
    return (await endpoint.reply(HELLO, {})).text


async def sent(llm: LLM, sampling: Sampling, server: FaultServer, streamed: bool = False) -> dict[str, Any]:
    """The body of the one request that a call with these settings makes."""
    before = server.attempts()
    async with used(llm):
        assert (await _text(LLMEndpoint(llm, sampling), streamed)).startswith("answer of")
    (request,) = server.of()[before:]
    return request.body


def expected(form: Form, given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if getattr(form, name) is not None}


@pytest.mark.parametrize("streamed", [False, True])
async def test_settings_arrive_where_the_api_has_them(
    form: Form, server: FaultServer, streamed: bool
) -> None:
    body = await sent(form.build(server.url), SETTINGS, server, streamed)
    assert form.read(body) == expected(form, GIVEN)


@pytest.mark.parametrize("streamed", [False, True])
async def test_settings_among_a_calls_options_do_too(form: Form, server: FaultServer, streamed: bool) -> None:
    llm = form.build(server.url)
    endpoint = LLMEndpoint(llm, Sampling(temperature=0.75, seed=3))
    async with used(llm):
        for temperature in (0.25, 0.5, 0.25):
            options = {**GIVEN, "temperature": temperature}
            if streamed:
                assert [piece async for piece in endpoint.stream(HELLO, options)]
            else:
                assert (await endpoint.reply(HELLO, options)).text
    bodies = [form.read(request.body) for request in server.of()]
    assert bodies == [expected(form, {**GIVEN, "temperature": each}) for each in (0.25, 0.5, 0.25)]


async def test_none_leaves_the_llms_own(form: Form, server: FaultServer) -> None:
    llm = form.build(server.url, temperature=0.6)
    body = await sent(llm, Sampling(), server)
    assert form.read(body)["temperature"] == 0.6
    assert form.read(body)["max_tokens"] != 33
    body = await sent(llm, Sampling(max_tokens=33), server)
    assert form.read(body)["temperature"] == 0.6
    assert form.read(body)["max_tokens"] == 33


async def test_zero_is_a_temperature(form: Form, server: FaultServer) -> None:
    body = await sent(form.build(server.url, temperature=0.6), Sampling(temperature=0.0), server)
    assert form.read(body)["temperature"] == 0.0


async def test_additional_kwargs_do_not_win(form: Form, server: FaultServer) -> None:
    if form.overriding is None:
        pytest.skip("the class has no additional_kwargs of this kind")
    llm = form.build(server.url, additional_kwargs={**form.overriding, "top_p": 0.5})
    body = await sent(llm, SETTINGS, server)
    assert form.read(body) == expected(form, GIVEN)
    assert "'top_p': 0.5" in str(body)  # what has nothing to do with the settings stays


async def test_the_llm_is_not_changed(form: Form, server: FaultServer) -> None:
    llm = form.build(server.url, temperature=0.6)
    before = llm.model_dump(exclude={"callback_manager"})
    await sent(llm, SETTINGS, server)
    assert llm.model_dump(exclude={"callback_manager"}) == before
    body = await sent(llm, Sampling(), server)
    assert form.read(body)["temperature"] == 0.6


async def test_two_settings_of_one_llm_do_not_meet(form: Form, server: FaultServer) -> None:
    llm = form.build(server.url)
    cold, warm = LLMEndpoint(llm, Sampling(temperature=0.1)), LLMEndpoint(llm, Sampling(temperature=0.9))
    async with used(llm):
        for endpoint in (cold, warm, cold):
            await endpoint.reply(HELLO, {})
    assert [form.read(attempt.body)["temperature"] for attempt in server.of()] == [0.1, 0.9, 0.1]


@pytest.mark.parametrize("streamed", [False, True])
async def test_reasoning_models_get_no_temperature(server: FaultServer, streamed: bool) -> None:
    o3 = _openai(server.url, model="o3-mini")
    # What the class forces upon them, it forces with or without us.
    forced = (await sent(o3, Sampling(), server)).get("temperature")
    body = await sent(o3, SETTINGS, server, streamed)
    assert body.get("temperature") == forced
    assert body["max_completion_tokens"] == 33
    assert "max_tokens" not in body
    assert body["seed"] == 7


async def test_reasoning_models_own_completion_limit_does_not_win(server: FaultServer) -> None:
    o3 = _openai(server.url, model="o3-mini", additional_kwargs={"max_completion_tokens": 999})
    assert (await sent(o3, SETTINGS, server))["max_completion_tokens"] == 33


async def test_anthropic_models_without_a_temperature(server: FaultServer) -> None:
    anthropic = pytest.importorskip("llama_index.llms.anthropic.base")
    model = next(iter(anthropic.ANTHROPIC_NO_TEMP_MODELS))
    llm = _anthropic(server.url, model=model)
    subclass: Any = type("MyOwn", (type(llm),), {"__module__": __name__})
    for each in (llm, subclass(model=model, base_url=server.url, api_key="test")):
        body = await sent(each, SETTINGS, server)
        assert "temperature" not in body
        assert body["max_tokens"] == 33


class PlainLLM(CustomLLM):
    """A class as the documentation teaches it, with no place for settings but its own field."""

    temperature: float = 0.5

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="plain")

    def complete(self, prompt: str, formatted: bool = False) -> CompletionResponse:  # type: ignore[override]
        return CompletionResponse(text=f"at {self.temperature}")

    def stream_complete(  # type: ignore[override]
        self, prompt: str, formatted: bool = False
    ) -> CompletionResponseGen:
        yield CompletionResponse(text=f"at {self.temperature}", delta=f"at {self.temperature}")


class KeywordLLM(PlainLLM):
    """A class whose methods take keywords, as they should."""

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=str(sorted(kwargs.items())))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        yield CompletionResponse(text=str(sorted(kwargs.items())), delta=str(sorted(kwargs.items())))


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_custom_llm_without_keywords_gets_its_fields_set(
    caplog: pytest.LogCaptureFixture, streamed: bool
) -> None:
    llm = PlainLLM()
    with caplog.at_level(logging.WARNING, "llama_index.packs.mixture_of_agents"):
        endpoint = LLMEndpoint(llm, SETTINGS)
    assert not accepts_keywords(llm)
    assert await _text(endpoint, streamed) == "at 0.25"
    assert llm.temperature == 0.5
    # What it has no place for is left out, and said.
    assert sorted(record.getMessage() for record in caplog.records) == [
        "PlainLLM takes no max_tokens: left out",
        "PlainLLM takes no seed: left out",
    ]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_custom_llm_with_keywords_gets_them(streamed: bool) -> None:
    assert accepts_keywords(KeywordLLM())
    text = await _text(LLMEndpoint(KeywordLLM(), SETTINGS), streamed)
    assert text == "[('max_tokens', 33), ('seed', 7), ('temperature', 0.25)]"


@pytest.mark.parametrize("name", [*FORMS, "OpenAIResponses", "HuggingFaceLLM"])
async def test_a_class_that_only_has_an_integrations_name_is_called_as_what_it_is(name: str) -> None:
    namesake: Any = type(name, (KeywordLLM,), {"__module__": __name__})
    endpoint = LLMEndpoint(namesake(), SETTINGS)
    assert await _text(endpoint, False) == "[('max_tokens', 33), ('seed', 7), ('temperature', 0.25)]"
    assert await _text(endpoint, True) == "[('max_tokens', 33), ('seed', 7), ('temperature', 0.25)]"


def test_the_keywords_that_a_class_refuses_are_known() -> None:
    class TopP(PlainLLM):
        def complete(  # type: ignore[override]
            self, prompt: str, formatted: bool = False, top_p: float = 1.0
        ) -> CompletionResponse:
            return CompletionResponse(text="x")

    assert refused_keywords(TopP(), ["top_p", "top_k"]) == ["top_k"]
    assert refused_keywords(KeywordLLM(), ["top_p", "top_k"]) == []


def test_settings_are_told_from_a_calls_other_options() -> None:
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": None, "tools": []}
    assert split_options(options) == (Sampling(temperature=0.0), {"tools": []})


async def test_a_scripted_llm_records_them() -> None:
    llm = ScriptedLLM("fine")
    await LLMEndpoint(llm, SETTINGS).reply(HELLO, {})
    assert llm.calls[0].options == GIVEN


async def test_options_of_the_call_win_over_settings() -> None:
    llm = ScriptedLLM("fine")
    await LLMEndpoint(llm, SETTINGS).reply(HELLO, {"temperature": 1.0, "tools": []})
    assert llm.calls[0].options == {**GIVEN, "temperature": 1.0, "tools": []}


def test_nothing_given_changes_nothing() -> None:
    llm = ScriptedLLM("fine")
    assert settle(llm, Sampling()) == (llm, {})


@pytest.mark.parametrize("name", list(FORMS))
def test_a_subclass_is_called_as_its_ancestor(name: str, server: FaultServer) -> None:
    llm = FORMS[name].build(server.url)
    subclass: Any = type("MyOwn", (type(llm),), {"__module__": __name__})
    assert form_of(subclass.model_construct()) == form_of(llm)


# Proposer over strategy over pack over the LLM's own.


def temperatures(pack: MixtureOfAgentsPack, *llms: ScriptedLLM) -> list[Any]:
    pack.run("Why?")
    return [llm.calls[0].options.get("temperature") for llm in llms]


def test_the_packs_settings_reach_everyone() -> None:
    a, final = ScriptedLLM("a"), ScriptedLLM("final")
    pack = MixtureOfAgentsPack(final, [a], num_layers=2, temperature=0.4, max_tokens=50)
    pack.run("Why?")
    assert a.calls[0].options == final.calls[0].options == {"temperature": 0.4, "max_tokens": 50}


def test_a_proposers_settings_win_over_the_packs() -> None:
    a, b, final = ScriptedLLM("a"), ScriptedLLM("b"), ScriptedLLM("final")
    pack = MixtureOfAgentsPack(
        Proposer(final, temperature=0.0), [Proposer(a, temperature=0.9), b], num_layers=2, temperature=0.4
    )
    assert temperatures(pack, a, b, final) == [0.9, 0.4, 0.0]


def test_a_strategys_settings_win_over_the_packs_and_lose_to_a_proposers() -> None:
    a, b, c, final = (ScriptedLLM(name) for name in ("a", "b", "c", "final"))
    proposers = [Proposer(a, temperature=1.1), b, c]
    pack = MixtureOfAgentsPack(final, proposers, num_layers=2, strategy="temperature", temperature=0.05)
    of_a, of_b, of_c, of_final = temperatures(pack, a, b, c, final)
    assert of_a == 1.1
    assert len({of_b, of_c, 0.05}) == 3
    assert of_final == 0.05


def test_each_setting_is_decided_for_itself() -> None:
    a = ScriptedLLM("a")
    proposer = Proposer(a, seed=3)
    MixtureOfAgentsPack(ScriptedLLM("final"), [proposer], num_layers=2, max_tokens=9).run("Why?")
    assert a.calls[0].options == {"seed": 3, "max_tokens": 9}


def test_without_any_the_llm_is_called_bare() -> None:
    a = ScriptedLLM("a")
    MixtureOfAgentsPack(ScriptedLLM("final"), [a], num_layers=2).run("Why?")
    assert a.calls[0].options == {}


def test_zero_is_given_and_none_is_not() -> None:
    assert Sampling(temperature=0.0).over(Sampling(temperature=1.0)).temperature == 0.0
    assert Sampling(temperature=None).over(Sampling(temperature=1.0)).temperature == 1.0
    assert Sampling(temperature=0.0).given() == {"temperature": 0.0}
