"""`moa trace` and `moa replay` in this process: what they print of recorded runs, and what they refuse."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.agents import Crew, Member
from llama_index.packs.mixture_of_agents.agreement import Agreement
from llama_index.packs.mixture_of_agents.app import traces
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.records.traces.stats import percentile, stats_of
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.app.scripted_provider import scripted

pytestmark = pytest.mark.usefixtures("scripted_rows")


@pytest.fixture(autouse=True)
def _traces_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOA_TRACE_DIR", str(tmp_path))


def moa(*words: str) -> Result:
    return CliRunner().invoke(app, words, catch_exceptions=False)


def run_once(folder: Path, question: str = "Why?", **options: Any) -> str:
    """One proposer answers, one is down; and the run's id."""
    down = ScriptedLLM(lambda messages: ValueError("out of order"), model="down")
    settings = {"num_layers": 2, "trace": Trace(folder=folder), **options}
    return MixtureOfAgentsPack(scripted("judge"), [scripted("a"), down], **settings).run(question).run_id


def test_runs_are_listed_with_tabs_between_columns(tmp_path: Path) -> None:
    ids = [run_once(tmp_path, "First\tquestion\nof two lines?"), run_once(tmp_path, "word " * 50)]
    done = moa("trace", "ls")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[1:6] for row in rows] == [[run_id, "degraded", "2", "3", "?"] for run_id in ids]
    assert rows[0][6] == "First question of two lines?"
    assert len(rows[1][6]) < 70
    assert done.exit_code == 0


def test_a_list_as_json_has_the_whole_question(tmp_path: Path) -> None:
    run_id = run_once(tmp_path, "word " * 50)
    (row,) = json.loads(moa("trace", "ls", str(tmp_path), "--json").stdout)
    assert (row["run"], row["question"], row["calls"], row["cost_usd"]) == (run_id, "word " * 50, 3, None)


def test_a_run_is_told_from_question_to_answer(tmp_path: Path) -> None:
    run_id = run_once(tmp_path)
    text = moa("trace", "show", run_id[:6]).stdout
    said = ["degraded", "[user] Why?", "round 1", "answer of a", "missing: ValueError: out of order"]
    said += ["\nfinish\n", "writes the answer", "answer of judge"]
    places = [text.index(words) for words in said]
    assert places == sorted(places)


def test_votes_agreement_and_roles_are_told(tmp_path: Path) -> None:
    said = {"a": 4, "b": 4, "c": 1}
    models = [ScriptedLLM(f"The answer is {number}", model=name) for name, number in said.items()]
    pack = MixtureOfAgentsPack(
        scripted("judge"),
        models,
        3,
        finish="vote",
        strategy="role",
        stop_early=Agreement(share=0.6),
        trace=Trace(folder=tmp_path),
    )
    pack.run("2+2?")
    text = moa("trace", "show").stdout
    assert "chosen: a" in text
    assert "  2 for 4: a, b" in text
    assert "  1 for 1: c" in text
    assert "the remaining rounds were skipped: 2 of 3" in text
    assert "roles from round 1 on (fixed ones, as none could be written)" in text
    assert "1 runs; the winner has 67% of the proposals on average; 0 ties" in moa("trace", "stats").stdout


def test_without_a_name_the_newest_run_is_told(tmp_path: Path) -> None:
    run_once(tmp_path, "First?")
    run_once(tmp_path, "Second?")
    assert "[user] Second?" in moa("trace", "show").stdout


def test_a_run_as_json_is_whole(tmp_path: Path) -> None:
    run_id = run_once(tmp_path)
    told = json.loads(moa("trace", "show", run_id, "--json").stdout)
    assert told["calls"][0]["outcome"]["text"] == "answer of a"
    assert told["calls"][0]["messages"][0]["role"] == "user"
    assert told["mixture"]["aggregator"]["name"] == "judge"
    assert told["ended"]["text"] == "answer of judge"


