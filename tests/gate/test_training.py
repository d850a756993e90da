"""What gates are made of: files of any models, missing answers, orders by cost; and what is refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.evaluating import baselines, evaluated, play
from llama_index.packs.mixture_of_agents.gate.order import groups_of, ordered
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.recorded import Sample, read_samples
from llama_index.packs.mixture_of_agents.gate.targets import Target
from llama_index.packs.mixture_of_agents.gate.training import LEAST, Recipe, cases_of, trained
from tests.gate.recorded_answers import asking, cases, proposals, samples, seats, written


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    some = samples(5, missing=0.3)
    assert read_samples(written(tmp_path / "a.jsonl", some)) == some


def test_numbers_for_answers_and_null_for_responses_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"question": "q", "answer": 42, "responses": {"a": null, "b": "42", "c": 4.5}}\n'
        '{"question": "q", "answer": "1", "responses": null, "id": null}\n',
        encoding="utf-8",
    )
    assert read_samples(path) == [
        Sample(id="1", question="q", answer="42", responses={"b": "42", "c": "4.5"}),
        Sample(id="2", question="q", answer="1"),
    ]


def test_files_of_other_systems_are_taken(tmp_path: Path) -> None:
    odd = [s.model_copy(update={"question": f"{s.question}\u2028\x85 \N{GRINNING FACE}"}) for s in samples(3)]
    lines = [json.dumps(sample.model_dump(), ensure_ascii=False) for sample in odd]
    path = tmp_path / "a.jsonl"
    path.write_bytes("\ufeff{}\r\n\r\n".format("\r\n".join(lines)).encode())
    assert read_samples(path) == odd


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("{", "line 1 is not of the form"),
        ("[]", "it is no object"),
        ('{"question": "q"}', "answer: Field required"),
        ('{"question": "q", "answer": "1", "responses": {"a": ["3"]}}', "responses.a"),
        ('{"question": "q", "answer": null}', "answer: Field required"),
        ('{"question": "q", "answer": true}', "answer: Input should be"),
    ],
)
def test_what_is_no_record_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said):
        read_samples(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_samples(tmp_path / "none.jsonl")


def test_a_right_answer_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="finds no answer"):
        cases_of([Sample(id="q1", question="q", answer="who knows")], Reader())


def test_too_few_questions_and_models_that_hardly_answer_are_refused() -> None:
    reader = Reader()
    with pytest.raises(ConfigurationError, match="There are 5 questions"):
        trained(cases_of(samples(5), reader), reader, Recipe())
    silent = [sample.model_copy(update={"responses": {}}) for sample in samples(30)]
    with pytest.raises(ConfigurationError, match="Nobody answered"):
        trained(cases_of(silent, reader), reader, Recipe())
    rare = [s.model_copy(update={"responses": {**s.responses, "rare": "1"}}) for s in samples(3)] + samples(
        60
    )
    with pytest.raises(ConfigurationError, match="rare answered fewer than 25"):
        trained(cases_of(rare, reader), reader, Recipe())


def test_a_model_whose_answers_say_nothing_is_lived_with() -> None:
    reader = Reader()
    mute = [s.model_copy(update={"responses": {**s.responses, "mute": ""}}) for s in samples(60)]
    made = trained(cases_of(mute, reader), reader, Recipe())
    assert made.models[0] == "mute"
    assert made.facts["accuracies"]["mute"] == 0.0


def test_missing_answers_are_learned_around() -> None:
    some, reader = cases(150, missing=0.2)
    made = trained(some, reader, Recipe())
    assert isinstance(made, CascadeGate)
    found = asyncio.run(evaluated(made, some, made.models, reader))
    assert found.lines[0].accuracy > 0.6
    for name in made.models:
        decision = asyncio.run(made.decide(asking("How many?"), seats(name), proposals(**{name: "#### 5"})))
        assert decision.ask == ()


def test_one_model_alone_makes_a_cascade_and_no_gate_that_chooses() -> None:
    reader = Reader()
    alone = cases_of(samples(40), reader, ["small"])
    made = trained(alone, reader, Recipe())
    assert isinstance(made, CascadeGate)
    assert made.groups == [("small",)]
    with pytest.raises(ConfigurationError, match="two models"):
        trained(alone, reader, Recipe("neighbours"))


def test_costs_put_models_in_order_where_all_are_known() -> None:
    some, _ = cases(40)
    costs = {"tiny": 0.03, "small": 0.002, "large": 0.001}
    order = ordered(some, ["tiny", "small", "large"], costs)
    assert (order.by, order.models) == ("cost", ("large", "small", "tiny"))
    partly = ordered(some, ["tiny", "small", "large"], {"tiny": 0.03})
    assert (partly.by, partly.models) == ("accuracy", ("tiny", "small", "large"))


def test_the_cheap_few_are_those_who_together_cost_a_quarter_of_the_dearest() -> None:
    some, _ = cases(40)
    names = ["tiny", "small", "large"]
    near = ordered(some, names, {"tiny": 0.1, "small": 0.9, "large": 1.0})
    assert groups_of(near) == [("tiny", "small"), ("large",)]
    assert groups_of(near, first=1) == [("tiny",), ("small",), ("large",)]
    assert groups_of(near, first=9) == [("tiny", "small"), ("large",)]


@pytest.mark.parametrize("costs", [{"huge": 1.0}, {"tiny": float("nan")}, {"tiny": -1.0}])
def test_costs_that_are_none_are_refused(costs: dict[str, float]) -> None:
    some, reader = cases(40)
    with pytest.raises(ConfigurationError, match="cost"):
        trained(some, reader, Recipe(costs=costs))


@pytest.mark.parametrize("recipe", [{"kind": "oracle"}, {"seed": -1}, {"top_k": 0}, {"embed": "minilm"}])
def test_recipes_that_mean_nothing_are_refused(recipe: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Recipe(**recipe)  # type: ignore[arg-type]


def test_a_played_gate_sees_only_whom_it_asked() -> None:
    some, reader = cases(120)
    made = trained(some, reader, Recipe())
    for case in some[:40]:
        played = asyncio.run(play(made, case, made.models, reader))
        hidden = [name for name in made.models if name not in played.asked]
        lies = {**case.sample.responses, **dict.fromkeys(hidden, "#### 123456")}
        (other,) = cases_of([case.sample.model_copy(update={"responses": lies})], reader)
        assert asyncio.run(play(made, other, made.models, reader)) == played


def test_an_evaluation_counts_as_one_does_by_hand() -> None:
    some, reader = cases(100)
    made = trained(some, reader, Recipe())
    costs = {"tiny": 0.001, "small": 0.002, "large": 0.1}
    found = asyncio.run(evaluated(made, some, made.models, reader, costs=costs, jury=made.jury))
    lines = {line.name: line for line in found.lines}
    best = lines["best single (large)"]
    assert best.accuracy == sum(case.is_right("large") for case in some) / 100
    assert best.share_of_dearest == 1.0
    assert best.cost_usd == pytest.approx(0.1)
    assert lines["oracle"].accuracy == sum(any(map(case.is_right, made.models)) for case in some) / 100
    gate = lines["gate"]
    assert gate.cost_usd == pytest.approx(0.003 + 0.1 * gate.share_of_dearest)
    assert best.lead == pytest.approx(gate.accuracy - best.accuracy)
    assert best.lead_interval[0] <= best.lead <= best.lead_interval[1]
    assert gate.interval[0] <= gate.accuracy <= gate.interval[1]


def test_the_fewest_questions_that_are_taken_are_enough_without_a_fold() -> None:
    reader = Reader()
    made = trained(cases_of(samples(LEAST), reader), reader, Recipe())
    assert isinstance(made, CascadeGate)
    assert made.facts["accuracy"] > 0.5
    with pytest.raises(ConfigurationError, match=f"needs {LEAST} at least"):
        trained(cases_of(samples(LEAST - 1), reader), reader, Recipe())


def test_no_calls_to_the_dearest_are_no_calls() -> None:
    some, reader = cases(60)
    made = trained(some, reader, Recipe(target=Target(share=0.0)))
    gate, *_ = asyncio.run(evaluated(made, some, made.models, reader)).lines
    assert (made.facts["share_of_dearest"], gate.share_of_dearest) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["cascade", "neighbours"])
def test_the_order_of_lines_changes_nothing(kind: str) -> None:
    some, reader = cases(70, missing=0.1)
    made, turned = (trained(these, reader, Recipe(kind)) for these in (some, some[::-1]))
    assert (made.facts, made.threshold) == (turned.facts, turned.threshold)  # type: ignore[union-attr]
    assert made.jury.as_json() == turned.jury.as_json()


def test_a_majority_is_as_good_whichever_model_is_the_dearest() -> None:
    some, reader = cases(120)
    accuracies = {"tiny": 0.4, "small": 0.5, "large": 0.9}
    names = ("tiny", "small", "large")
    found = [baselines(some, order, reader, accuracies)["majority"] for order in (names, names[::-1])]
    assert [one.right for one in found[0]] == [one.right for one in found[1]]
