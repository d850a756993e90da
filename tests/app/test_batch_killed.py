"""A batch killed half way, and started again: no call that was answered is made twice, none is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.app.conftest import command, environment
from tests.loopback.fault_server import Answer, Attempt, FaultServer, Hang, wait_until

ROWS = 200
SETTLING = 1.0
"""Seconds for what the server had answered to be written down; then only calls without an answer are out."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_half_way_nobody_is_asked_twice_and_nothing_is_lost(tmp_path: Path) -> None:
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text("".join(f'{{"id": "q{n}", "prompt": "Question {n}?"}}\n' for n in range(ROWS)))
    with FaultServer() as server:
        words = (str(prompts), "-o", str(output), "--concurrency", "16", "--layers", "2", "--no-trace")
        batch = command("batch", *words, "--models", f"openai-like:a@{server.url}/v1")
        killed = subprocess.Popen(batch, env=environment(), stderr=subprocess.PIPE)
        assert wait_until(lambda: done_rows(output) > ROWS // 2, seconds=40)
        server.default = Hang()
        time.sleep(SETTLING)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        before = done_rows(output)
        assert ROWS // 2 < before < ROWS
        assert wait_until(lambda: server.hung_up() > 0 and server.connections == 0)
        unanswered = {id(attempt) for attempt in server.seen if attempt.hung_up.is_set()}
        server.default = Answer()
        resumed = subprocess.run(
            batch, env=environment(), capture_output=True, text=True, timeout=50, check=False
        )
        assert resumed.returncode == 0, resumed.stderr
        answered = Counter(asked(attempt) for attempt in server.seen if id(attempt) not in unanswered)
    assert set(answered.values()) == {1}
    assert len(answered) == 2 * ROWS
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [answer["id"] for answer in answers] == [f"q{n}" for n in range(ROWS)]
    assert all(answer["error"] is None and not answer["degraded"] for answer in answers)
    assert [path.name for path in tmp_path.iterdir() if path not in (prompts, output)] == []


def asked(attempt: Attempt) -> str:
    """What a request asked of whom."""
    return json.dumps([attempt.model, attempt.body["messages"]], sort_keys=True)


def done_rows(output: Path) -> int:
    return output.read_bytes().count(b"\n") if output.exists() else 0
