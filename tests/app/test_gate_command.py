"""A gate from recorded answers to a question asked with it, all from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.app.ordering import Order, pack_for
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.app.conftest import Program
from tests.gate.recorded_answers import samples, written

pytestmark = pytest.mark.usefixtures("scripted_rows")

MODELS = ("--models", "scripted:tiny", "scripted:small", "scripted:large", "--aggregator", "scripted:judge")
PROPOSERS = 'proposers = ["scripted:tiny", "scripted:small", "scripted:large"]\n'
GATED = (*MODELS, "--gate", "gate", "--layers", "2", "--finish", "vote")
QUESTION = "A shop sells 2, 3 pens on its days. How many pens in all?"
COSTS = ("--costs", "tiny=0.001", "--costs", "small=0.002", "--costs", "large=0.1")


def moa(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, words, input=text, catch_exceptions=False, env={"COLUMNS": "120"})


@pytest.fixture
def gate() -> Path:
    """A cascade in the folder "gate", made by the command."""
    file = written(Path("answers.jsonl"), samples(120))
    made = moa("gate", "train", str(file), "-o", "gate", "--share", "0.6", *COSTS)
    assert made.exit_code == 0, made.stderr
    assert "cascade, made of 120 questions" in made.stdout
    return Path("gate")


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> dict[str, ScriptedLLM]:
    """What each model answers: small and tiny agree."""
    texts = {"tiny": "2 + 3 = 5.\n#### 5", "small": "2 + 3 = 5.\n#### 5", "large": "#### 5", "judge": "five"}
    models = {name: ScriptedLLM(text, model=name) for name, text in texts.items()}
    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: models[model])
    return models


def answer_of(*words: str) -> dict[str, Any]:
    result = moa(*words, "--json", "--no-trace", "--quiet")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.usefixtures("gate")
def test_where_the_cheap_agree_the_dearest_is_not_asked(says: dict[str, ScriptedLLM]) -> None:
    response = answer_of("ask", QUESTION, *GATED)
    assert response["text"].endswith("#### 5")
    assert [routing["asked"] for routing in response["routed"]] == [["tiny", "small"], []]
    assert response["routed"][1]["confidence"] > 0.8
    assert {name: len(model.calls) for name, model in says.items()} == {
        "tiny": 1, "small": 1, "large": 0, "judge": 0,
    }  # fmt: skip


@pytest.mark.usefixtures("gate")
def test_where_they_differ_it_is(says: dict[str, ScriptedLLM]) -> None:
    says |= {name: ScriptedLLM(f"#### {n}", model=name) for n, name in ((9, "tiny"), (7, "small"))}
    response = answer_of("ask", QUESTION, *GATED)
    assert [routing["asked"] for routing in response["routed"]] == [["tiny", "small"], ["large"]]


@pytest.mark.usefixtures("gate", "says")
def test_progress_in_lines_tells_whom_the_gate_asks() -> None:
    told = moa("ask", QUESTION, *GATED, "--no-trace", "--progress").stderr
    assert "The gate asks tiny, small: nobody has answered yet" in told
    assert "The gate asks nobody more: 5 is right with probability" in told


def test_a_gate_for_other_models_is_refused_before_any_call(gate: Path, says: dict[str, ScriptedLLM]) -> None:
    words = ("--models", "scripted:tiny", "scripted:judge", "--gate", str(gate))
    for command in (("ask", "Why?"), ("chat",), ("plan", "Why?")):
        refused = moa(*command, *words)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "made for tiny, small, large; it knows nothing of judge" in refused.stderr
    assert not any(model.calls for model in says.values())


@pytest.mark.usefixtures("says")
def test_a_folder_without_a_gate_is_refused_with_the_command_that_makes_one() -> None:
    refused = moa("ask", "Why?", *MODELS, "--gate", "nowhere")
    assert refused.exit_code == 2
    assert "moa gate train FILE -o nowhere" in refused.stderr


@pytest.mark.usefixtures("says")
def test_a_gate_ordered_wins_over_that_of_a_file(gate: Path) -> None:
    Path("moa.toml").write_text(
        f'{PROPOSERS}num_layers = 2\nfinish = "vote"\ngate = "nowhere"\n',
        encoding="utf-8",
    )
    assert moa("ask", QUESTION, "--config", "moa.toml").exit_code == 2
    response = answer_of("ask", QUESTION, "--config", "moa.toml", "--gate", str(gate))
    assert response["routed"][0]["asked"] == ["tiny", "small"]


@pytest.mark.usefixtures("gate", "says")
def test_a_batch_tells_of_each_row_whom_it_asked() -> None:
    Path("rows.txt").write_text(f"{QUESTION}\n{QUESTION}\n", encoding="utf-8")
    done = moa("batch", "rows.txt", "-o", "out.jsonl", *GATED, "--no-trace", "--quiet")
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["routed"][0]["asked"] for row in rows] == [["tiny", "small"]] * 2


@pytest.mark.usefixtures("gate", "says")
def test_a_chat_asks_by_the_gate_too() -> None:
    done = moa("chat", *GATED, "--no-trace", "--progress", text=f"{QUESTION}\n/proposals\n")
    assert done.exit_code == 0, done.stderr
    assert "The gate asks tiny, small" in done.stderr
    assert "large (" not in done.stdout


@pytest.mark.usefixtures("gate", "says")
def test_a_plan_says_what_the_most_and_the_least_is() -> None:
    told = moa("plan", QUESTION, *GATED).stdout
    assert "Longest chain: 2 calls one after another" in told
    assert "With the gate (cascade) this is the most" in told
    assert "At least, where those it asks first (tiny, small) are enough: 2 calls" in told
    assert "Training on 120 questions expects large to be asked for" in told
    assert "Calls are exact" not in told
    document = json.loads(moa("plan", QUESTION, *GATED, "--json").stdout)
    assert len(document["calls"]) == 3
    assert (document["gate"]["least_calls"], document["gate"]["steps"], document["chain"]) == (2, 2, 2)
    assert 0 < document["gate"]["share_of_dearest"] < 1


@pytest.mark.usefixtures("says")
def test_a_plan_without_a_gate_says_nothing_of_one() -> None:
    assert "gate" not in moa("plan", QUESTION, *MODELS).stdout
    assert "gate" not in json.loads(moa("plan", QUESTION, *MODELS, "--json").stdout)


def test_help_teaches_it() -> None:
    for command in ("ask", "chat", "batch", "plan"):
        assert "--gate" in moa(command, "--help").stdout


def test_as_a_program(moa: Program, tmp_path: Path) -> None:
    file = written(tmp_path / "answers.jsonl", samples(60))
    made = moa("gate", "train", str(file), "-o", "gate")
    assert (made.returncode, made.stderr) == (0, "")
    measured = moa("gate", "eval", str(file), "--gate", "gate")
    assert (measured.returncode, measured.stderr) == (0, "")
    head, gate, rival, *_ = measured.stdout.split("\n")
    assert head == "\taccuracy\t95 % of it\tdearest asked\tcost\tgate leads by\t95 % of lead"
    assert gate.endswith("\t\t")  # it does not lead itself
    assert " to " in rival.split("\t")[-1]
    asked = moa("ask", QUESTION, *GATED, "--progress")
    assert (asked.returncode, asked.stdout) == (0, "answer of tiny\n")
    assert "The gate asks large" in asked.stderr


def learned() -> dict[str, Any]:
    told = moa("gate", "learned", "gate", "--json")
    assert told.exit_code == 0, told.stderr
    return {row["about"]: (row["judged"], row["right"]) for row in json.loads(told.stdout)}


@pytest.mark.usefixtures("gate", "says")
def test_feedback_on_a_run_is_learned_and_reckoned_with_where_it_is_asked_for() -> None:
    assert moa("gate", "learned", "gate").stdout == "nothing yet\n"
    assert moa("gate", "learned", "gate", "--reset").stdout == "0 outcomes forgotten\n"
    assert answer_of("ask", QUESTION, *GATED, "--online")["routed"][0]["asked"] == ["tiny", "small"]
    assert not Path("gate", "outcomes.sqlite").exists()  # to look is not to write
    before = moa("plan", QUESTION, *GATED).stdout
    for _ in range(2):
        assert moa("ask", QUESTION, *GATED, "--quiet").exit_code == 0
    told = moa("gate", "feedback", "--gate", "gate", "--answer", "#### 9")
    assert (told.exit_code, told.stderr) == (0, "")
    assert [line.partition(",")[0] for line in told.stdout.splitlines()] == [
        "tiny: wrong", "small: wrong", "the vote after group 1: wrong",
    ]  # fmt: skip
    assert moa("gate", "feedback", "--gate", "gate", "--right").exit_code == 0  # a later word on the same run
    assert learned() == {"tiny": (1, 1), "small": (1, 1), "the vote after group 1": (1, 1)}
    assert "small\t1\t100.0%" in moa("gate", "learned", "gate").stdout
    assert answer_of("ask", QUESTION, *GATED, "--online")["routed"][0]["asked"] == ["tiny", "small"]
    assert moa("plan", QUESTION, *GATED).stdout == before
    assert "With the gate (cascade) this is the most" in moa("plan", QUESTION, *GATED, "--online").stdout
    assert moa("gate", "learned", "gate", "--reset").stdout == "3 outcomes forgotten\n"
    assert learned() == {}


@pytest.mark.usefixtures("gate", "says")
def test_feedback_that_says_nothing_or_two_things_is_refused() -> None:
    moa("ask", QUESTION, *GATED, "--quiet")
    for words in ((), ("--right", "--answer", "5")):
        refused = moa("gate", "feedback", "--gate", "gate", *words)
        assert refused.exit_code == 2
        assert "Say one of --right, --wrong and --answer TEXT" in refused.stderr
    assert moa("gate", "feedback", "nosuch", "--gate", "gate", "--right").exit_code == 2
    assert moa("ask", QUESTION, *MODELS, "--online").stderr.startswith("moa: --online belongs to --gate")
    moa("ask", QUESTION, "--models", "scripted:judge", "--quiet")
    stranger = moa("gate", "feedback", "--gate", "gate", "--answer", "5")
    assert "it knows nothing of judge" in stranger.stderr


@pytest.mark.usefixtures("gate", "says")
def test_texts_left_out_of_a_trace_are_not_taken_for_answers() -> None:
    moa("ask", QUESTION, *GATED, "--quiet", "--redact")
    told = moa("gate", "feedback", "--gate", "gate", "--answer", "5")
    assert told.exit_code == 2
    assert "texts are left out of its trace" in told.stderr
    assert learned() == {}
    Path("right.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "5"}), encoding="utf-8")
    run = json.loads(moa("trace", "ls", "--json").stdout)[0]["run"]
    Path("right.jsonl").write_text(json.dumps({"run": run, "answer": "5"}), encoding="utf-8")
    made = moa("gate", "train", "logs/moa", "--answers", "right.jsonl", "-o", "other")
    assert made.exit_code == 2
    assert "texts are left out of the trace" in made.stderr


@pytest.mark.usefixtures("says")
def test_limits_of_a_file_hold_with_a_gate_and_for_the_embedded_default(gate: Path) -> None:
    Path("moa.toml").write_text(
        f'{PROPOSERS}aggregator = "scripted:judge"\n'
        f'num_layers = 2\nfinish = "vote"\ngate = "{gate}"\nmax_retries = 0\n'
        "[limits.tiny]\nrequests_per_minute = 1\n",
        encoding="utf-8",
    )
    assert "With the gate (cascade) this is the most" in moa("plan", QUESTION, "--config", "moa.toml").stdout
    Path("rows.txt").write_text(f"{QUESTION}\n{QUESTION}\n", encoding="utf-8")
    batch = ("batch", "rows.txt", "-o", "out.jsonl", "--concurrency", "1", "--config", "moa.toml")
    done = moa(*batch, "--no-trace", "--quiet")
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["routed"][0]["asked"] for row in rows] == [["tiny", "small"], ["small", "large"]]
    assert "tiny has no room" in rows[1]["routed"][0]["reason"]
    Path("moa.toml").write_text("[limits.expert]\nin_flight = 1\n", encoding="utf-8")
    pack = pack_for(Order(config="moa.toml"), prepares=False)
    assert any(isinstance(policy, Capacity) for policy in pack.workflow.mixture.policies)