def test_an_unfinished_run_is_told_as_far_as_it_went(tmp_path: Path) -> None:
    run_once(tmp_path)
    (path,) = tmp_path.glob("*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + lines[-2][:30])
    done = moa("trace", "show")
    assert "had no answer when the run ended" in done.stdout
    assert "the run has no end: it was killed, or goes on still" in done.stdout
    assert "was cut or damaged" in done.stderr
    assert done.exit_code == 0


def test_many_runs_are_counted_by_model(tmp_path: Path) -> None:
    for _ in range(3):
        run_once(tmp_path)
    head, a, down, judge, everyone, runs = moa("trace", "stats").stdout.splitlines()
    assert head.split("\t")[:3] == ["model", "calls", "failed"]
    assert a.split("\t")[:5] == ["ScriptedLLM(a)", "3", "0", "0", "0"]
    assert down.split("\t")[:3] == ["ScriptedLLM(down)", "3", "3"]
    assert judge.split("\t")[7] == "3 unknown"
    assert everyone.split("\t")[1:3] == ["9", "3"]
    assert runs == "runs: 3 (3 degraded)"
    assert json.loads(moa("trace", "stats", "--json").stdout)["all"]["calls"] == 9


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([], 50, None), ([3.0], 50, 3.0), ([1.0, 2.0, 3.0, 4.0], 50, 2.0), (list(range(1, 101)), 95, 95)],
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, found: float | None) -> None:
    assert percentile(values, share) == found


def test_known_prices_are_added_and_unknown_ones_counted(tmp_path: Path) -> None:
    prices = {"a": {"input": 1000.0, "output": 1000.0}}
    run_once(tmp_path, trace=Trace(tmp_path / "t.jsonl"), prices=prices)
    stats = stats_of(read_trace(tmp_path / "t.jsonl"))
    priced = next(model for model in stats.models if model.model == "ScriptedLLM(a)")
    assert priced.cost_usd > 0
    assert (priced.unpriced, stats.all.unpriced) == (0, 1)
    assert stats.all.cost_usd == priced.cost_usd


