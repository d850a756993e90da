"""The pack as a door: what it is to LlamaIndex, what it takes, what it refuses before any call."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import (
    ConfigurationError,
    MixtureOfAgentsLLM,
    MixtureOfAgentsPack,
    MixtureOfAgentsWorkflow,
    Proposer,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

HAS_CORE_PACKS = importlib.util.find_spec("llama_index.core.llama_pack") is not None


def models() -> tuple[ScriptedLLM, ScriptedLLM]:
    return ScriptedLLM("the answer", model="g"), ScriptedLLM("a draft", model="a")


@pytest.mark.skipif(not HAS_CORE_PACKS, reason="this llama-index-core has no packs of its own any more")
def test_it_is_a_pack_to_the_core_that_has_packs() -> None:
    base = importlib.import_module("llama_index.core.llama_pack.base").BaseLlamaPack
    assert issubclass(MixtureOfAgentsPack, base)


@pytest.mark.skipif(HAS_CORE_PACKS, reason="this llama-index-core has packs")
def test_it_stands_alone_where_the_core_has_no_packs() -> None:
    (base,) = MixtureOfAgentsPack.__bases__
    assert (base.__name__, base.__module__) == ("BaseLlamaPack", "llama_index.packs.mixture_of_agents.base")


def test_the_arguments_of_the_abandoned_pack_stand_where_they_stood() -> None:
    parameters = inspect.signature(MixtureOfAgentsPack).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["llm", "reference_llms", "num_layers", "max_tokens", "temperature", "timeout"]
    assert inspect.signature(MixtureOfAgentsPack).parameters["timeout"].default == 200


def test_positional_arguments_reach_the_mixture() -> None:
    llm, proposer = models()
    mixture = MixtureOfAgentsPack(llm, [proposer], 2, 77, 0.4, 9).workflow.mixture
    assert (mixture.num_layers, mixture.timeout) == (2, 9)
    assert mixture.aggregator.sampling.given() == {"temperature": 0.4, "max_tokens": 77}


def test_the_docstring_describes_every_argument() -> None:
    text = inspect.getdoc(MixtureOfAgentsPack) or ""
    for name in list(inspect.signature(MixtureOfAgentsPack).parameters):
        assert f"    {name}: " in text, name


def test_its_modules_are_the_callers_own_objects() -> None:
    llm, proposer = models()
    agent = Proposer(proposer, name="second")
    pack = MixtureOfAgentsPack(llm, [proposer, agent], 2)
    modules = pack.get_modules()
    assert modules["llm"] is llm
    assert modules["reference_llms"] == [[proposer, proposer]]
    assert [seat.name for seat in modules["proposers"][0]] == ["a", "second"]
    assert modules["num_layers"] == 2
    assert isinstance(modules["workflow"], MixtureOfAgentsWorkflow)
    assert isinstance(pack.as_llm(), MixtureOfAgentsLLM)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "  \n",
        [],
        [ChatMessage(content="")],
        None,
        5,
        b"bytes",
        ["Why?"],
        {"query": "Why?"},
        ChatMessage(content="x"),
    ],
    ids=repr,
)
async def test_what_is_no_question_is_refused_before_any_call_at_every_door(question: Any) -> None:
    llm, proposer = models()
    pack = MixtureOfAgentsPack(llm, [proposer])
    with pytest.raises(ConfigurationError):
        pack.run(question)
    with pytest.raises(ConfigurationError):
        await pack.arun(question)
    with pytest.raises(ConfigurationError):
        async for _ in pack.astream(question):
            pass
    assert not llm.calls + proposer.calls


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"reference_llms": []}, "Pass at least one, or num_layers=1"),
        ({"reference_llms": None}, "Pass at least one, or num_layers=1"),
        ({"num_layers": 0}, "must be a whole number >= 1"),
        ({"num_layers": -2}, "must be a whole number >= 1"),
        ({"quorum": 2}, "Use a quorum of at most 1"),
        ({"llm": "gpt-4o"}, "Pass an LLM object"),
        ({"reference_llms": ["gpt-4o"]}, "Pass an LLM object"),
        ({"strategy": "best"}, "use one of 'model', 'role'"),
        ({"timeout": 0}, "None for no limit"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_at_construction_with_the_remedy(
    arguments: dict[str, Any], remedy: str
) -> None:
    llm, proposer = models()
    with pytest.raises(ConfigurationError, match=remedy) as raised:
        MixtureOfAgentsPack(**{"llm": llm, "reference_llms": [proposer], **arguments})
    assert isinstance(raised.value, ValueError)
    assert not llm.calls + proposer.calls


def test_the_callers_models_are_never_changed() -> None:
    llm, proposer = models()
    before = [model.model_dump() for model in (llm, proposer)]
    MixtureOfAgentsPack(llm, [proposer], max_tokens=5, temperature=0.1, strategy="self").run("Why?")
    assert [model.model_dump() for model in (llm, proposer)] == before


@pytest.mark.parametrize("checkpoint", ["", " ", 5, b"run.json", ["run.json"]], ids=repr)
async def test_what_is_no_path_is_no_checkpoint(checkpoint: Any) -> None:
    llm, proposer = models()
    pack = MixtureOfAgentsPack(llm, [proposer])
    with pytest.raises(ConfigurationError, match="checkpoint must be the path of a file"):
        pack.run("Why?", checkpoint=checkpoint)
    with pytest.raises(ConfigurationError, match="checkpoint must be the path of a file"):
        pack.workflow.run(query_str="Why?", checkpoint=checkpoint)
    assert not llm.calls + proposer.calls


@pytest.mark.parametrize("kind", [str, Path])
async def test_a_checkpoint_is_a_text_or_a_path_at_every_door(
    tmp_path: Path, kind: Callable[[Path], Any]
) -> None:
    llm, proposer = models()
    pack = MixtureOfAgentsPack(llm, [proposer])
    pack.run("Why?", checkpoint=kind(tmp_path / "run.json"))
    await pack.workflow.run(query_str="Why?", checkpoint=kind(tmp_path / "run.json"))
    assert (len(llm.calls), len(proposer.calls)) == (1, 2)
