"""The notebook: kept over processes, found by words, safe under many writers, and truly forgotten."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.agents.memory_notebook import MOST_NOTES, Notebook
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path / "memory" / "notes.db")


def test_what_is_remembered_is_found_by_its_words(notebook: Notebook) -> None:
    metric = notebook.remember("ann", "The user prefers metric units", kind="preference", run_id="r1")
    notebook.remember("ann", "The servers run in Oslo")
    assert notebook.recall("ann", "Which unit should I use?") == [metric]
    assert [note.text for note in notebook.recall("ann", "server in Oslo, units?")] == [
        "The servers run in Oslo",
        "The user prefers metric units",
    ]
    assert notebook.recall("ann", "nothing of the kind") == []
    assert len(notebook.recall("ann", "servers units", limit=1)) == 1


def test_agents_do_not_see_each_others_notes(notebook: Notebook) -> None:
    notebook.remember("ann", "the code word is zebra")
    note = notebook.remember("bob", "the code word is yak")
    assert notebook.recall("bob", "code word") == [note]
    assert [note.agent for note in notebook.inspect()] == ["ann", "bob"]
    assert [note.agent for note in notebook.inspect("ann")] == ["ann"]
    assert notebook.agents() == {"ann": 1, "bob": 1}


def test_a_fact_that_is_known_is_dated_anew_not_kept_twice(tmp_path: Path) -> None:
    times = iter([1.0, 2.0])
    notebook = Notebook(tmp_path / "notes.db", now=lambda: next(times))
    first = notebook.remember("ann", "  Oslo is cold ", run_id="r1")
    second = notebook.remember("ann", "Oslo is cold", run_id="r2", kind="preference")
    assert (second.id, second.at, second.run_id, second.kind) == (first.id, 2.0, "r2", "preference")
    assert notebook.inspect("ann") == [second]


@pytest.mark.parametrize("which", ["id", "ids", "words", "all"])
def test_what_is_forgotten_is_gone_from_the_file_too(notebook: Notebook, which: str) -> None:
    notes = [notebook.remember("ann", f"the xylophonesecret number {n} " + "filler " * 50) for n in range(40)]
    kept = notebook.remember("bob", "an ordinary note")
    assert _holds(notebook.path, b"xylophonesecret")
    if which == "words":
        forgotten = notebook.forget("xylophonesecret", agent="ann")
    elif which == "all":
        forgotten = notebook.forget_all("ann")
    elif which == "ids":
        forgotten = notebook.forget([note.id for note in notes])
    else:
        forgotten = [notebook.forget(note.id) for note in notes][-1].model_copy(update={"count": 40})
    assert (forgotten.count, forgotten.erased) == (40, True)
    assert notebook.inspect() == [kept]
    assert notebook.recall("ann", "xylophonesecret") == []
    assert not _holds(notebook.path, b"xylophonesecret")
    assert not _holds(notebook.path, b"xylophon"), "nor the stem in the index"


def _holds(path: Path, text: bytes) -> bool:
    return any(text in file.read_bytes() for file in path.parent.iterdir())


def test_forgetting_while_someone_reads_says_that_the_file_is_not_clear_yet(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{Notebook.__module__}.tables._SECONDS_TO_ERASE", 0.05)
    note = notebook.remember("ann", "the xylophonesecret")
    with closing(sqlite3.connect(notebook.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM notes").fetchall()
        forgotten = notebook.forget(note.id)
        assert (forgotten.count, forgotten.erased) == (1, False)
        assert notebook.inspect() == []
    assert notebook.erase()
    assert not _holds(notebook.path, b"xylophonesecret")


def test_a_number_is_never_given_again(notebook: Notebook) -> None:
    first = notebook.remember("ann", "one")
    notebook.forget(first.id)
    assert notebook.remember("ann", "two").id > first.id


def test_an_agent_forgets_only_its_own(notebook: Notebook) -> None:
    note = notebook.remember("ann", "mine")
    assert notebook.forget(note.id, agent="bob").count == 0
    assert notebook.forget("mine", agent="bob").count == 0
    assert notebook.inspect() == [note]


@pytest.mark.parametrize("which", ["", "  ", "_", None, 1.5, ["a"], True, [True]])
def test_what_names_no_note_forgets_nothing(notebook: Notebook, which: object) -> None:
    note = notebook.remember("ann", "mine")
    with suppress(ToolError):
        assert notebook.forget(which).count == 0  # type: ignore[arg-type]
    assert notebook.inspect() == [note]


def test_words_forget_only_what_has_all_of_them(notebook: Notebook) -> None:
    notebook.remember("ann", "the red house")
    kept = notebook.remember("ann", "the red car")
    assert notebook.forget("the house").count == 1
    assert notebook.inspect() == [kept]


@pytest.mark.parametrize("text", ["", " \n", "x" * 3000, None, 3])
def test_what_is_no_note_is_refused(notebook: Notebook, text: object) -> None:
    with pytest.raises(ToolError):
        notebook.remember("ann", text)  # type: ignore[arg-type]


def test_a_notebook_has_an_end(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_NOTES > 100
    monkeypatch.setattr(f"{Notebook.__module__}.MOST_NOTES", 2)
    for text in ("one", "two", "two"):
        notebook.remember("ann", text)
    with pytest.raises(ToolError, match="forget some first"):
        notebook.remember("ann", "three")
    notebook.remember("bob", "three")


@settings(max_examples=40)
@given(texts=st.lists(st.text(max_size=20), max_size=4), query=st.text(max_size=20))
def test_no_text_breaks_the_index(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], query: str
) -> None:
    notebook = Notebook(tmp_path_factory.mktemp("any") / "notes.db")
    kept = []
    for text in texts:
        try:
            kept.append(notebook.remember("ann", text).text)
        except ToolError:
            assert not text.strip()
    assert [note.text for note in notebook.inspect("ann")] == list(dict.fromkeys(kept))
    assert {note.text for note in notebook.recall("ann", query)} <= set(kept)


def test_the_file_is_for_its_owner_only(notebook: Notebook) -> None:
    assert stat.S_IMODE(notebook.path.stat().st_mode) & 0o077 == 0


def test_another_kind_of_file_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    text, other, later = tmp_path / "a.txt", tmp_path / "other.db", tmp_path / "later.db"
    text.write_text("hello " * 500)
    for path, statement in ((other, "CREATE TABLE t (a)"), (later, "PRAGMA user_version = 9")):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)
    for path, said in ((text, "no notebook"), (other, "something else"), (later, "version 9")):
        with pytest.raises(ConfigurationError, match=said):
            Notebook(path)
    assert text.read_text() == "hello " * 500
    with pytest.raises(ConfigurationError, match="cannot be made"):
        Notebook(text / "notes.db")


WORKER = """
import sys
from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
path, agent, number = sys.argv[1:]
notebook = Notebook(path)
for n in range(25):
    notebook.remember(agent, f"fact {n} of process {number}")
    notebook.recall(agent, "fact")
    if n % 8 == 0:
        notebook.forget(f"fact {n} of process {number}", agent=agent)
