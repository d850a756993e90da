"""`moa` as a program of its own: streams, statuses, signals, missing libraries, a terminal."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.conftest import ROOT, Program, command, environment, interrupted

APP = "llama_index.packs.mixture_of_agents.app"
TWO = ("--models", "scripted:a", "scripted:b", "--aggregator", "scripted:judge")


def test_the_issue_example_runs(moa: Program) -> None:
    done = moa("ask", "Why?", *TWO)
    assert (done.stdout, done.stderr, done.returncode) == ("answer of judge\n", "", 0)


def test_json_is_one_document_even_with_progress(moa: Program) -> None:
    done = moa("ask", *TWO, "--json", "--progress", text="Why?")
    assert json.loads(done.stdout)["text"] == "answer of judge"
    assert "Round 1 of 2" in done.stderr


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("ask", "Why?", "--models", "failing:a"), 1),
        (("ask", "Why?", "--models", "nobody:a"), 2),
        (("ask", "Why?", "--no-such-option"), 2),
        (("ask",), 2),
        ((), 2),
    ],
)
def test_statuses(moa: Program, words: tuple[str, ...], status: int) -> None:
    done = moa(*words)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_ctrl_c_cancels_the_calls_and_exits_130(tmp_path: Path) -> None:
    words = command("ask", "Why?", "--models", "slow:a", "slow:b")
    done, seconds = interrupted(words, tmp_path, calls=2)
    assert seconds < 5
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "moa: interrupted\n")
    assert sorted(path.name for path in tmp_path.glob("*.cancelled")) == ["a.cancelled", "b.cancelled"]


def test_a_reader_that_leaves_is_no_traceback() -> None:
    words = command("ask", "Why?", *TWO)
    process = subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    err = process.stderr.read() if process.stderr is not None else ""
    process.wait(30)
    if process.stderr is not None:
        process.stderr.close()
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-"])
def test_closed_streams_are_no_traceback(tmp_path: Path, closed: str) -> None:
    asked = f"{shlex.join(command('ask', 'Why?', *TWO, '--json'))} {closed}"
    done = subprocess.run(
        asked,
        shell=True,
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "logs" / "moa").iterdir())) == 1


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_names_the_pip_command(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from {APP}.__main__ import main; main()"
    done = _python("-c", program)
    assert done.returncode == 2
    assert done.stderr == (
        "moa: The command line needs the 'cli' extra, which is not installed. "
        "Run: pip install 'llama-index-packs-mixture-of-agents[cli]'\n"
    )


def test_without_torch_the_default_names_the_pip_command(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['moa', 'ask', 'Why?']; "
        f"from {APP}.__main__ import main; main()"
    )
    done = _python("-c", program, MOA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'llama-index-packs-mixture-of-agents[sparse-moe]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_module_that_runs() -> None:
    done = _python("-m", APP, "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_help_loads_neither_torch_nor_a_provider() -> None:
    program = (
        f"import sys; from {APP}.__main__ import main\n"
        "sys.argv = ['moa', 'ask', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'transformers', 'openai', 'mistralai'} & set(sys.modules)), file=sys.stderr)"
    )
    assert _python("-c", program).stderr == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_the_way_and_the_answer_are_seen() -> None:
    seen = _on_terminal(*command("ask", "Why?", *TWO))
    for text in ("Round 1 of 2", "Round 2 of 2", "Synthesis", "answer of a", "answer of judge"):
        assert text in seen
    assert "nobody missing" in seen
    assert "\x1b[?25h" in seen


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_dumb_terminal_nothing_moves() -> None:
    seen = _on_terminal(*command("ask", "Why?", *TWO), TERM="dumb")
    assert "\x1b" not in seen
    assert "answer of judge" in seen


def _on_terminal(*words: str, **extra: str) -> str:
    """What a program writes to a terminal."""
    import pty

    ours, theirs = pty.openpty()
    settings = {"TERM": "xterm-256color", **extra}
    process = subprocess.Popen(
        words, env=environment(**settings), stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 65536):
            pieces.append(piece)
    except OSError:
        pass  # Linux reports the closed terminal of an ended program as an error
    finally:
        os.close(ours)
    assert process.wait(30) == 0
    return b"".join(pieces).decode()


def _python(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=environment(**extra),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        stdin=subprocess.DEVNULL,
    )
