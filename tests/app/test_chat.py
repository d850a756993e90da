"""A conversation from a pipe and on a terminal: what is remembered, what is behind it, what ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.app.conversing import command_in, proposals_of, usage_of
from llama_index.packs.mixture_of_agents.results import (
    Cast,
    Decision,
    Missing,
    MixtureResponse,
    Proposal,
    Role,
    Usage,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.app.conftest import command, environment
from tests.loopback.fault_server import wait_until

pytestmark = pytest.mark.usefixtures("scripted_rows")

TWO = (
    "--models",
    "scripted:a",
    "scripted:b",
    "--aggregator",
    "scripted:judge",
    "--layers",
    "2",
    "--no-trace",
)


def chat(*lines: str, words: tuple[str, ...] = TWO) -> Result:
    text = "".join(f"{line}\n" for line in lines)
    return CliRunner().invoke(app, ["chat", *words], input=text, catch_exceptions=False)


def test_each_line_of_a_pipe_is_a_question() -> None:
    done = chat("Why?", "", "And then?")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "answer of judge\nanswer of judge\n", "")


def test_what_was_said_before_is_remembered_until_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ScriptedLLM(lambda messages: f"answer to {messages[-1].content}", model="a")
    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: llm)
    words = ("--models", "scripted:a", "--layers", "1", "--no-trace")
    done = chat("one", "two", "/reset", "three", words=words)
    assert done.exit_code == 0
    said = [[message.content for message in call.messages if message.role != "system"] for call in llm.calls]
    assert said == [["one"], ["one", "answer to one", "two"], ["three"]]


def test_one_can_look_behind_the_answer() -> None:
    done = chat("Why?", "/proposals", "/proposals 1", "/proposals 7", "/proposals x", "/usage", "/missing")
    said = done.stdout.split("answer of judge\n", 1)[1]
    assert said.count("Round 1\n") == 2
    assert said.count("answer of b\n") == 2
    assert "Nobody proposed anything there." in said
    assert "takes the number of a round; found x" in said
    assert "last: 120 tokens read, 9 written, price not known\nall:  120" in said
    assert said.endswith("Nobody is missing.\n")


def test_before_the_first_answer_there_is_nothing_behind_it() -> None:
    assert chat("/proposals", "/usage", "/missing").stdout == "Nothing was asked yet.\n" * 3


def test_commands_that_are_none() -> None:
    done = chat("/propsals", "/HELP", "/quit", "Why?")
    lines = done.stdout.splitlines()
    assert lines[0] == "There is no /propsals. Did you mean /proposals? /help lists what there is."
    assert lines[1].startswith("/proposals [N]")
    assert "answer of judge" not in done.stdout


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/save my file.json ", ("save", "my file.json")),
        ("  /Help", ("help", "")),
        ("/etc/hosts: what is it?", None),
        ("/", None),
        ("a /help", None),
    ],
)
def test_a_command_is_told_from_a_question(line: str, found: tuple[str, str] | None) -> None:
    assert command_in(line) == found


def test_a_turn_that_fails_does_not_end_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(messages: Any) -> str | Exception:
        return ValueError("not now") if messages[-1].content == "bad" else f"{len(messages)} messages"

    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: ScriptedLLM(script))
    done = chat("good", "bad", "good", words=("--models", "scripted:a", "--layers", "1", "--no-trace"))
    assert done.exit_code == 1
    assert done.stdout == "1 messages\n3 messages\n"
    assert "not now" in done.stderr


def test_it_is_saved_whole_and_over_nothing_else(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine", encoding="utf-8")
    file = tmp_path / "chat.json"
    done = chat("Why?", "/save", f"/save {mine}", f"/save {file}", "More?", f"/save {file}", "/save no/where")
    assert "Say where" in done.stdout
    assert f"{mine} exists" in done.stdout
    assert "cannot be written" in done.stdout
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert [(said["role"], said["content"]) for said in saved["messages"]] == [
        ("user", "Why?"),
        ("assistant", "answer of judge"),
        ("user", "More?"),
        ("assistant", "answer of judge"),
    ]
    assert saved["turns"][1]["question"] == "More?"
    assert mine.read_text(encoding="utf-8") == "mine"


def test_a_mixture_that_cannot_work_is_refused() -> None:
    done = chat("Why?", words=("--models", "nobody:a"))
    assert (done.exit_code, done.stdout) == (2, "")


def test_standard_input_that_is_not_text() -> None:
    done = CliRunner().invoke(app, ["chat", *TWO], input=b"Why?\n\xff\n", catch_exceptions=False)
    assert "not text" in done.stderr


def test_everything_behind_an_answer_is_told() -> None:
    response = MixtureResponse(
        text="42",
        proposals=[Proposal(proposer="a", layer=1, text="\x1b[2J42", usage=Usage(completion_tokens=1))],
        missing=[Missing(proposer="b", layer=1, reason="down", status=500)],
        roles=[Cast(layer=1, roles=[Role(name="a nurse", perspective="Looks at people.")])],
        condensed=[Proposal(proposer="j", layer=1, text="all say 42")],
        decision=Decision(chosen="a", reason="most say so", votes={"42": ["a"]}, ties=["42", "41"]),
        stopped_after=1,
    )
    assert proposals_of(response).split("\n\n") == [
        "Round 1",
        "roles, written for this question:\n  You are a nurse. Looks at people.",
        "a (0.0 s, 1 token):\n[2J42",
        "missing: b, layer 1: down (HTTP 500)",
        "passed on, condensed by j:\nall say 42",
        "They agreed after round 1; the others were left out.",
        "Chosen: a, because most say so",
        "  42: a",
        "  a tie of 42, 41",
    ]


def test_what_is_estimated_is_marked() -> None:
    usage = Usage(prompt_tokens=1000, completion_tokens=5, cost_usd=0.25, estimated=True)
    response = MixtureResponse(text="x", usage=usage)
    assert usage_of([response, response]) == (
        "last: about 1,000 tokens read, 5 written, $0.2500\n"
        "all:  about 2,000 tokens read, 10 written, $0.5000, 2 turns"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_cancels_the_answer_alone_and_ctrl_d_leaves(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("chat", "--models", "slow:a", "--layers", "2", "--no-trace"),
        env=environment(MOA_TEST_TRACES=str(tmp_path), TERM="xterm-256color"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    seen = bytearray()
    reader = threading.Thread(target=read_all, args=(ours, seen))
    reader.start()
    try:
        os.write(ours, b"Why?\n")
        assert wait_until(lambda: bool(list(tmp_path.glob("*.asked"))), seconds=30)
        process.send_signal(signal.SIGINT)
        assert wait_until(lambda: b"moa: cancelled" in seen)
        os.write(ours, b"/usage\n")
        assert wait_until(lambda: b"Nothing was asked yet." in seen)
        os.write(ours, b"\x04")
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        reader.join()
        os.close(ours)
    assert list(tmp_path.glob("*.cancelled"))
    assert b"/help lists what else there is" in seen


def read_all(terminal: int, seen: bytearray) -> None:
    """Read what a program writes to a terminal; one that nobody reads would stop it."""
    try:
        while piece := os.read(terminal, 65536):
            seen += piece
    except OSError:
        return  # Linux reports the closed terminal of an ended program as an error
