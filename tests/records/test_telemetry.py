"""OpenTelemetry spans of a run: one tree, what its spans carry, and what they keep to themselves."""

from __future__ import annotations

import asyncio
import re
import runpy
from collections.abc import Sequence

import pytest
from llama_index.core.base.llms.types import ChatMessage
from opentelemetry.trace import SpanKind, Tracer

from llama_index.packs.mixture_of_agents import Proposer
from llama_index.packs.mixture_of_agents.agreement import Agreement
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.telemetry import CAPTURE
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Usage
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.policy.tree import ROOT
from tests.records.observed_packs import KEY, TREE, observed_pack, posting
from tests.records.span_tree import Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tracer(recorder: Recorder) -> Tracer:
    return recorder.provider.get_tracer("a caller or a client")


# What one run looks like.


async def test_a_run_is_one_tree_of_layers_steps_and_calls(recorder: Recorder) -> None:
    await observed_pack(recorder).arun("why?")
    root = recorder.root()
    assert root.outline() == TREE
    assert {node.status for node in root.walk()} == {"UNSET"}
    assert len({node.span.context.trace_id for node in root.walk() if node.span.context}) == 1


async def test_a_call_carries_its_place_its_settings_and_what_it_used(recorder: Recorder) -> None:
    pack = observed_pack(recorder, temperature=0.5, max_tokens=20)
    response = await pack.arun("why?")
    call, *_ = recorder.root().named("chat bee")
    usage = next(p.usage for p in response.proposals if p.proposer == "bee")
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "bee",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "moa.layer": 1,
        "moa.index": 1,
        "moa.task": "propose",
        "moa.proposer": "bee",
    }
    assert call.attributes.items() >= expected.items()
    assert call.span.kind is SpanKind.CLIENT


async def test_what_calls_cost_is_told_where_a_price_is_known(recorder: Recorder) -> None:
    response = await observed_pack(
        recorder, num_layers=2, prices={"ant": {"input": 1.0, "output": 2.0}}
    ).arun("why?")
    root, (cost,) = recorder.root(), [p.usage.cost_usd for p in response.proposals if p.proposer == "ant"]
    assert [node.attributes.get("moa.cost_usd") for node in root.named("chat")] == [cost, None, None]
    assert cost is not None
    assert cost > 0
    assert "moa.cost_usd" not in root.attributes  # one part of it is unknown


async def test_the_run_says_what_it_came_to(recorder: Recorder) -> None:
    response = await observed_pack(recorder).arun("why?")
    attributes = recorder.root().attributes
    assert attributes["gen_ai.operation.name"] == "invoke_agent"
    assert attributes["gen_ai.agent.name"] == "mixture_of_agents"
    assert attributes["gen_ai.usage.output_tokens"] == response.usage.completion_tokens
    assert attributes["moa.run_id"] == response.run_id
    assert attributes["moa.num_layers"] == 3
    assert attributes["moa.synthesizer"] == "queen"
    assert attributes["moa.degraded"] is False


async def test_roles_condensing_and_ranking_are_steps_of_their_layers(recorder: Recorder) -> None:
    models = [ScriptedLLM("a draft", model=name) for name in ("ant", "bee")]
    queen = ScriptedLLM(["no roles in here", "both drafts in one", "Draft 1 is best."], model="queen")
    settings = {"strategy": "role", "pass_on": "condensed", "finish": "rank", "nb_models_by_layer": 2}
    await observed_pack(recorder, models, llm=queen, **settings).arun("why?")
    steps = [(layer.name, [step.name for step in layer.children]) for layer in recorder.root().children]
    assert steps == [
        ("layer 1", ["roles queen", "propose ant", "propose bee", "condense queen"]),
        ("layer 2", ["propose ant", "propose bee"]),
        ("layer 3", ["rank queen"]),
    ]


async def test_an_early_stop_is_told_and_the_layers_it_skips_are_not_there(recorder: Recorder) -> None:
    models = [ScriptedLLM("42", model=name) for name in ("ant", "bee")]
    await observed_pack(recorder, models, stop_early=Agreement(), num_layers=4).arun("why?")
    root = recorder.root()
    assert [layer.name for layer in root.children] == ["layer 1", "layer 4"]
    assert [event.name for event in root.span.events] == ["moa.agreed"]
    assert root.attributes["moa.stopped_after"] == 1


class Librarian:
    """A workflow agent, as far as the mixture knows it, that asks a model of its own."""

    name = "librarian"

    def __init__(self, model: ScriptedLLM) -> None:
        self.model = model

    async def run(self, user_msg: ChatMessage, chat_history: Sequence[ChatMessage]) -> str:
        return str((await self.model.achat([user_msg])).message.content)