print(len(notebook.inspect(agent)))
"""


def test_processes_that_begin_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    commands = [[sys.executable, "-c", WORKER, str(path), f"agent{n}", str(n)] for n in range(3)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    outputs = [process.communicate(timeout=50) for process in running]
    assert [output.strip() for output, _ in outputs] == ["21"] * 3, outputs
    assert Notebook(path).agents() == {"agent0": 21, "agent1": 21, "agent2": 21}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def test_threads_that_make_the_file_at_once_lose_nothing(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            notebook = Notebook(tmp_path / "notes.db")
            for n in range(5):
                notebook.remember("ann", f"{number}-{n}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert Notebook(tmp_path / "notes.db").agents() == {"ann": 30}


class Colours:
    """Places a text by the colours it names."""

    model_name = "colours"

    def get_text_embedding(self, text: str) -> list[float]:
        return [float("crimson" in text or "red" in text), float("navy" in text or "blue" in text), 0.1]

    get_query_embedding = get_text_embedding


def test_an_embedding_model_finds_by_meaning(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    plain = Notebook(path).remember("ann", "no colour here, written without a model")
    notebook = Notebook(path, embed_model=Colours())
    crimson = notebook.remember("ann", "a crimson door")
    navy = notebook.remember("ann", "a navy coat")
    assert notebook.recall("ann", "something red") == [crimson, navy, plain]
    assert notebook.recall("ann", "something blue", limit=1) == [navy]
    assert Notebook(path).recall("ann", "door") == [crimson], "words find it, too"


def test_a_relative_path_with_a_home_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    Notebook("~/deep/notes.db").remember("ann", "x")
    assert (tmp_path / "deep" / "notes.db").is_file()


@pytest.mark.parametrize(
    ("agent", "kind"), [("ann", "rumour"), ("ann", None), (None, "fact"), (" ", "fact"), (3, "fact")]
)
def test_a_note_that_could_not_be_read_again_is_not_written(
    notebook: Notebook, agent: Any, kind: Any
) -> None:
    notebook.remember("ann", "one")
    with pytest.raises(ToolError):
        notebook.remember(agent, "two", kind=kind)
    assert [note.text for note in notebook.inspect()] == ["one"]


def test_a_file_that_was_damaged_is_said_whatever_is_done_with_it(notebook: Notebook) -> None:
    notebook.remember("ann", "a note about cats")
    notebook.erase()
    notebook.path.write_bytes(b"no database at all " * 500)
    done: list[Callable[[], object]] = [
        lambda: notebook.remember("ann", "new"),
        lambda: notebook.recall("ann", "cats"),
        notebook.inspect,
        notebook.agents,
        lambda: notebook.forget("cats"),
        notebook.erase,
    ]
    for one in done:
        with pytest.raises(ToolError, match="cannot be used"):
            one()


def test_a_number_that_no_file_holds_is_refused(notebook: Notebook) -> None:
    with pytest.raises(ToolError):
        notebook.forget(10**30)