def test_a_terminal_gets_tables_and_no_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    run_once(tmp_path, "Why \x1b[31m red \x1b]0;title\x07?")
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    traces.list_runs(None, as_json=False)
    traces.show_run(None, None, as_json=False)
    traces.show_stats(None, as_json=False)
    text = screen.getvalue()
    assert "\x07" not in text
    assert "\x1b]0" not in text
    assert "question" in text
    assert "ScriptedLLM(judge)" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trace", "ls"), "no traces"),
        (("trace", "ls", "nowhere"), "There is no trace at nowhere"),
        (("trace", "show", "zzz"), "no traces"),
        (("trace", "stats", "nowhere.jsonl"), "There is no trace"),
        (("replay", "nowhere/t.jsonl"), "There is no trace"),
    ],
)
def test_what_is_not_there_is_refused(words: tuple[str, ...], said: str) -> None:
    done = moa(*words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_replay_prints_the_answer_and_counts_calls(tmp_path: Path) -> None:
    run_id = run_once(tmp_path)
    done = moa("replay", run_id[:8])
    assert (done.stdout, done.exit_code) == ("answer of judge\n", 0)
    assert f"replay of {run_id}: 3 from the record, 0 went out\n" in done.stderr
    assert "Missing: down" in done.stderr


def test_a_replay_with_another_aggregator_asks_it_alone(tmp_path: Path) -> None:
    run_once(tmp_path)
    (path,) = map(str, tmp_path.glob("*.jsonl"))
    done = moa("replay", path, "--swap", "aggregator=scripted:other")
    assert done.stdout == "answer of other\n"
    assert "2 from the record, 1 went out (price not known)" in done.stderr


def test_a_replay_may_change_and_leave_out_several(tmp_path: Path) -> None:
    models = [ScriptedLLM("said", model=name) for name in "abcd"]
    MixtureOfAgentsPack(models[0], models, 2, trace=tmp_path / "runs.jsonl").run("Why?")
    words = ("--swap", "a=scripted:x", "--swap", "aggregator=scripted:y", "--drop", "b", "--drop", "c")
    done = moa("replay", str(tmp_path / "runs.jsonl"), *words)
    assert (done.stdout, done.exit_code) == ("answer of y\n", 0)
    assert "1 from the record, 2 went out" in done.stderr


def test_a_replay_with_another_question_makes_the_models_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_once(tmp_path)
    (path,) = map(str, tmp_path.glob("*.jsonl"))
    (tmp_path / "new.txt").write_text("What else?")
    made: list[str] = []

    def model_like(identity: Any, config: Any) -> ScriptedLLM:
        made.append(identity.model)
        return scripted(identity.model)

    monkeypatch.setattr("llama_index.packs.mixture_of_agents.app.replaying.model_like", model_like)
    done = moa("replay", path, "--prompt", str(tmp_path / "new.txt"), "--drop", "down", "--json")
    assert [proposal["proposer"] for proposal in json.loads(done.stdout)["proposals"]] == ["a"]
    assert sorted(made) == ["a", "judge"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--swap", "aggregator"), 2, "--swap takes NAME=provider:model"),
        (("--swap", "nobody=scripted:x"), 2, "Nobody in this run is called 'nobody'"),
        (("--swap", "nobody=openai:gpt-4o"), 2, "Nobody in this run is called 'nobody'"),
        (("--swap", "aggregator=scripted:x", "--swap", "aggregator=scripted:y"), 2, "two models"),
        (("--swap", "aggregator=unheard:x"), 2, "unheard"),
        (("--drop", "b"), 2, "Nobody in this run is called 'b'"),
        (("--prompt", "nowhere.txt"), 2, "The prompt nowhere.txt cannot be read"),
        (("--drop", "a", "--strict"), 2, r"not in the record"),
        (("--run", "zzz"), 2, "no such run for 'zzz'"),
    ],
)
def test_what_a_replay_refuses(tmp_path: Path, words: tuple[str, ...], status: int, said: str) -> None:
    run_once(tmp_path)
    (path,) = map(str, tmp_path.glob("*.jsonl"))
    done = moa("replay", path, *words)
    assert done.exit_code == status
    assert re.search(re.escape(said), done.stderr)


def crew_once(folder: Path, **options: Any) -> str:
    """A crew of two answers, one of whom is down; and the run's id."""
    tasks = [{"id": f"t{number}", "agent": name} for number, name in enumerate(("logs", "intel"), 1)]
    plan = json.dumps({"tasks": [{**task, "instructions": "look"} for task in tasks]})
    down = ScriptedLLM(lambda messages: ValueError("out of order"), model="down")
    members = [Member("logs", "reads logs", scripted("reader"), tools=[look], always=["look"])]
    members += [Member("intel", "knows threats", down)]
    settings = {"replans": False, "max_retries": 0, "trace": Trace(folder=folder), **options}
    planner = ScriptedLLM(plan, model="planner")
    return Crew(members, planner, scripted("writer"), **settings).run("Was it moved?").run_id


def look() -> str:
    """Look."""
    return "it was\x1b[31m moved\u202e"


def test_crews_are_listed_among_the_others(tmp_path: Path) -> None:
    ids = [run_once(tmp_path), crew_once(tmp_path), run_once(tmp_path)]
    rows = [line.split("\t") for line in moa("trace", "ls").stdout.splitlines()]
    assert [row[1] for row in rows] == ids
    assert rows[1][2:] == ["degraded", "crew", "2 tasks", "?", "Was it moved?"]
    row = json.loads(moa("trace", "ls", "--json").stdout)[1]
    assert (row["crew"], row["tasks"], row["layers"], row["calls"]) == ("crew", 2, None, None)


