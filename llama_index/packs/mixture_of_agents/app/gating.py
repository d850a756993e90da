"""What `moa gate` does: gates trained from recorded answers, and measured on them.

It reads files, prints tables and JSON, and leaves learning to `gate`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.app.board import dollars, printable
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.app.tables import print_table
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.recorded import Sample, models_of, read_samples
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.gate.evaluating import Evaluation, Line
    from llama_index.packs.mixture_of_agents.gate.training import Recipe

_HEAD = ("", "accuracy", "95 % of it", "dearest asked", "cost", "gate leads by", "95 % of lead")


def train(
    path: Path, output: Path, recipe: Recipe, extract: str, answers: Path | None, as_json: bool
) -> None:
    """Make a gate and tell what to expect of it."""
    from llama_index.packs.mixture_of_agents.gate.readings import Reader
    from llama_index.packs.mixture_of_agents.gate.saved import embedding_named, save_gate
    from llama_index.packs.mixture_of_agents.gate.training import cases_of, trained

    reader = Reader(extract)
    embed_model = embedding_named(recipe.embed) if recipe.embed is not None else None
    cases = cases_of(samples_at(path, answers), reader)
    with _busy(f"learning of {len(cases)} questions"):
        gate = trained(cases, reader, recipe, embed_model)
    save_gate(gate, output)
    facts = {"gate": str(output), "kind": gate.name, "models": list(gate.models), **gate.facts}
    _print(json.dumps(facts, indent=2) if as_json else printable(_told(facts)))


def evaluate(
    path: Path, folder: Path, costs: Mapping[str, float], answers: Path | None, seed: int, as_json: bool
) -> None:
    """Play a gate on a file and print it beside what it has to beat."""
    evaluation = evaluation_of(path, folder, costs, answers, seed)
    if as_json:
        _print(evaluation.model_dump_json(indent=2))
        return
    gate, *rivals = evaluation.lines
    rows = [(*_columns(gate), "", ""), *((*_columns(line), *_lead(line)) for line in rivals)]
    _print_table(_HEAD, rows)
    asked = ", ".join(f"{name} {share:.1%}" for name, share in gate.calls.items())
    said = f"{evaluation.cases} questions; the dearest is {evaluation.dearest}; the gate asked {asked}"
    _print(printable(said))


def evaluation_of(
    path: Path, folder: Path, costs: Mapping[str, float], answers: Path | None = None, seed: int = 0
) -> Evaluation:
    """Measure a gate on a file.

    Raises:
        ConfigurationError: The file cannot be read, or holds answers of other models than the gate's.
    """
    from llama_index.packs.mixture_of_agents.gate.evaluating import evaluated
    from llama_index.packs.mixture_of_agents.gate.order import check_costs
    from llama_index.packs.mixture_of_agents.gate.readings import Reader
    from llama_index.packs.mixture_of_agents.gate.saved import read_gate
    from llama_index.packs.mixture_of_agents.gate.training import cases_of

    samples = samples_at(path, answers)
    gate = read_gate(folder)
    models = gate.models or tuple(models_of(samples))
    _check_models(models, samples, folder)
    check_costs(costs, models)
    jury, facts = getattr(gate, "jury", None), getattr(gate, "facts", {})
    reader = jury.reader if jury is not None else Reader()
    with _busy(f"asking the gate {len(samples)} questions"):
        return asyncio.run(
            evaluated(
                gate,
                cases_of(samples, reader, models),
                models,
                reader,
                costs={**facts.get("costs", {}), **costs},
                accuracies=facts.get("accuracies"),
                jury=jury,
                seed=seed,
            )
        )


def samples_at(path: Path, answers: Path | None = None) -> list[Sample]:
    """Recorded answers of a file; of a trace where right answers are given beside it.

    Args:
        path: JSONL of recorded answers, or a trace or a folder of traces.
        answers: For a trace: JSONL with `question` or `run` (a run's id) and `answer`.

    Raises:
        ConfigurationError: It is neither, or a trace without right answers.
    """
    if not _is_trace(path):
        if answers is not None:
            raise ConfigurationError(f"{path} holds right answers itself; leave --answers out.")
        return read_samples(path)
    if answers is None:
        raise ConfigurationError(
            f"{path} is a trace: it does not say which answers were right. Give them with --answers FILE, "
            'one JSON object a line: {"run": ID or "question": TEXT, "answer": RIGHT}.'
        )
    return samples_of(read_trace(path), right_answers(answers))


def samples_of(runs: Sequence[RunRecord], right: Mapping[str, str]) -> list[Sample]:
    """What the proposers of the first round said, of the runs whose right answer is known.

    Args:
        runs: Of traces.
        right: A run's id or its question -> the right answer.

    Raises:
        ConfigurationError: No run's right answer is known, or texts are left out of its trace.
    """
    hidden = [run.run_id for run in runs if run.started.redacted]
    if hidden:
        raise ConfigurationError(
            f"{len(hidden)} of {len(runs)} runs say nothing, {hidden[0]} among them: texts are left out of "
            "the trace. Leave such traces out."
        )
    samples = [
        Sample(id=run.run_id, question=run.question_text, answer=answer, responses=_first_round(run))
        for run in runs
        if (answer := right.get(run.run_id, right.get(run.question_text))) is not None
    ]
    if not samples:
        raise ConfigurationError(
            f"Of {len(runs)} runs none has a right answer. Name runs by their ids or by their whole question."
        )
    return samples


def _first_round(run: RunRecord) -> dict[str, str]:
    return {proposal.proposer: proposal.text for proposal in run.proposals(1)}


def right_answers(path: Path) -> dict[str, str]:
    """Right answers of a file, by run or question.

    Raises:
        ConfigurationError: It cannot be read, or a line is not of the form.
    """
    right = {}
    try:
        for line in path.read_text(encoding="utf-8-sig").split("\n"):
            if line.strip():
                found = json.loads(line)
                right[str(found.get("run") or found["question"])] = str(found["answer"])
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as right answers ({type(error).__name__}: {error}). Each line is "
            '{"run": ID or "question": TEXT, "answer": RIGHT}.'
        ) from error
    return right


@contextmanager
def _busy(doing: str) -> Iterator[None]:
    """Say on a terminal what is being done; thousands of questions take a minute."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(doing):
        yield


def _is_trace(path: Path) -> bool:
    if path.is_dir():
        return True
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = json.loads(next((line for line in file if line.strip()), "null"))
    except (OSError, ValueError, RecursionError):  # whoever reads it in earnest says what is wrong
        return False
    return isinstance(head, dict) and {"schema", "run", "kind"} <= set(head)


def _check_models(models: Sequence[str], samples: Sequence[Sample], folder: Path) -> None:
    answering = models_of(samples)
    if not set(models) & set(answering):
        raise ConfigurationError(
            f"The gate at {folder} was made for {', '.join(models)}; the file has answers of "
            f"{', '.join(answering) or 'nobody'}. Train a gate on answers of these: moa gate train."
        )
    others = [name for name in answering if name not in models]
    if others:
        note(f"the gate was not made for {', '.join(others)}: their answers are left out")
    silent = [name for name in models if name not in answering]
    if silent:
        note(f"{', '.join(silent)} answered nothing in this file: their calls count as failed")


def _told(facts: Mapping[str, Any]) -> str:
    return (
        f"{facts['gate']}: {facts['kind']}, made of {facts['cases']} questions; models by "
        f"{facts['order_by']}: {', '.join(facts['models'])}\n"
        f"expected of new questions, by cross-fitting: {facts['accuracy']:.1%} right, with "
        f"{facts['models'][-1]} asked for {facts['share_of_dearest']:.1%}\n"
        f"asking everyone would be right on {facts['accuracy_of_everyone']:.1%}: where that is right the "
        f"gate is wrong on {facts['loss']:.2%}, where that is wrong it is right on {facts['gain']:.2%}"
    )


def _columns(line: Line) -> tuple[str, ...]:
    return (
        line.name,
        f"{line.accuracy:.1%}",
        f"{100 * line.interval[0]:.1f} to {100 * line.interval[1]:.1f}%",
        f"{line.share_of_dearest:.1%}",
        "?" if line.cost_usd is None else dollars(line.cost_usd),
    )


def _lead(line: Line) -> tuple[str, str]:
    return (
        f"{100 * line.lead:+.1f}",
        f"{100 * line.lead_interval[0]:+.1f} to {100 * line.lead_interval[1]:+.1f}",
    )


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if sys.stdout.isatty():
        print_table(head, [[_cell(text) for text in row] for row in rows], {head[0]: 12})
        return
    _print("\n".join("\t".join(_cell(text) for text in row) for row in (head, *rows)))


def _cell(text: str) -> str:
    """A model's name may hold what would part cells or move a cursor."""
    return printable(text).replace("\t", " ").replace("\n", " ")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
