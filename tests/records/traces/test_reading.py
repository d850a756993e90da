"""Traces read back: whole, cut, newer, foreign, and with runs standing in one another."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.reading import open_trace, read_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import choose_run
from llama_index.packs.mixture_of_agents.records.traces.schema import SCHEMA
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of two runs, one after the other."""
    path = tmp_path_factory.mktemp("traces") / "t.jsonl"
    models = [ScriptedLLM("one", model="a"), ScriptedLLM([ValueError("no")], model="b")]
    pack = MixtureOfAgentsPack(ScriptedLLM("answer", model="c"), models, 2, trace=Trace(path))
    pack.run("First?")
    pack.run("Second?")
    return path.read_text().splitlines()


def written(folder: Path, *lines: str, end: str = "\n") -> Path:
    path = folder / "t.jsonl"
    path.write_text("\n".join(lines) + end, encoding="utf-8")
    return path


def test_a_last_line_that_was_cut_is_reported_and_left_out(
    tmp_path: Path, two_runs: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, *two_runs[:-1], two_runs[-1][:40], end="")
    with caplog.at_level(logging.WARNING):
        runs = read_trace(path)
    assert [run.status for run in runs] == ["degraded", "unfinished"]
    assert f"line {len(two_runs)} was cut or damaged" in caplog.text


@settings(max_examples=40)
@given(data=st.data())
def test_wherever_it_was_cut_what_stood_before_is_read(
    tmp_path_factory: pytest.TempPathFactory, two_runs: list[str], data: st.DataObject
) -> None:
    text = "\n".join(two_runs) + "\n"
    begun = len("\n".join(two_runs[:2])) + 1
    cut = data.draw(st.integers(begun, len(text)))
    path = tmp_path_factory.mktemp("cut") / "t.jsonl"
    path.write_text(text[:cut], encoding="utf-8")
    found = open_trace(path)
    whole = text[:cut].count("\n")
    assert 1 <= len(found.runs) <= 2
    assert len(found.problems) <= 1
    answered = sum(call.outcome is not None for run in found.runs for call in run.calls)
    assert answered >= sum('"kind": "call_a' in line and "answered" in line for line in two_runs[:whole])


def test_a_newer_schema_is_refused_with_both_versions(tmp_path: Path, two_runs: list[str]) -> None:
    newer = two_runs[0].replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}')
    with pytest.raises(TraceError, match=rf"schema {SCHEMA + 1}.* reads up to {SCHEMA}.*pip install -U"):
        read_trace(written(tmp_path, newer))


def test_a_kind_of_line_that_is_not_known_yet_is_left_out(tmp_path: Path, two_runs: list[str]) -> None:
    later = json.dumps({**json.loads(two_runs[2]), "kind": "something_later", "new": 1})
    found = open_trace(written(tmp_path, *two_runs[:2], later, *two_runs[2:]))
    assert (len(found.runs), found.problems) == (2, [])


def test_a_field_that_is_not_known_yet_is_left_out(tmp_path: Path, two_runs: list[str]) -> None:
    lines = [json.dumps({**json.loads(line), "later": {"x": 1}}) for line in two_runs]
    assert len(read_trace(written(tmp_path, *lines))) == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n\n",
        "hello\n",
        '{"a": 1}\n',
        "[1, 2]\n",
        '{"schema": "one", "run": "r", "time": "t", "kind": "k"}\n',
        '{"schema": true, "run": "r", "time": "t", "kind": "k"}\n',
        f'{{"schema": {SCHEMA}, "run": "r", "time": "yesterday", "kind": "agreed", "layer": 1}}\n',
        f'{{"schema": {SCHEMA}, "run": "r", "time": "2026-01-01T00:00:00+00:00", "kind": "agreed"}}\n',
        "[" * 100_000 + "\n",
        "\x00\x01\ufffd\n" * 50,
    ],
    ids=range(11),
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "foreign.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TraceError, match=r"no trace"):
        read_trace(path)


def test_a_time_without_its_zone_is_refused(tmp_path: Path, two_runs: list[str]) -> None:
    path, first = tmp_path / "edited.jsonl", json.loads(two_runs[0])
    edited = json.dumps({**first, "time": first["time"][:19]})
    path.write_text("\n".join([edited, *two_runs[1:]]), encoding="utf-8")
    with pytest.raises(TraceError, match=r"line 1.*no time zone"):
        read_trace(path)


