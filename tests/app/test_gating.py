"""`moa gate`: gates trained and measured from the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app import gating
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.gate.training import Recipe
from tests.gate.recorded_answers import samples, written

COSTS = ("--costs", "tiny=0.001", "--costs", "small=0.002", "--costs", "large=0.1")


def moa(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["gate", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return written(tmp_path / "answers.jsonl", samples(60))


def test_each_model_has_a_cost_of_its_own(answers: Path) -> None:
    made = moa("train", answers, "-o", "gate", *COSTS, "--json")
    assert made.exit_code == 0, made.stderr
    facts = json.loads(made.stdout)
    assert (facts["order_by"], facts["costs"]) == ("cost", {"tiny": 0.001, "small": 0.002, "large": 0.1})
    measured = moa("eval", answers, "--gate", "gate", "--costs", "tiny=0.004", "small=0.002", "--json")
    assert measured.exit_code == 0, measured.stderr
    gate, *_ = json.loads(measured.stdout)["lines"]
    assert gate["cost_usd"] == pytest.approx(0.006 + 0.1 * gate["share_of_dearest"])


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ("huge=1", "cost for 'huge'"),
        ("tiny=nan", "found nan"),
        ("tiny=-1", "found -1"),
        ("tiny", "MODEL=USD"),
    ],
)
def test_costs_that_are_none_are_refused_by_both(cost: str, said: str, answers: Path) -> None:
    assert moa("train", answers, "-o", "gate").exit_code == 0
    for words in (("train", answers, "-o", "other"), ("eval", answers, "--gate", "gate")):
        refused = moa(*words, "--costs", cost)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert said in refused.stderr
    assert not Path("other").exists()


def test_a_terminal_is_told_what_takes_long_and_a_pipe_is_not(
    answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert moa("train", answers, "-o", "gate").stderr == ""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    gating.train(answers, Path("gate"), Recipe(), "number", None, as_json=True)
    assert "learning of 60 questions" in screen.getvalue()


def test_the_table_is_for_people_and_pipes_and_json_for_programs(answers: Path) -> None:
    moa("train", answers, "-o", "gate")
    table = moa("eval", answers, "--gate", "gate").stdout.splitlines()
    names = [row.split("\t")[0] for row in table[1:-1]]
    for wanted in ("gate", "best single (large)", "majority", "weighted vote", "oracle"):
        assert wanted in names
    assert {len(row.split("\t")) for row in table[:-1]} == {7}
    assert table[-1].startswith("60 questions; the dearest is large; the gate asked tiny 100.0%")
    found = json.loads(moa("eval", answers, "--gate", "gate", "--json").stdout)
    assert [line["name"] for line in found["lines"]] == names
    assert all(line["interval"][0] <= line["accuracy"] <= line["interval"][1] for line in found["lines"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{}\n", "line 1 is not of the form"),
        ('{"question": "q", "answer": "?"}\n', "no answer"),
    ],
)
def test_files_that_cannot_be_learned_from_are_refused(text: str, said: str) -> None:
    Path("bad.jsonl").write_text(text, encoding="utf-8")
    refused = moa("train", "bad.jsonl", "-o", "gate")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert not Path("gate").exists()


def test_right_answers_of_a_trace_may_hold_any_character(tmp_path: Path) -> None:
    file = tmp_path / "right.jsonl"
    file.write_text('\ufeff{"question": "a\u2028b", "answer": 3}\n', encoding="utf-8")
    assert gating.right_answers(file) == {"a\u2028b": "3"}


def test_names_of_models_move_no_cursor_and_part_no_cells(tmp_path: Path) -> None:
    odd = "lar\tge\x1b[2J\nx"
    some = [
        s.model_copy(update={"responses": {name.replace("large", odd): t for name, t in s.responses.items()}})
        for s in samples(40)
    ]
    answers = written(tmp_path / "odd.jsonl", some)
    made = moa("train", answers, "-o", "gate")
    table = moa("eval", answers, "--gate", "gate")
    assert (made.exit_code, table.exit_code) == (0, 0)
    assert "\x1b" not in made.stdout + table.stdout
    assert "best single (lar ge[2J x)" in {row.split("\t")[0] for row in table.stdout.splitlines()}
