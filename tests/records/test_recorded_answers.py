"""Recorded answers of six real models as proposers: 100 problems of GSM8K, finished in three ways.

The records lie beside the repository, in `shared/data/gsm8k_recorded`, or where MOA_RECORDED_ANSWERS says;
who has neither has nothing to test here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, MixtureResponse
from llama_index.packs.mixture_of_agents.answers.extracting import final_number
from llama_index.packs.mixture_of_agents.answers.voting import voted
from llama_index.packs.mixture_of_agents.finishes import Finish, Rank, Synthesize, Vote
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.results import Proposal
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

BESIDE = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_recorded" / "dev.jsonl"
RECORDS = Path(os.environ.get("MOA_RECORDED_ANSWERS", BESIDE))
PROBLEMS = 100

pytestmark = pytest.mark.skipif(not RECORDS.is_file(), reason="no recorded answers beside the repository")


@lru_cache(maxsize=1)
def problems() -> list[dict[str, Any]]:
    with RECORDS.open(encoding="utf-8") as lines:
        return [json.loads(line) for _, line in zip(range(PROBLEMS), lines, strict=False)]


def recorded(name: str) -> ScriptedLLM:
    """A model that gives to each question the answer it once gave."""
    answers = {problem["question"]: problem["responses"][name] for problem in problems()}
    return ScriptedLLM(lambda messages: answers[messages[-1].content or ""], model=name)


def names() -> list[str]:
    return list(problems()[0]["responses"])


def aggregated(messages: Sequence[ChatMessage]) -> str:
    """Chooses the last draft, or writes what it read, each as it is asked to."""
    system = messages[0].content or ""
    if "Choose" in system:
        return json.dumps({"choice": len(names()), "reason": "{it} is the last"})
    return f"{system.count('end of draft')} drafts on: {messages[-1].content}"


def run_all(finish: Finish, trace: Path) -> list[MixtureResponse]:
    models = [recorded(name) for name in names()]
    aggregator = ScriptedLLM(aggregated, model="aggregator")
    pack = MixtureOfAgentsPack(aggregator, models, num_layers=2, finish=finish, trace=trace)

    async def every() -> list[MixtureResponse]:
        return await asyncio.gather(*(pack.arun(problem["question"]) for problem in problems()))

    return asyncio.run(every())


def simple_number(text: str) -> str | None:
    """GSM8K's answer by the simplest rule: the last number, whatever stands around it."""
    found = re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", "").replace("$", ""))
    return str(float(found[-1])) if found else None


def slowly_counted(problem: dict[str, Any]) -> str | None:
    """The answer with the most votes, by comparing each with each; of as many, the first."""
    answers = [simple_number(text) for text in problem["responses"].values()]
    best, most = None, 0
    for answer in answers:
        agreeing = sum(1 for other in answers if other == answer)
        if answer is not None and agreeing > most:
            best, most = answer, agreeing
    return best


def solutions() -> list[str | None]:
    return [simple_number(problem["answer"]) for problem in problems()]


@pytest.mark.parametrize(
    "finish", [Vote(extract=simple_number), Rank(), Synthesize()], ids=lambda way: way.name
)
def test_every_problem_is_finished_and_its_trace_can_be_read(finish: Finish, tmp_path: Path) -> None:
    responses = run_all(finish, tmp_path / "trace.jsonl")
    assert len(responses) == PROBLEMS
    assert not any(response.degraded for response in responses)
    for problem, response in zip(problems(), responses, strict=True):
        told = {proposal.proposer: proposal.text for proposal in response.proposals}
        assert told == problem["responses"]
        assert response.text == expected_text(problem, response)
    traced = {run.run_id for run in read_trace(tmp_path / "trace.jsonl")}
    assert traced == {response.run_id for response in responses}


def expected_text(problem: dict[str, Any], response: MixtureResponse) -> str:
    if response.finish == "synthesize":
        return f"{len(names())} drafts on: {problem['question']}"
    texts: dict[str, str] = problem["responses"]
    if response.finish == "rank":
        return texts[names()[-1]]
    answer = slowly_counted(problem)
    return next(text for text in texts.values() if simple_number(text) == answer)


def test_a_vote_is_as_often_right_as_is_counted_from_the_records() -> None:
    counted = [slowly_counted(problem) for problem in problems()]
    right = sum(answer == solution for answer, solution in zip(counted, solutions(), strict=True))
    for extractor in (simple_number, final_number):
        texts = [winning_text(problem, extractor) for problem in problems()]
        voted_right = [
            simple_number(text) == solution for text, solution in zip(texts, solutions(), strict=True)
        ]
        # The best of the six has 91 alone: a majority of unequal models is no better than its best.
        assert sum(voted_right) == right == 70


def winning_text(problem: dict[str, Any], extractor: Callable[[str], str | None]) -> str:
    texts: dict[str, str] = problem["responses"]
    proposals = [Proposal(proposer=name, layer=1, text=text) for name, text in texts.items()]
    return texts[voted(proposals, extractor).chosen]