def test_a_mark_that_editors_put_before_the_first_line_costs_nothing(
    tmp_path: Path, two_runs: list[str]
) -> None:
    path = tmp_path / "edited.jsonl"
    path.write_text("\n".join(two_runs), encoding="utf-8-sig")
    assert open_trace(path).problems == []


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(bytes(range(256)) * 100)
    with pytest.raises(TraceError, match="no trace"):
        read_trace(path)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "nothing.jsonl")
    with pytest.raises(TraceError, match="no traces"):
        read_trace(tmp_path)


@settings(max_examples=25)
@given(data=st.data())
def test_runs_may_stand_in_one_another(
    tmp_path_factory: pytest.TempPathFactory, two_runs: list[str], data: st.DataObject
) -> None:
    half = len(two_runs) // 2
    first, second = two_runs[:half], two_runs[half:]
    mixed: list[str] = []
    while first or second:
        source = first if first and (not second or data.draw(st.booleans())) else second
        mixed.append(source.pop(0))
    path = tmp_path_factory.mktemp("mixed") / "t.jsonl"
    path.write_text("\n".join(mixed) + "\n", encoding="utf-8")
    runs = sorted(read_trace(path), key=lambda run: run.question_text)
    assert [run.question_text for run in runs] == ["First?", "Second?"]
    assert all(run.status == "degraded" and len(run.calls) == 3 for run in runs)


def test_lines_of_a_run_whose_beginning_is_lost_are_reported(tmp_path: Path, two_runs: list[str]) -> None:
    found = open_trace(written(tmp_path, *two_runs[2:]))
    assert [run.question_text for run in found.runs] == ["Second?"]
    assert "whose beginning is not there" in found.problems[0]


def test_an_answer_whose_question_is_lost_is_kept(tmp_path: Path, two_runs: list[str]) -> None:
    lines = [line for line in two_runs if '"call_asked"' not in line]
    runs = read_trace(written(tmp_path, *lines))
    assert [len(run.calls) for run in runs] == [3, 3]
    assert runs[0].calls[0].messages == []


def test_runs_of_a_folder_are_in_the_order_they_began(tmp_path: Path) -> None:
    now = [50.0]
    trace = Trace(folder=tmp_path, clock=lambda: now[0])
    pack = MixtureOfAgentsPack(ScriptedLLM("answer"), [ScriptedLLM("one")], 2, trace=trace)
    ids = [pack.run("Why?").run_id]
    now[0] = 10.0
    ids.append(pack.run("Why?").run_id)
    assert [run.run_id for run in read_trace(tmp_path)] == ids[::-1]


def test_a_run_is_chosen_by_the_beginning_of_its_id(tmp_path: Path, two_runs: list[str]) -> None:
    runs = read_trace(written(tmp_path, *two_runs))
    assert choose_run(runs, runs[1].run_id[:8]) is runs[1]
    assert choose_run(runs[:1], None) is runs[0]
    for named, said in ((None, "several runs"), ("zzz", "no such run")):
        with pytest.raises(TraceError, match=f"{said}.*{runs[0].run_id}"):
            choose_run(runs, named)


def test_what_was_spent_leaves_out_what_a_store_answered(tmp_path: Path, two_runs: list[str]) -> None:
    def from_store(line: str) -> dict[str, Any]:
        entry = json.loads(line)
        return {**entry, "source": "AnswerCache"} if entry["kind"] == "call_answered" else entry

    lines = [json.dumps(from_store(line)) for line in two_runs if '"b"' not in line or "run_started" in line]
    spent = read_trace(written(tmp_path, *lines))[0].spent
    assert (spent.prompt_tokens, spent.cost_usd) == (0, 0.0)


def test_a_foreign_file_in_a_folder_is_reported_and_the_others_are_read(
    tmp_path: Path, two_runs: list[str]
) -> None:
    written(tmp_path, *two_runs)
    (tmp_path / "answers.jsonl").write_text('{"answer": 1}\n')
    found = open_trace(tmp_path)
    assert len(found.runs) == 2
    assert [("answers.jsonl" in problem, "is no trace" in problem) for problem in found.problems] == [
        (True, True)
    ]
    (tmp_path / "t.jsonl").unlink()
    with pytest.raises(TraceError, match=r"answers\.jsonl is no trace"):
        open_trace(tmp_path)
