"""Many prompts from a file: rows in and out, resuming, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app import batching
from llama_index.packs.mixture_of_agents.app.batch_bar import BatchBar
from llama_index.packs.mixture_of_agents.app.batch_rows import Row, line_of, rows_in
from llama_index.packs.mixture_of_agents.app.batch_views import duration, standing
from llama_index.packs.mixture_of_agents.app.batching import Tally, time_left
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.app.journal import Journal
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.results import Usage
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.app.conftest import command, environment
from tests.loopback.fault_server import wait_until

pytestmark = pytest.mark.usefixtures("scripted_rows")

ONE = ("--models", "scripted:a", "--layers", "1", "--no-trace")


class Folder:
    """A folder with prompts and, later, answers."""

    def __init__(self, path: Path) -> None:
        self.prompts, self.output = path / "prompts.jsonl", path / "answers.jsonl"
        self.journal = path / "answers.jsonl.journal"

    def write(self, *rows: Any) -> None:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        self.prompts.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def batch(self, *words: str) -> Result:
        files = (str(self.prompts), "-o", str(self.output))
        return CliRunner().invoke(app, ["batch", *files, *words], catch_exceptions=False)

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_rows_of_every_form_are_answered_in_order(folder: Folder) -> None:
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
    folder.write({"prompt": "Why?", "id": [1]}, "plain text", "", {"messages": messages, "id": None})
    done = folder.batch(*ONE)
    assert (done.exit_code, done.stdout) == (0, "")
    assert [(row["row"], row.get("id", "none"), row["text"], row["error"]) for row in folder.answers()] == [
        (1, [1], "answer of a", None),
        (2, "none", "answer of a", None),
        (3, None, "answer of a", None),
    ]
    assert folder.answers()[0]["usage"]["completion_tokens"] == 3
    assert not folder.journal.exists()


def test_what_was_asked_reaches_the_model(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ScriptedLLM("yes", model="a")
    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: llm)
    folder.write("Is {it} so, 100%s?", {"messages": [{"role": "user", "content": "And\u0000 this?"}]})
    assert folder.batch(*ONE, "--concurrency", "1").exit_code == 0
    assert [call.messages[-1].content for call in llm.calls] == ["Is {it} so, 100%s?", "And\u0000 this?"]


def test_one_bad_row_never_stops_the_rest(folder: Folder) -> None:
    bad = ["{not json", {"id": 7}, {"prompt": 3}, {"prompt": " "}, {"prompt": "a", "messages": []}]
    bad += [{"messages": "hi"}, {"messages": [{"role": "nobody", "content": "x"}]}, {"messages": []}]
    folder.write(*bad, "good", "[" * 3)
    done = folder.batch(*ONE)
    assert done.exit_code == 1
    answers = folder.answers()
    assert [row["error"] is None for row in answers] == [False] * len(bad) + [True, True]
    assert all(row["error"]["message"] and row["text"] is None for row in answers[: len(bad)])
    assert answers[1]["id"] == 7
    assert "10 rows: 2 answered, 8 failed" in done.stderr


@pytest.mark.parametrize(
    "row",
    [
        '{"id": NaN, "prompt": "one"}',
        "[",
        '[{"prompt": "one"},',
        '[{"prompt": "one"}, {"prompt": "two"}]',
        "]",
    ],
)
def test_what_only_looks_like_a_row_is_asked_of_nobody(folder: Folder, row: str) -> None:
    folder.write(row, "[Note] is this [1] asked?", "[1, 2]")
    assert folder.batch(*ONE).exit_code == 1
    assert [answer["text"] for answer in folder.answers()] == [None, *["answer of a"] * 2]


def test_answers_do_not_go_to_standard_output(folder: Folder) -> None:
    folder.write("one")
    done = CliRunner().invoke(app, ["batch", str(folder.prompts), "-o", "-", *ONE])
    assert done.exit_code == 2
    assert "Answers go into a file" in done.stderr
    assert not Path("-").exists()


def test_bytes_that_are_no_text_are_a_bad_row(folder: Folder) -> None:
    folder.prompts.write_bytes(b"\xef\xbb\xbffirst\r\n\xff\xfe\nthird")
    assert folder.batch(*ONE).exit_code == 1
    assert [row["error"] is None for row in folder.answers()] == [True, False, True]


def test_a_model_that_fails_for_one_prompt_fails_one_row(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(messages: Any) -> str | Exception:
        text = messages[-1].content
        return ValueError("no such thing") if "bad" in text else f"yes to {text}"

    monkeypatch.setattr(
        "tests.app.scripted_provider.scripted", lambda model: ScriptedLLM(script, model=model)
    )
    folder.write("one", "bad", "three")
    done = folder.batch(*ONE)
    assert done.exit_code == 1
    assert [row["text"] for row in folder.answers()] == ["yes to one", None, "yes to three"]
    assert "no such thing" in folder.answers()[1]["error"]["message"]
    assert "row 2 failed: No model of the mixture answered" in done.stderr


def test_half_a_character_stops_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ScriptedLLM("half \ud800", model="a")
    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: llm)
    folder.write("Why?")
    assert folder.batch(*ONE).exit_code == 0
    assert folder.answers()[0]["text"] == "half \ufffd"


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        ("", ONE, "holds no prompts"),
        ("\n \n", ONE, "holds no prompts"),
        (None, ONE, "cannot be read"),
        ("Why?", (*ONE, "--concurrency", "0"), "--concurrency"),
        ("Why?", ("--models", "nobody:a"), "Unknown provider"),
    ],
)
def test_bad_input_is_refused(folder: Folder, content: str | None, words: tuple[str, ...], said: str) -> None:
    if content is not None:
        folder.prompts.write_text(content, encoding="utf-8")
    done = folder.batch(*words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not folder.output.exists()


def test_an_output_that_is_no_unfinished_batch_is_left_alone(folder: Folder) -> None:
    folder.write("Why?")
    folder.output.write_text("mine", encoding="utf-8")
    done = folder.batch(*ONE)
    assert done.exit_code == 2
    assert "exists, and no journal" in done.stderr
    assert folder.output.read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(folder: Folder) -> None:
    folder.write("Why?")
    folder.output.parent.chmod(0o500)
    assert "cannot be written" in folder.batch(*ONE).stderr


def test_a_folder_that_is_not_there(folder: Folder) -> None:
    folder.write("Why?")
    folder.output = folder.output.parent / "nowhere" / "answers.jsonl"
    done = folder.batch(*ONE)
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_progress_in_a_pipe_is_lines_and_can_be_off(folder: Folder) -> None:
    folder.write(*(f"Question {n}" for n in range(100)))
    lines = folder.batch(*ONE).stderr.splitlines()
    assert sum(line.split(",")[0].endswith("of 100 rows") for line in lines) == 20
    assert lines[-1].startswith("moa: 100 rows: 100 answered, none failed")
    folder.output.unlink()
    assert folder.batch(*ONE, "--quiet").stderr == ""


def test_on_a_terminal_a_bar_shows_what_is_done_and_what_it_costs() -> None:
    file = StringIO()
    bar = BatchBar(Console(file=file, force_terminal=True, width=80))
    before = Tally(4, done=1)
    bar.begin(before)
    paid = {"row": 2, "error": None, "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost_usd": 0.5}}
    bar.row(paid, before.with_row(paid))
    bad = {"row": 3, "error": {"message": "[bold]down[/bold]"}}
    bar.row(bad, before.with_row(paid).with_row(bad))
    bar.close()
    seen = file.getvalue()
    assert "3/4" in seen
    assert "$0.5000" in seen
    assert "row 3 failed: [bold]down[/bold]" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_interrupted_it_says_how_to_go_on(folder: Folder, tmp_path: Path) -> None:
    folder.write("one", "two")
    words = (str(folder.prompts), "-o", str(folder.output), "--models", "slow:a", "--layers", "2")
    process = subprocess.Popen(
        command("batch", *words, "--no-trace"),
        env=environment(MOA_TEST_TRACES=str(tmp_path)),
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job is born deaf to Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert wait_until(lambda: bool(list(tmp_path.glob("*.asked"))), seconds=30)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "moa: 0 of 2 rows are done; the same command goes on from there.\nmoa: interrupted\n"
    assert folder.journal.is_dir()
    assert not (folder.journal / "lock").exists()


# Resuming, in this process: a journal left behind at some moment.


def answer(number: int) -> dict[str, Any]:
    return {"row": number, "text": f"answer {number}", "error": None, "usage": Usage().model_dump()}


@given(done=st.permutations(range(1, 7)), count=st.integers(0, 6), cut=st.integers(0, 40), torn=st.booleans())
def test_whatever_moment_it_is_killed_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, done: list[int], count: int, cut: int, torn: bool
) -> None:
    rows = rows_in(b"\n".join(b"prompt %d" % n for n in range(1, 7)))
    folder = Folder(tmp_path_factory.mktemp("batch"))
    first = Journal(folder.output, rows, {"models": ["a"]})
    for number in done[:count]:
        first.finish(rows[number - 1], answer(number))
    first._lock.release()
    written = folder.output.read_bytes()
    folder.output.write_bytes(written[: max(0, len(written) - cut)])
    if torn:
        with (folder.journal / "finished.jsonl").open("ab") as file:
            file.write(b'{"row": 1, "dig')
    second = Journal(folder.output, rows, {"models": ["a"]})
    assert set(second.finished) == set(done[:count])
    for number in done[count:]:
        second.finish(rows[number - 1], answer(number))
    second.close()
    assert folder.answers() == [answer(number) for number in range(1, 7)]
    assert not folder.journal.exists()


def begun(folder: Folder, rows: bytes = b"one\ntwo\nthree") -> None:
    """A batch that ended after its first row."""
    listed = rows_in(rows)
    journal = Journal(folder.output, listed, {"models": ["a"]})
    journal.finish(listed[0], answer(1))
    journal.close()


def test_rows_may_be_added_behind(folder: Folder) -> None:
    begun(folder)
    journal = Journal(folder.output, rows_in(b"one\ntwo\nthree\nfour"), {"models": ["a"]})
    assert set(journal.finished) == {1}
    journal.close()


@pytest.mark.parametrize(
    ("rows", "mixture", "said"),
    [
        (b"other\ntwo\nthree", {"models": ["a"]}, "Row 1 is not what it was"),
        (b"one\ntwo\nthree", {"models": ["b"]}, "these differ: models"),
        (b"one\ntwo\nthree", {"models": ["a"], "seed": 1}, "these differ: seed"),
    ],
)
def test_another_batch_does_not_go_on_with_it(
    folder: Folder, rows: bytes, mixture: dict[str, Any], said: str
) -> None:
    begun(folder)
    with pytest.raises(ConfigurationError, match=said):
        Journal(folder.output, rows_in(rows), mixture)


def test_a_changed_output_and_a_damaged_journal_are_refused(folder: Folder) -> None:
    begun(folder)
    rows = rows_in(b"one\ntwo\nthree")
    kept = folder.output.read_bytes()
    folder.output.write_bytes(b"x" + kept)
    with pytest.raises(ConfigurationError, match="was changed since"):
        Journal(folder.output, rows, {"models": ["a"]})
    folder.output.write_bytes(kept)
    journal = folder.journal / "finished.jsonl"
    journal.write_bytes(journal.read_bytes() + b"garbage\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Journal(folder.output, rows, {"models": ["a"]})
    journal.write_bytes(b'{"version": 99}\n')
    with pytest.raises(ConfigurationError, match="not a journal of this version"):
        Journal(folder.output, rows, {"models": ["a"]})


def test_two_processes_do_not_share_a_batch(folder: Folder) -> None:
    rows = rows_in(b"one")
    held = Journal(folder.output, rows, {})
    with pytest.raises(ConfigurationError, match="Another process"):
        Journal(folder.output, rows, {})
    held.close()


def test_a_full_disk_ends_the_batch_with_a_reason(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(self: Journal, row: Any, answer: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "finish", finish)
    folder.write("one", "two")
    done = folder.batch(*ONE)
    assert done.exit_code == 2
    assert "No space left on device" in done.stderr
    assert "go on" in done.stderr


def test_a_file_changed_half_way_is_another_mixture(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder.prompts.with_name("moa.toml")
    config.write_text('proposers = ["scripted:a"]\nnum_layers = 2\n')
    words = ("--config", str(config), "--concurrency", "1", "--no-trace")
    folder.write("one", "two")
    keep = Journal.finish

    def finish(self: Journal, row: Row, answer: Any) -> None:
        if row.number == 2:
            raise OSError(28, "No space left on device")
        keep(self, row, answer)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", finish)
        assert folder.batch(*words).exit_code == 2
    assert len(folder.answers()) == 1
    config.write_text('proposers = ["scripted:b"]\nnum_layers = 2\n')
    refused = folder.batch(*words)
    assert refused.exit_code == 2
    assert "these differ: config" in refused.stderr
    config.write_text('num_layers = 2\nproposers = ["scripted:a"]  # as it was\ntrace = false\n')
    assert folder.batch(*words).exit_code == 0
    assert [row["text"] for row in folder.answers()] == ["answer of a"] * 2


class FullDisk:
    """Has no room for what is written at these times, counted from 0; 0 and 1 are the opening."""

    def __init__(self, full: set[int]) -> None:
        self._full, self._written = full, 0

    def __call__(self, handle: int) -> None:
        self._written += 1
        if self._written - 1 in self._full:
            raise OSError(28, "No space left on device")


@given(done=st.permutations(range(1, 6)), full=st.sets(st.integers(2, 11)))
def test_whatever_a_disk_has_no_room_for_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, done: list[int], full: set[int]
) -> None:
    rows = rows_in(b"\n".join(b"prompt %d" % n for n in range(1, 6)))
    folder = Folder(tmp_path_factory.mktemp("batch"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", FullDisk(full))
        first = Journal(folder.output, rows, {})
        for number in done:
            with suppress(OSError):
                first.finish(rows[number - 1], answer(number))
        known = set(first.finished)
        first.close()
    if folder.journal.exists():
        second = Journal(folder.output, rows, {})
        assert set(second.finished) == known
        for number in set(done) - known:
            second.finish(rows[number - 1], answer(number))
        second.close()
    assert folder.answers() == [answer(number) for number in range(1, 6)]
    assert not folder.journal.exists()


# Numbers and words.


def test_time_left() -> None:
    assert time_left(Tally(10), Tally(10), 5.0) is None
    assert time_left(Tally(10, done=4), Tally(10, done=6), 5.0) == 10.0
    assert standing(Tally(10, done=4), Tally(10, done=6), 5.0) == "6 of 10 rows, about 10 s left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (3600, "1 h 0 min"), (11100, "3 h 5 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_totals_stay_honest() -> None:
    known = Tally(3).with_row({"usage": {"prompt_tokens": 5, "completion_tokens": 1, "cost_usd": 0.5}})
    assert batching.summary(known, 1.0).endswith("5 tokens read, 1 written · $0.5000")
    unknown = known.with_row({"usage": {"prompt_tokens": 5}}).with_row({"error": {"message": "down"}})
    assert batching.summary(unknown, 1.0) == (
        "3 rows: 2 answered, 1 failed · 1.0 s · tokens not reported by every model · price not known"
    )


@given(st.dictionaries(st.text(st.characters()), st.text(st.characters())))
def test_a_row_is_one_line_and_reads_back(row: dict[str, str]) -> None:
    line = line_of(row)
    assert line.count(b"\n") == 1
    assert json.loads(line) == row