def test_a_crews_run_is_told_from_request_to_answer(tmp_path: Path) -> None:
    run_id = crew_once(tmp_path)
    text = moa("trace", "show", run_id[:6]).stdout
    said = ["degraded", "logs (ScriptedLLM(reader)), with look", "[user] Was it moved?", "what crew did"]
    said += ["t1 logs: look", "logs uses look()", "it was [31m moved", "aggregate  writer reads t1"]
    said += ["missing: intel, t2: ValueError: out of order", "answer of writer", "answer of writer"]
    places = [text.index(words) for words in said]
    assert places == sorted(places)
    assert "\x1b" not in text
    assert moa("trace", "show").stdout == text


def test_a_crews_run_as_json_is_all_of_it(tmp_path: Path) -> None:
    run_id = crew_once(tmp_path)
    whole = json.loads(moa("trace", "show", run_id, "--json").stdout)
    assert whole["messages"][0]["blocks"][0]["text"] == "Was it moved?"
    assert [member["name"] for member in whole["members"]] == ["logs", "intel"]
    assert [one["did"] for one in whole["did"]][:3] == ["plan", "plan", "task"]
    assert whole["ended"]["missing"][0]["reason"] == "ValueError: out of order"


def test_crews_are_counted_apart(tmp_path: Path) -> None:
    run_once(tmp_path)
    without = moa("trace", "stats").stdout
    for _ in range(2):
        crew_once(tmp_path)
    counted = moa("trace", "stats").stdout
    assert counted.startswith(without)
    assert "crews: 2 (2 degraded)\n  4 tasks, 2 without a result; " in counted
    stats = json.loads(moa("trace", "stats", "--json").stdout)
    assert (stats["crews"]["tasks"], stats["crews"]["missing"], stats["crews"]["unpriced"]) == (4, 2, 2)


def test_a_run_of_a_crew_that_was_killed_is_told_as_far_as_it_went(tmp_path: Path) -> None:
    crew_once(tmp_path)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:6]))
    text = moa("trace", "show").stdout
    assert "unfinished" in text
    assert "the run has no end: it was killed, waits for someone, or goes on still" in text


def test_a_crews_run_is_not_replayed_and_teaches_no_gate(tmp_path: Path) -> None:
    run_id = crew_once(tmp_path)
    done = moa("replay", run_id)
    assert done.exit_code == 2
    assert f"The run {run_id} is a crew's" in done.stderr
    assert f"moa trace show {run_id[:8]}" in done.stderr


def test_beside_a_crews_run_the_only_run_of_a_mixture_is_found(tmp_path: Path) -> None:
    path = tmp_path / "both.jsonl"
    mixed = run_once(tmp_path, trace=Trace(path))
    crew_once(tmp_path, trace=Trace(path))
    assert moa("replay", str(path), "--json").exit_code == 0
    assert mixed in moa("trace", "show", str(path), "--run", mixed).stdout
    done = moa("trace", "show", str(path))
    assert done.exit_code == 2
    assert "several runs" in done.stderr


def test_where_there_are_crews_only_nothing_is_said_of_mixtures(tmp_path: Path) -> None:
    crew_once(tmp_path)
    assert moa("trace", "stats").stdout.startswith("crews: 1 (1 degraded)\n")
    done = moa("replay", str(tmp_path))
    assert done.exit_code == 2
    assert "is a crew's" in done.stderr


def test_of_a_crew_taken_up_again_the_plan_is_told_and_the_short_id_is_enough(tmp_path: Path) -> None:
    run_id = crew_once(tmp_path)
    (path,) = tmp_path.glob("*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    second = [line for line in lines if '"state": "made"' not in line]
    (tmp_path / "second.jsonl").write_text("".join(second).replace('"2', '"3'))  # centuries later
    text = moa("trace", "show", run_id[:8]).stdout
    assert "plan       confirmed" in text
    assert "t1 logs: look" in text
    assert moa("trace", "stats").stdout.startswith("crews: 1 (1 degraded)\n")
