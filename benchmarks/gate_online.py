"""What learning online does to a gate, on recorded answers in their order, the right one told after each.

python -m benchmarks.gate_online TRAIN.jsonl TEST.jsonl

Twice: with the answers as they were recorded, and with those of all but the dearest model swapped for answers
to other questions, as if these models had broken after training.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from llama_index.packs.mixture_of_agents.gate.ballots import Case, Panel
from llama_index.packs.mixture_of_agents.gate.evaluating import play
from llama_index.packs.mixture_of_agents.gate.online import OnlineGate
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.recorded import read_samples
from llama_index.packs.mixture_of_agents.gate.training import Recipe, cases_of, trained
from llama_index.packs.mixture_of_agents.results import MixtureResponse, Proposal

_AWAY = 7
"""From how many questions further on a broken model's answer comes."""


def broken(cases: Sequence[Case], reader: Reader, dearest: str) -> list[Case]:
    """The same questions, where all but the dearest answer something else."""
    return [
        _with_others(case, cases[(place + _AWAY) % len(cases)], reader, dearest)
        for place, case in enumerate(cases)
    ]


def _with_others(case: Case, other: Case, reader: Reader, dearest: str) -> Case:
    own, others = case.sample.responses, other.sample.responses
    responses = {name: text if name == dearest else others.get(name, "") for name, text in own.items()}
    return Case(case.sample.model_copy(update={"responses": responses}), reader, case.truth)


def streamed(
    gate: OnlineGate, models: Panel, cases: Sequence[Case], reader: Reader, tells: bool
) -> tuple[float, float]:
    """The share answered right, and the share the dearest was asked.

    Args:
        gate: The gate.
        models: Who may be asked, the dearest last.
        cases: In their order.
        reader: What an answer is.
        tells: Tell the right answer after each question.
    """
    right = dear = 0
    for place, case in enumerate(cases):
        played = asyncio.run(play(gate, case, models, reader))
        right, dear = right + played.right, dear + (models[-1] in played.asked)
        if tells:
            given = case.sample.responses
            heard = [Proposal(proposer=n, layer=1, text=given[n]) for n in played.asked if n in given]
            response = MixtureResponse(text="", proposals=heard, run_id=str(place))
            gate.feedback(response, answer=case.truth, question=case.sample.question)
    return right / len(cases), dear / len(cases)


def compared(learning: Path, playing: Path) -> list[tuple[str, float, float]]:
    """Each way: what it is, the share answered right, the share the dearest was asked."""
    reader = Reader("number")
    gate = trained(cases_of(read_samples(learning), reader), reader, Recipe())
    cases = cases_of(read_samples(playing), reader, gate.models)
    streams = {"as recorded": cases, "cheap models broken": broken(cases, reader, gate.models[-1])}
    return [
        (f"{what}, {way}", *streamed(OnlineGate(gate), gate.models, stream, reader, way == "told"))
        for what, stream in streams.items()
        for way in ("not told", "told")
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    given = parser.parse_args()
    for what, right, dear in compared(given.train, given.test):
        print(f"{what}: {right:.1%} right, the dearest asked for {dear:.1%}")


if __name__ == "__main__":
    main()
