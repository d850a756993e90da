"""`moa memory`: notes are listed, shown and forgotten for good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
from llama_index.packs.mixture_of_agents.app.commands import app


def moa(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.db"
    notebook = Notebook(path, now=lambda: 86_400.0)
    notebook.remember("data", "Revenue is in thousands of euros.")
    notebook.remember("data", "Show\ttwo\x1b[2J decimals.", kind="preference")
    notebook.remember("analysis", "Weeks begin on Sunday.")
    return path


def test_agents_are_listed(notes: Path) -> None:
    assert moa("memory", "ls", notes).stdout == "analysis\t1 note\ndata\t2 notes\n"


def test_an_empty_notebook_says_so_and_leaves_the_pipe_empty(tmp_path: Path) -> None:
    Notebook(tmp_path / "notes.db")
    for word in ("ls", "show"):
        result = moa("memory", word, tmp_path / "notes.db")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "moa: nothing is kept yet\n")


def test_notes_are_shown_a_line_each(notes: Path) -> None:
    assert moa("memory", "show", notes, "--agent", "data").stdout == (
        "1\tdata\tfact\t1970-01-02\tRevenue is in thousands of euros.\n"
        "2\tdata\tpreference\t1970-01-02\tShow two[2J decimals.\n"
    )
    shown = json.loads(moa("memory", "show", notes, "--json").stdout)
    assert [note["agent"] for note in shown] == ["data", "data", "analysis"]


@pytest.mark.parametrize(
    ("words", "said", "left"),
    [
        (["1", "3"], "forgot 2 notes\n", [2]),
        (["thousands", "of", "euros"], "forgot 1 note\n", [2, 3]),
        (["3", "--agent", "data"], "forgot 0 notes\n", [1, 2, 3]),
        (["nothing", "of", "that"], "forgot 0 notes\n", [1, 2, 3]),
    ],
)
def test_notes_are_forgotten(notes: Path, words: list[str], said: str, left: list[int]) -> None:
    result = moa("memory", "forget", notes, *words)
    assert (result.stdout, result.exit_code) == (said, 0)
    assert [note.id for note in Notebook(notes).inspect()] == left
    kept = notes.read_bytes() + b"".join(path.read_bytes() for path in notes.parent.glob("notes.db-*"))
    assert (b"Revenue" in kept) is (1 in left)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls", "nowhere.db"], "there is no notebook nowhere.db"),
        (["show", "other.txt"], "no notebook"),
        (["forget", "nowhere.db", "1"], "there is no notebook"),
        (["forget", "made.db", "..."], "by id, or by words"),
        (["forget", "made.db"], "Missing argument"),
    ],
)
def test_refusals(words: list[str], said: str) -> None:
    Path("other.txt").write_text("words " * 100)
    Notebook("made.db")
    result = moa("memory", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not Path("nowhere.db").exists()
