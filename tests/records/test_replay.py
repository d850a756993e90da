"""Answering from a record: strictly, with calls that go out, and where a killed run stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents import MixtureError, MixtureOfAgentsPack, Proposal
from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.replay import ReplayPolicy, answers_of, resuming
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.results import Usage
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


class Mixture:
    """Two proposers, one of which may fail, and a judge; built anew for each run."""

    def __init__(self, path: Path, *policies: Any, b: Any = "two", redact: bool = False) -> None:
        self.models = {
            "a": ScriptedLLM("one", model="a"),
            "b": ScriptedLLM(b, model="b"),
            "judge": ScriptedLLM(lambda messages: f"read {len(messages[0].content or '')}", model="judge"),
        }
        self.pack = MixtureOfAgentsPack(
            self.models["judge"],
            [self.models["a"], self.models["b"]],
            3,
            policies=list(policies),
            trace=Trace(path, redact=redact),
            max_retries=0,
        )

    @property
    def calls(self) -> dict[str, int]:
        return {name: len(model.calls) for name, model in self.models.items()}


NO_CALLS = {"a": 0, "b": 0, "judge": 0}


def replaying(path: Path, **how: Any) -> ReplayPolicy:
    return ReplayPolicy(answers_of(read_trace(path)[0]), **how)


def test_the_same_mixture_is_answered_from_the_record(tmp_path: Path) -> None:
    said = Mixture(tmp_path / "t.jsonl").pack.run("Why?")
    policy = replaying(tmp_path / "t.jsonl")
    again = Mixture(tmp_path / "again.jsonl", policy)
    response = again.pack.run("Why?")
    assert (response.text, response.usage, again.calls) == (said.text, said.usage, NO_CALLS)
    assert (policy.answered, policy.unknown) == (5, [])


def test_an_answer_keeps_its_usage_and_says_it_is_from_the_record(tmp_path: Path) -> None:
    Mixture(tmp_path / "t.jsonl").pack.run("Why?")
    response = Mixture(tmp_path / "again.jsonl", replaying(tmp_path / "t.jsonl")).pack.run("Why?")
    first = response.proposals[0]
    assert first.details["source"] == "record"
    assert first.usage == Usage(prompt_tokens=1, completion_tokens=1)
    (run,) = read_trace(tmp_path / "again.jsonl")
    assert {call.outcome.source for call in run.calls if call.outcome} == {"ReplayPolicy"}
    assert run.spent == Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)


def test_strictly_what_is_not_in_the_record_is_missing_and_says_so(tmp_path: Path) -> None:
    Mixture(tmp_path / "t.jsonl").pack.run("Why?")
    policy = replaying(tmp_path / "t.jsonl")
    again = Mixture(tmp_path / "again.jsonl", policy)
    with pytest.raises(MixtureError, match="not in the record, and a strict replay asks nobody"):
        again.pack.run("What else?")
    assert again.calls == NO_CALLS
    assert policy.unknown[0] == "a, layer 1 (propose)"


def test_not_strictly_it_goes_out(tmp_path: Path) -> None:
    Mixture(tmp_path / "t.jsonl").pack.run("Why?")
    again = Mixture(tmp_path / "again.jsonl", replaying(tmp_path / "t.jsonl", strict=False), b="2")
    assert again.pack.run("What else?").text
    assert again.calls == {"a": 2, "b": 2, "judge": 1}


def test_failures_are_repeated_or_asked_again(tmp_path: Path) -> None:
    Mixture(tmp_path / "t.jsonl", b=[ValueError("no")] * 2).pack.run("Why?")
    strict = Mixture(tmp_path / "strict.jsonl", replaying(tmp_path / "t.jsonl"))
    assert [gone.reason for gone in strict.pack.run("Why?").missing] == ["ValueError: no"] * 2
    policy = replaying(tmp_path / "t.jsonl", strict=False, with_failures=False)
    assert not Mixture(tmp_path / "anew.jsonl", policy).pack.run("Why?").missing


@pytest.mark.parametrize("lines", range(3, 18))
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, lines: int) -> None:
    whole, cut = tmp_path / "t.jsonl", tmp_path / "cut.jsonl"
    said = Mixture(whole).pack.run("Why?").text
    kept = whole.read_text().splitlines(keepends=True)[:lines]
    cut.write_text("".join(kept))
    answered = sum(json.loads(line)["kind"] == "call_answered" for line in kept)
    again = Mixture(tmp_path / "again.jsonl", resuming(cut))
    assert again.pack.run("Why?").text == said
    assert sum(again.calls.values()) == 5 - answered


def test_a_redacted_run_answers_nothing(tmp_path: Path) -> None:
    Mixture(tmp_path / "t.jsonl", redact=True).pack.run("Why?")
    with pytest.raises(TraceError, match="were redacted"):
        resuming(tmp_path / "t.jsonl")


def test_a_key_in_the_question_does_not_keep_the_run_from_its_record(tmp_path: Path) -> None:
    Mixture(tmp_path / "t.jsonl").pack.run("Is sk-proj-Abcdef0123456789Abcdef a key?")
    (run,) = read_trace(tmp_path / "t.jsonl")
    policy = ReplayPolicy(answers_of(run))
    again = Mixture(tmp_path / "again.jsonl", policy)
    again.pack.run(run.question)
    assert (again.calls, policy.unknown) == (NO_CALLS, [])


async def test_a_record_says_of_which_layer_an_answer_now_is(tmp_path: Path) -> None:
    Mixture(tmp_path / "t.jsonl").pack.run("Why?")
    (run,) = read_trace(tmp_path / "t.jsonl")
    policy = ReplayPolicy(answers_of(run))
    asked = run.calls[0].asked
    call = Call("r", 1, 0, asked.proposer, run.question, asked.sampling, identity=asked.identity)
    found = await policy.before(replace(call, layer=7))
    assert isinstance(found, Proposal)
    assert found.layer == 7
