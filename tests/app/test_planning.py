"""`moa plan`: what it prints, as a table and as JSON, what it refuses, and that it calls nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app import default_model
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.records.forecast import Forecast
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

pytestmark = pytest.mark.usefixtures("scripted_rows")

TWO = ("--models", "scripted:a", "scripted:b", "--aggregator", "scripted:judge")
HOSTED = ("--models", "openai:gpt-4o-mini", "--max-tokens", "300")


@pytest.fixture(autouse=True)
def _never_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*args: object, **kwargs: object) -> Path:
        pytest.fail("a plan prepared the default model")

    monkeypatch.setattr(default_model, "prepare", prepare)


def moa(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, words, input=text, catch_exceptions=False, env={"COLUMNS": "100"})


def told(*words: str) -> dict[str, Any]:
    result = moa(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_a_plan_is_a_table_of_stages_and_of_models() -> None:
    result = moa("plan", "Why?", *TWO)
    assert (result.exit_code, result.stderr) == (0, "")
    for words in ("round 1", "round 2", "answer", "tokens read", "in all", "unknown"):
        assert words in result.stdout
    assert "Longest chain: 3 calls one after another." in result.stdout
    assert "No price is known for ScriptedLLM(a), ScriptedLLM(b), ScriptedLLM(judge)." in result.stdout


def test_nobody_is_called_for_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_model = ScriptedLLM("an answer", model="a")
    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: scripted_model)
    result = moa("plan", "Why?", *TWO)
    assert (result.exit_code, result.stderr) == (0, "")
    assert scripted_model.calls == []


def test_a_plan_as_json_holds_everything_and_reads_back() -> None:
    document = told("plan", "Why?", *TWO, "--tokens-per-second", "50", "--answer-tokens", "100")
    forecast = Forecast.model_validate(document)
    assert [stage.calls for stage in forecast.stages] == [2, 2, 1]
    assert forecast.seconds == pytest.approx(3 * 100 / 50)
    assert forecast.usage.cost_usd is None


def test_a_plan_takes_what_asking_takes() -> None:
    document = told(
        "plan", *TWO, "--layer", "4", "--pass_on", "condensed", "--finish", "sequential", "--window", "2",
        "--user_prompt", "Why?", "--latency", "2",
    )  # fmt: skip
    assert [stage["name"] for stage in document["stages"]] == [
        "round 1", "condensing round 1", "round 2", "condensing round 2", "round 3", "answer",
    ]  # fmt: skip
    assert document["seconds"] == 12.0
    roles = told("plan", "Why?", *TWO, "--layer-strategy", "role")
    assert roles["stages"][0]["name"] == "roles for round 1"


def test_hosted_models_have_their_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    document = told("plan", "Why?", *HOSTED)
    assert 0 < document["usage"]["cost_usd"] < document["most_usd"] < 0.01
    assert "$0.00" in moa("plan", "Why?", *HOSTED).stdout


def test_a_budget_too_small_for_the_question_is_refused_behind_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    result = moa("plan", "Why?", *HOSTED, "--budget-usd", "0.00001")
    assert result.exit_code == 2
    assert "Set a budget of at least" in result.stderr
    assert "Longest chain" in result.stdout
    assert moa("plan", "Why?", *HOSTED, "--budget-usd", "0.01").exit_code == 0


def test_the_embedded_default_costs_nothing_and_is_not_prepared() -> None:
    document = told("plan", "Why?")
    assert document["usage"]["cost_usd"] == 0.0
    assert document["models"][0]["name"] == "SparseMoELLM(the embedded default)"
    assert [call["completion_tokens"] for call in document["calls"]] == [160] * 6 + [300]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", " "), "empty"),
        (("plan", "Why?", "--models", "nobody:x"), "nobody"),
        (("plan", "Why?", *TWO, "--answer-tokens", "0"), "whole number >= 1"),
        (("plan", "Why?", *TWO, "--latency", "-1"), "latencies"),
    ],
)
def test_what_cannot_work_is_refused(words: tuple[str, ...], said: str) -> None:
    result = moa(*words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_plan_needs_no_key() -> None:
    document = told("plan", "Why?", "--models", "gpt-4o", "mistral-small")
    assert document["usage"]["cost_usd"] > 0