async def test_an_agent_is_invoked_and_what_it_does_stands_inside(recorder: Recorder, tracer: Tracer) -> None:
    await observed_pack(recorder, [Librarian(posting(tracer, "shelf"))], num_layers=2).arun("why?")
    (step,) = recorder.root().named("propose")
    assert step.outline() == ("propose librarian", [("invoke_agent librarian", ["POST"])])
    assert step.children[0].span.kind is SpanKind.INTERNAL


async def test_a_mixture_within_a_mixture_is_a_tree_within_the_tree(recorder: Recorder) -> None:
    inner = observed_pack(recorder, [ScriptedLLM("a draft", model="ant")], num_layers=2).as_llm()
    await observed_pack(recorder, [Proposer(inner, name="hive")], num_layers=2).arun("why?")
    (step,) = recorder.root().named("propose hive")
    ((_, [(inner_run, layers)]),) = [child.outline() for child in step.children]
    assert inner_run == TREE[0]
    assert [name for name, _ in layers] == ["layer 1", "layer 2"]


@pytest.mark.parametrize("door", ["run", "astream"])
async def test_the_tree_is_the_same_by_every_door(recorder: Recorder, door: str) -> None:
    pack = observed_pack(recorder)
    if door == "run":
        await asyncio.to_thread(pack.run, "why?")
    else:
        assert [item async for item in pack.astream("why?")]
    assert recorder.root().outline() == TREE


EXAMPLE = """\
invoke_agent mixture_of_agents
  layer 1
    propose physicist
      chat physicist
    propose teacher
      chat teacher
      chat teacher
    propose absent
      chat absent
  layer 2
    propose physicist
      chat physicist
    propose teacher
      chat teacher
    propose absent
      chat absent
  layer 3
    synthesize editor
      chat editor
"""


def test_the_example_prints_the_tree_of_its_run(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "telemetry.py"), run_name="__main__")
    answer, _, tree = capsys.readouterr().out.partition("\n\n")
    assert answer == "Air scatters blue light more than red."
    assert re.sub(r"  \[.*", "", tree) == EXAMPLE
    assert "chat physicist  [temperature 0.2, seed 7, read 5, written 2, USD 1.3e-05]" in tree
    assert "chat absent  [error 404, " in tree


# What a policy answers.


class Stored:
    """Answers for one proposer, as a cache does."""

    async def before(self, call: Call) -> Proposal | Sampling | None:
        if call.proposer == "ant":
            return Proposal(proposer="ant", layer=call.layer, text="known", usage=Usage(prompt_tokens=9))
        return Sampling(temperature=0.25)

    async def after(self, call: Call, outcome: Proposal | Missing) -> None: ...


async def test_an_answer_from_a_store_is_a_step_without_a_call(recorder: Recorder) -> None:
    await observed_pack(recorder, policies=[Stored()], num_layers=2, temperature=1.0).arun("why?")
    (step,) = recorder.root().named("propose ant")
    assert step.children == []
    assert step.attributes["moa.source"] == "Stored"
    (call,) = recorder.root().named("chat bee")
    assert call.attributes["gen_ai.request.temperature"] == 0.25


# Contents.


async def test_contents_and_keys_stay_out_unless_contents_are_asked_for(recorder: Recorder) -> None:
    question = f"a question with {KEY}"
    await observed_pack(recorder).arun(question)
    told = [str(node.attributes) + str(node.span.events) for node in recorder.root().walk()]
    assert not any("question" in text or "draft of" in text or "the answer" in text for text in told)


@pytest.mark.parametrize("way", ["argument", "environment"])
async def test_contents_are_told_on_request_without_keys(
    recorder: Recorder, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "environment":
        monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    spans = {"contents": True} if way == "argument" else {}
    await observed_pack(recorder, num_layers=2, spans=spans).arun(f"a question with {KEY}")
    root = recorder.root()
    call, *_ = root.named("chat ant")
    for node in (root, call):
        assert "a question with [secret]" in node.attributes["gen_ai.input.messages"]
    assert "draft of ant" in call.attributes["gen_ai.output.messages"]
    assert "the answer" in root.attributes["gen_ai.output.messages"]
    assert KEY not in "".join(str(node.attributes) for node in root.walk())


async def test_the_argument_goes_before_the_environment(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CAPTURE, "true")
    await observed_pack(recorder, spans={"contents": False}).arun("a question")
    assert "gen_ai.input.messages" not in recorder.root().attributes
