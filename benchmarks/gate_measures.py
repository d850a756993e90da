"""What a gate is worth on recorded answers, cross-validated: a table, and a plot of accuracy against calls.

python -m benchmarks.gate_measures FILE.jsonl [--repeats 5] [--folds 5] [-o docs/gate_pareto.svg]

FILE is of the form that `moa gate train` takes. Each fold's gate is trained on the other folds alone, with
its thresholds and scales; then it is played on the fold. A question's outcome is the mean over repeats, so
intervals over questions are not narrowed by repeating. The spread is over repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate_plot import draw
from llama_index.packs.mixture_of_agents.gate.ballots import Case
from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.cascade_training import cascade_of, staged_by, stages_of
from llama_index.packs.mixture_of_agents.gate.evaluating import Played, baselines, play
from llama_index.packs.mixture_of_agents.gate.folds import parted
from llama_index.packs.mixture_of_agents.gate.order import groups_of, ordered
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.recorded import models_of, read_samples
from llama_index.packs.mixture_of_agents.gate.risk import paired_interval
from llama_index.packs.mixture_of_agents.gate.targets import Target
from llama_index.packs.mixture_of_agents.gate.training import Recipe, cases_of, trained

RESULTS = Path(__file__).parent / "results" / "gate.json"
PLOT = Path("docs") / "gate_pareto.svg"
SHARES = (0.3, 0.4, 0.6, 0.7, 0.8)
BOUNDS = (0.005, 0.01, 0.03)
HALF = Target(share=0.5)
RECIPES: Mapping[str, Recipe] = {
    "neighbours, the question alone": Recipe("neighbours", HALF),
    "learned gate (network), the question alone": Recipe("network", HALF),
    "gate + cascade + weighted vote": Recipe("gated", HALF),
}
CASCADES: Mapping[str, Target] = {
    "cascade": HALF,
    **{f"cascade, at most {share:.0%}": Target(share=share) for share in SHARES},
    **{f"cascade, loss at most {bound:.1%}": Target(bound=bound) for bound in BOUNDS},
}


@dataclass(frozen=True)
class Measured:
    """One way to answer, over all repeats.

    Attributes:
        right: A row a repeat, a column a question: whether the answer was right.
        dear: In the same form, whether the dearest model was asked.
    """

    right: Any
    dear: Any


def measured(cases: Sequence[Case], reader: Reader, repeats: int, folds: int) -> dict[str, Measured]:
    """Every recipe and every baseline, each question judged by gates that did not see it."""
    questions = [case.sample.question for case in cases]
    rows: dict[str, list[dict[int, Played]]] = {}
    for repeat in range(repeats):
        this: dict[str, dict[int, Played]] = {}
        for learning, held_out in parted(questions, 1_000 + repeat, folds):
            found = _fold([cases[p] for p in learning], [cases[p] for p in held_out], reader, repeat)
            for name, played in found.items():
                this.setdefault(name, {}).update(zip(held_out, played, strict=True))
        for name, by_place in this.items():
            rows.setdefault(name, []).append(by_place)
        print(f"repeat {repeat + 1} of {repeats} done", flush=True)
    dearest = _dearest(cases, reader)
    return {name: _collected(each, len(cases), dearest) for name, each in rows.items()}


def _fold(
    learning: Sequence[Case], held_out: Sequence[Case], reader: Reader, seed: int
) -> dict[str, list[Played]]:
    cascades = _cascades(learning, reader, seed)
    any_cascade = cascades["cascade"]
    models = any_cascade.models
    gates = {name: trained(learning, reader, replace(recipe, seed=seed)) for name, recipe in RECIPES.items()}
    found = baselines(held_out, models, reader, any_cascade.accuracies, any_cascade.jury)
    for name, gate in {**gates, **cascades}.items():
        found[name] = [asyncio.run(play(gate, case, models, reader)) for case in held_out]
    return found


def _cascades(learning: Sequence[Case], reader: Reader, seed: int) -> dict[str, CascadeGate]:
    """As `train_cascade` makes them, one for each target, the juries made once."""
    order = ordered(learning, models_of(case.sample for case in learning), {})
    groups = groups_of(order)
    staged = staged_by(learning, stages_of(groups), reader, seed)
    gate = cascade_of(learning, order, groups, staged, 0.0, reader, {})
    return {name: replace(gate, threshold=staged.threshold(target)) for name, target in CASCADES.items()}


def _dearest(cases: Sequence[Case], reader: Reader) -> str:
    names = {name for case in cases for name in case.sample.responses}
    return max(sorted(names), key=lambda name: sum(case.is_right(name) for case in cases))


def _collected(rows: Sequence[Mapping[int, Played]], count: int, dearest: str) -> Measured:
    right = [[row[place].right for place in range(count)] for row in rows]
    dear = [[dearest in row[place].asked for place in range(count)] for row in rows]
    return Measured(np.array(right, dtype=float), np.array(dear, dtype=float))


def figures(found: Mapping[str, Measured], best: str) -> list[dict[str, Any]]:
    """Each way as plain numbers, differences against the best single model."""
    base = found[best].right.mean(axis=0)
    return [_figure(name, one, base) for name, one in found.items()]


def _figure(name: str, one: Measured, base: Any) -> dict[str, Any]:
    right = one.right.mean(axis=0)
    low, high = (right.mean() + edge for edge in paired_interval(right - right.mean()))
    return {
        "name": name,
        "accuracy": float(right.mean()),
        "interval": [float(low), float(high)],
        "spread": float(one.right.mean(axis=1).std()),
        "dearest": float(one.dear.mean()),
        "dearest_spread": float(one.dear.mean(axis=1).std()),
        "lead": float((right - base).mean()),
        "lead_interval": list(paired_interval(right - base)),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures in Markdown."""
    titles = ("", "accuracy", "95 %", "spread", "dearest asked", "against best single", "95 %")
    head = f"| {' | '.join(titles)} |\n|---|{'--:|' * (len(titles) - 1)}"
    lines = [
        f"| {row['name']} | {row['accuracy']:.1%} | {row['interval'][0]:.1%} to {row['interval'][1]:.1%} "
        f"| {row['spread']:.1%} | {row['dearest']:.1%} | {100 * row['lead']:+.1f} "
        f"| {100 * row['lead_interval'][0]:+.1f} to {100 * row['lead_interval'][1]:+.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=PLOT)
    given = parser.parse_args()
    reader = Reader("number")
    cases = cases_of(read_samples(given.file), reader)
    found = measured(cases, reader, given.repeats, given.folds)
    best = next(name for name in found if name.startswith("best single ("))
    rows = figures(found, best)
    print(table(rows))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    draw(rows, given.output)
    print(f"\nWritten to {RESULTS} and {given.output}")


if __name__ == "__main__":
    main()
