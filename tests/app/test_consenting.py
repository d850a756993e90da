"""Whoever is asked may say yes, say no, change a plan, or have left."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.agents import Plan, Task
from llama_index.packs.mixture_of_agents.app.consenting import Asker, in_editor
from tests.app.conftest import command, environment

PLAN = Plan(tasks=[Task(id="t1", agent="data", instructions="Look.")], source="planner")
OTHER = Plan(tasks=[Task(id="t1", agent="data", instructions="Look closely.")])


def asker(*lines: str, edited: Callable[[str], str | None] = lambda text: None) -> tuple[Asker, io.StringIO]:
    out, typed = io.StringIO(), iter(lines)
    return Asker(4, out, lambda: next(typed, None), edited), out


@pytest.mark.parametrize("said", ["", "y\n", " YES \n"])
def test_yes(said: str) -> None:
    asked, out = asker(said)
    assert asked.decide(PLAN, ["data"]) == PLAN
    assert "└─ t1 data: Look.\nCarry it out?" in out.getvalue()


@pytest.mark.parametrize("lines", [["n\n"], ["what?\n", "no\n"], []])
def test_no_and_nobody_there(lines: Iterable[str]) -> None:
    asked, _ = asker(*lines)
    assert asked.decide(PLAN, ["data"]) is False


def test_a_changed_plan_is_shown_before_it_is_carried_out() -> None:
    asked, out = asker("e\n", "y\n", edited=lambda text: text.replace("Look.", "Look closely."))
    assert asked.decide(PLAN, ["data"]) == OTHER.model_copy(update={"source": "edited"})
    assert "Look closely." in out.getvalue()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no plan"),
        ('{"tasks": 3}', "is no plan: tasks"),
        (OTHER.model_copy(update={"tasks": []}).model_dump_json(), "no tasks"),
        (OTHER.model_dump_json().replace("data", "nobody"), "whom nobody knows"),
        (OTHER.model_dump_json().replace('"needs":[]', '"needs":["t1"]'), "circle"),
    ],
)
def test_a_change_that_cannot_work_is_not_made(text: str, said: str) -> None:
    asked, out = asker("e\n", "y\n", edited=lambda _: text)
    assert asked.decide(PLAN, ["data"]) == PLAN
    assert said in out.getvalue()


@pytest.mark.parametrize(("lines", "may"), [(["y\n"], True), (["n\n"], False), ([], False)])
async def test_writing_needs_a_yes(lines: list[str], may: bool) -> None:
    asked, out = asker(*lines)
    assert await asked.allow("saving \x1b[2Ja chart") is may
    assert out.getvalue() == "Allow saving [2Ja chart? [Y]es, [n]o: "


def test_the_editor_is_the_one_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "editor.py"
    script.write_text("import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() * 2)")
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    assert in_editor("ab") == "abab"
    for broken in ("no-such-editor", f"{sys.executable} -c 'raise SystemExit(3)'", "'"):
        monkeypatch.setenv("VISUAL", broken)
        assert in_editor("ab") is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("typed", "status", "seen"),
    [
        (b"y\n", 0, "answer of planner"),
        (b"n\n", 1, "the plan was rejected"),
        (b"\x04", 1, "the plan was rejected"),
        (b"\x03", 130, "moa: interrupted"),
    ],
)
def test_at_a_terminal(typed: bytes, status: int, seen: str, tmp_path: Path) -> None:
    pytest.importorskip("polars")
    (tmp_path / "sales.csv").write_text("region,revenue\nnorth,1\n")
    words = ("crew", "Which?", "--data", str(tmp_path / "sales.csv"), "--models", "scripted:planner")
    ended, text = _typed_at(command(*words), typed)
    assert "Carry it out?" in text
    assert seen in text
    assert "Traceback" not in text
    assert "Fatal" not in text
    assert ended == status


def _typed_at(words: list[str], typed: bytes) -> tuple[int, str]:
    """Run a program on a terminal of its own, and type once it asks."""
    import pty

    pid, ours = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.execvpe(words[0], words, environment(TERM="xterm"))
    pieces, end, has_typed = b"", time.monotonic() + 40, False
    while time.monotonic() < end:
        ready, _, _ = select.select([ours], [], [], 0.2)
        try:
            piece = os.read(ours, 65536) if ready else b""
        except OSError:  # how Linux tells that the program has ended
            break
        pieces += piece
        if b"[e]dit: " in pieces and not has_typed:
            has_typed = os.write(ours, typed) > 0
        if ready and not piece:
            break
    os.close(ours)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), pieces.decode()
