"""`moa gate`: gates trained and measured from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app.commands import app
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
