"""Checkpoints: a run killed at any moment resumes, and nobody who answered is asked again.

Run as a script, this file is the process that gets killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse

from llama_index.packs.mixture_of_agents import Missing, MixtureOfAgentsPack, MixtureResponse, Proposal
from llama_index.packs.mixture_of_agents.checkpoint import Checkpoint, CheckpointFile
from llama_index.packs.mixture_of_agents.errors import CheckpointError, ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.sampling import Sampling
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

QUESTION = "Why is the sky blue?"
PROPOSERS = ("a", "b", "c")
PLACES = [*((layer, name) for layer in (1, 2) for name in PROPOSERS), (3, "g")]
NEVER = 60.0


def note(log: Path, line: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(line)


class LoggingLLM(ScriptedLLM):
    """Writes each call to a file before it answers; hangs in the round it is told to."""

    log: str
    hangs_in: int

    def __init__(self, name: str, log: Path, hangs_in: int) -> None:
        super().__init__("unused", model=name, log=str(log), hangs_in=hangs_in)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        layer = 3 if self.model == "g" else 2 if "[a1]" in (messages[0].content or "") else 1
        note(Path(self.log), f"{layer}{self.model}\n")
        if layer == self.hangs_in:
            await asyncio.sleep(NEVER)
        message = ChatMessage(role="assistant", content=f"[{self.model}{layer}]")
        return ChatResponse(message=message, raw={"usage": {"prompt_tokens": 1, "completion_tokens": 1}})


def logging_pack(log: Path, hanging: str = "", **options: Any) -> MixtureOfAgentsPack:
    """A mixture of three, two rounds and a synthesis; `hanging` is a place, "2c" for instance."""

    def model(name: str) -> LoggingLLM:
        hangs_in = int(hanging[0]) if hanging[1:] == name else 0
        return LoggingLLM(name, log, hangs_in)

    return MixtureOfAgentsPack(model("g"), [model(name) for name in PROPOSERS], **options)


def asked(log: Path) -> list[tuple[int, str]]:
    lines = log.read_text(encoding="utf-8").split() if log.exists() else []
    return sorted((int(line[0]), line[1:]) for line in lines)


def answered(checkpoint: Path) -> list[tuple[int, str]]:
    """Who answered, by the file; reading it at any moment must give one state or the next."""
    if not checkpoint.exists():
        return []
    file = CheckpointFile.model_validate_json(content_of(checkpoint))
    return [
        (entry.layer, entry.outcome.proposer)
        for entry in file.answered
        if isinstance(entry.outcome, Proposal)
    ]


def reached(checkpoint: Path) -> int:
    """The furthest layer that was begun, by the file."""
    return CheckpointFile.model_validate_json(content_of(checkpoint)).layer


def content_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def whole(response: MixtureResponse) -> bool:
    texts = [proposal.text for proposal in response.proposals]
    return response.text == "[g3]" and texts == [f"[{name}{layer}]" for layer in (1, 2) for name in PROPOSERS]


def call(layer: int = 1, index: int = 0, proposer: str = "a") -> Call:
    return Call("run", layer, index, proposer, [ChatMessage(content=QUESTION)], Sampling())


def proposal(layer: int = 1, proposer: str = "a", text: str = "an answer") -> Proposal:
    return Proposal(proposer=proposer, layer=layer, text=text)


def missing(layer: int = 1, proposer: str = "b") -> Missing:
    return Missing(proposer=proposer, layer=layer, reason="down", status=503)


# Killed


def wait_for_answers(process: subprocess.Popen[bytes], checkpoint: Path, log: Path, hanging: str) -> None:
    place = (int(hanging[0]), hanging[1:])
    before = [p for p in PLACES if p < place or (p[0] == place[0] and p != place)]
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if answered(checkpoint) == before and place in asked(log):
            return
        if process.poll() is not None:
            pytest.fail(f"the process ended by itself with {process.returncode}")
        time.sleep(0.005)
    pytest.fail(f"it never came to {hanging}: asked {asked(log)}, answered {answered(checkpoint)}")


def start(checkpoint: Path, log: Path, hanging: str) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, __file__, str(checkpoint), str(log), hanging]
    return subprocess.Popen(command, env=environment, cwd=root)


async def test_killed_in_any_round_it_resumes_and_asks_nobody_again_who_answered(tmp_path: Path) -> None:
    moments = ("1c", "2c", "3g")
    files = {moment: (tmp_path / f"{moment}.json", tmp_path / f"{moment}.log") for moment in moments}
    processes = {moment: start(*files[moment], moment) for moment in moments}
    try:
        for moment, process in processes.items():
            wait_for_answers(process, *files[moment], moment)
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    for moment, (checkpoint, log) in files.items():
        before, known = asked(log), answered(checkpoint)
        assert before == sorted([*known, (int(moment[0]), moment[1:])])
        log.unlink()
        response = await logging_pack(log).arun(QUESTION, checkpoint=checkpoint)
        assert asked(log) == [place for place in PLACES if place not in known]
        assert whole(response)
        assert not response.degraded


@pytest.mark.parametrize("answers", range(len(PLACES) + 1))
async def test_stopped_after_any_number_of_answers_it_resumes(tmp_path: Path, answers: int) -> None:
    checkpoint, log = tmp_path / "run.json", tmp_path / "run.log"

    class Stop:
        """Ends the run where it stands, as a crash would."""

        count = 0

        async def before(self, _: Call) -> None:
            if self.count == answers:
                task.cancel()
                await asyncio.sleep(NEVER)

        async def after(self, _: Call, __: Proposal | Missing) -> None:
            self.count += 1

    first = logging_pack(log, policies=[Stop()], max_concurrency=1)
    task = asyncio.ensure_future(first.arun(QUESTION, checkpoint=checkpoint))
    await asyncio.wait({task})
    known = answered(checkpoint)
    assert asked(log) == known
    assert len(known) == answers
    log.unlink(missing_ok=True)

    response = await logging_pack(log).arun(QUESTION, checkpoint=str(checkpoint))

    assert asked(log) == [place for place in PLACES if place not in known]
    assert whole(response)


async def test_a_finished_run_is_answered_from_its_file(tmp_path: Path) -> None:
    checkpoint, log = tmp_path / "run.json", tmp_path / "run.log"
    first = await logging_pack(log).arun(QUESTION, checkpoint=checkpoint)
    log.unlink()
    again = await logging_pack(log).arun(QUESTION, checkpoint=checkpoint)
    assert asked(log) == []
    assert (again.text, again.proposals, again.usage) == (first.text, first.proposals, first.usage)


async def test_who_was_cut_from_a_closed_round_stays_cut_when_it_resumes(tmp_path: Path) -> None:
    """Else a resumed round one could hold more than round two has read."""
    checkpoint = tmp_path / "run.json"
    quick, stuck = ScriptedLLM("quick", model="quick"), ScriptedLLM("late", model="slow", latency=NEVER)

    def pack(slow: ScriptedLLM, aggregator: ScriptedLLM) -> MixtureOfAgentsPack:
        return MixtureOfAgentsPack(aggregator, [quick, slow], 2, quorum=1)

    task = asyncio.ensure_future(
        pack(stuck, ScriptedLLM("x", model="g", latency=NEVER)).arun(QUESTION, checkpoint=checkpoint)
    )
    for _ in range(1000):
        await asyncio.sleep(0.005)
        if checkpoint.exists() and reached(checkpoint) == 2:
            break
    task.cancel()
    await asyncio.wait({task})

    recovered = ScriptedLLM("late", model="slow")
    response = await pack(recovered, ScriptedLLM("done", model="g")).arun(QUESTION, checkpoint=checkpoint)

    assert recovered.calls == []
    assert [gone.proposer for gone in response.missing] == ["slow"]
    assert "quorum" in response.missing[0].reason


async def test_a_failure_in_an_open_round_is_asked_again(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "run.json", "f")
    await first.after(call(1, 0), proposal())
    await first.after(call(1, 1, "b"), missing())
    resumed = Checkpoint(tmp_path / "run.json", "f")
    assert await resumed.before(call(1, 0)) == proposal()
    assert await resumed.before(call(1, 1, "b")) is None


async def test_a_failure_in_a_closed_round_stands(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "run.json", "f")
    await first.after(call(1, 1, "b"), missing())
    await first.before(call(2, 0))
    resumed = Checkpoint(tmp_path / "run.json", "f")
    assert await resumed.before(call(1, 1, "b")) == missing()


# Refused


async def saved(path: Path) -> str:
    checkpoint = Checkpoint(path, "f")
    await checkpoint.after(call(), proposal(text="Ünïcode"))
    return content_of(path)


async def test_a_file_torn_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    text = await saved(path)
    for length in range(0, len(text), 7):
        path.write_text(text[:length], encoding="utf-8")
        with pytest.raises(CheckpointError, match="not a readable checkpoint"):
            Checkpoint(path, "f")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'{"fingerprint": "f", "answered": [{"layer": 1}]}',
        b"Dear diary",
    ],
)
def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="Delete it to start over"):
        Checkpoint(path, "f")
    assert path.read_bytes() == content


async def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(await saved(path)), "version": 99}), encoding="utf-8")
    with pytest.raises(CheckpointError):
        Checkpoint(path, "f")


@pytest.mark.parametrize("change", ["question", "settings", "proposers"])
async def test_a_file_of_another_question_or_mixture_is_refused_before_any_call(
    tmp_path: Path, change: str
) -> None:
    checkpoint, log = tmp_path / "run.json", tmp_path / "run.log"
    await logging_pack(log).arun(QUESTION, checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    log.unlink()
    changes: dict[str, dict[str, Any]] = {
        "settings": {"temperature": 0.3},
        "proposers": {"nb_models_by_layer": 2},
    }
    pack = logging_pack(log, **changes.get(change, {}))
    with pytest.raises(CheckpointError, match="another question or another mixture"):
        await pack.arun("Why not?" if change == "question" else QUESTION, checkpoint=checkpoint)
    assert asked(log) == []
    assert checkpoint.read_bytes() == before


def test_a_place_that_cannot_hold_a_file_is_refused_before_any_call(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    for path in (tmp_path / "nowhere" / "run.json", tmp_path):
        with pytest.raises(CheckpointError) as raised:
            asyncio.run(logging_pack(log).arun(QUESTION, checkpoint=path))
        assert isinstance(raised.value, ConfigurationError)
    assert asked(log) == []


# Atomic


async def test_a_write_that_fails_leaves_the_state_before_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    before = await saved(path)
    checkpoint = Checkpoint(path, "f")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="no space"):
                await checkpoint.after(call(1, 1, "b"), proposal(proposer="b"))
        assert content_of(path) == before
        assert os.listdir(tmp_path) == ["run.json"]


async def test_who_reads_while_it_is_written_always_reads_one_whole_state(tmp_path: Path) -> None:
    path, done, read = tmp_path / "run.json", threading.Event(), [0]
    checkpoint = Checkpoint(path, "f")
    await checkpoint.after(call(), proposal(text="x" * 200_000))

    def watch() -> None:
        while not done.is_set():
            read.append(len(answered(path)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for index in range(1, 30):
        await checkpoint.after(call(1, index), proposal(text="x" * 20_000))
    done.set()
    watcher.join(10)
    assert read == sorted(read)
    assert read[-1] > 1


if __name__ == "__main__":
    asyncio.run(logging_pack(Path(sys.argv[2]), sys.argv[3]).arun(QUESTION, checkpoint=sys.argv[1]))
