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
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from pydantic import PrivateAttr

from llama_index.packs.mixture_of_agents import Missing, MixtureOfAgentsPack, MixtureResponse, Proposal
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.errors import (
    CheckpointError,
    ConfigurationError,
    MixtureTimeoutError,
)
from llama_index.packs.mixture_of_agents.facts import MixtureFacts
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Task
from llama_index.packs.mixture_of_agents.runs.checkpoint import Checkpoint, CheckpointFile
from llama_index.packs.mixture_of_agents.runs.mixture import seat_mixture
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

    _log: Path = PrivateAttr()
    _hangs_in: int = PrivateAttr()

    def __init__(self, name: str, log: Path, hangs_in: int) -> None:
        super().__init__("unused", model=name)
        self._log, self._hangs_in = log, hangs_in

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        layer = 3 if self.model == "g" else 2 if "[a1]" in (messages[0].content or "") else 1
        note(self._log, f"{layer}{self.model}\n")
        if layer == self._hangs_in:
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


def mixture(rounds: int) -> MixtureFacts:
    proposers = [ScriptedLLM("x", model=name) for name in PROPOSERS]
    return seat_mixture(proposers, ScriptedLLM("x", model="g"), num_layers=rounds + 1).facts


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
            await self.stop_at(answers)

        async def after(self, _: Call, __: Proposal | Missing) -> None:
            self.count += 1
            await self.stop_at(answers)

        async def stop_at(self, count: int) -> None:
            if self.count >= count:
                task.cancel()
                await asyncio.sleep(NEVER)

    first = logging_pack(log, policies=[Stop()], max_concurrency=1)
    task = asyncio.ensure_future(first.arun(QUESTION, checkpoint=checkpoint))
    await asyncio.wait({task})
    known = answered(checkpoint)
    assert set(known) <= set(asked(log))
    assert len(known) >= answers
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
    first.close()
    resumed = Checkpoint(tmp_path / "run.json", "f")
    assert await resumed.before(call(1, 0)) == proposal()
    assert await resumed.before(call(1, 1, "b")) is None


async def test_a_failure_in_a_closed_round_stands(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "run.json", "f")
    await first.after(call(1, 1, "b"), missing())
    await first.before(call(2, 0))
    first.close()
    resumed = Checkpoint(tmp_path / "run.json", "f")
    assert await resumed.before(call(1, 1, "b")) == missing()


# Refused


async def saved(path: Path) -> str:
    checkpoint = Checkpoint(path, "f")
    await checkpoint.after(call(), proposal(text="Ünïcode"))
    checkpoint.close()
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
    for later in ({**json.loads(await saved(path)), "version": 99}, {"version": 99, "shape": "unheard of"}):
        path.write_text(json.dumps(later), encoding="utf-8")
        with pytest.raises(
            CheckpointError, match="layout 99, and this version of the package knows 2"
        ) as raised:
            Checkpoint(path, "f")
        assert "Delete" not in str(raised.value)


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


async def test_a_model_with_other_settings_of_its_own_is_another_mixture(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.json"
    before = ScriptedLLM("x", additional_kwargs={"top_p": 0.1})
    await MixtureOfAgentsPack(before, [before], 2).arun(QUESTION, checkpoint=checkpoint)
    for same in (before, ScriptedLLM("x", additional_kwargs={"top_p": 0.1}, latency=0.001)):
        await MixtureOfAgentsPack(same, [same], 2).arun(QUESTION, checkpoint=checkpoint)
    after = ScriptedLLM("x", additional_kwargs={"top_p": 0.9})
    with pytest.raises(CheckpointError, match="another mixture"):
        await MixtureOfAgentsPack(after, [after], 2).arun(QUESTION, checkpoint=checkpoint)
    assert not after.calls


def test_a_place_that_cannot_hold_a_file_is_refused_before_any_call(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    for path in (tmp_path / "nowhere" / "run.json", tmp_path):
        with pytest.raises(CheckpointError) as raised:
            asyncio.run(logging_pack(log).arun(QUESTION, checkpoint=path))
        assert isinstance(raised.value, ConfigurationError)
    assert asked(log) == []


@pytest.mark.parametrize("path", ["{}/a\0b", "{}/" + "x" * 300, "{}/loop"])
def test_a_path_the_system_refuses_is_refused_before_any_call(tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    log = tmp_path / "run.log"
    with pytest.raises(CheckpointError, match="another path"):
        logging_pack(log).run(QUESTION, checkpoint=path.format(tmp_path))
    assert asked(log) == []


def test_a_folder_that_takes_no_file_is_found_before_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError("not yours")

    log = tmp_path / "run.log"
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CheckpointError, match=r"not yours.*pass another path"):
        logging_pack(log).run(QUESTION, checkpoint=tmp_path / "run.json")
    assert asked(log) == []
    assert os.listdir(tmp_path) == []


def test_a_folder_is_not_to_be_deleted(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder") as raised:
        Checkpoint(tmp_path, "f")
    assert "Delete" not in str(raised.value)


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    link.symlink_to(target)
    logging_pack(tmp_path / "run.log").run(QUESTION, checkpoint=link)
    assert link.is_symlink()
    assert len(answered(target)) == len(PLACES)


@pytest.mark.parametrize(
    "change",
    [
        {"layer": 0},
        {"layer": 3},
        {"layer": 4},
        {"index": -1},
        {"index": 3},
        {"index": 1},
        {"outcome": {"proposer": "b", "layer": 1, "text": "forged"}},
        {"outcome": {"proposer": "a", "layer": 2, "text": "forged"}},
    ],
    ids=str,
)
def test_a_file_with_someone_who_has_no_such_place_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "run.json"
    entry = {"layer": 1, "index": 0, "outcome": {"proposer": "a", "layer": 1, "text": "x"}, **change}
    path.write_text(json.dumps({"version": 2, "fingerprint": "f", "answered": [entry]}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"was changed.*Delete it"):
        Checkpoint(path, "f", mixture(2))


@pytest.mark.parametrize("layer", [-1, 0, 4])
def test_a_file_that_is_in_no_layer_is_refused(tmp_path: Path, layer: int) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"version": 2, "fingerprint": "f", "layer": layer}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="was changed"):
        Checkpoint(path, "f", mixture(2))


async def test_a_stand_in_for_the_aggregator_has_a_place(tmp_path: Path) -> None:
    path, names = tmp_path / "run.json", mixture(1)
    first = Checkpoint(path, "f", names)
    await first.after(call(2, 0, "g"), missing(2, "g"))
    await first.after(call(2, 1, "a"), proposal(2, "a"))
    first.close()
    assert await Checkpoint(path, "f", names).before(call(2, 1, "a")) == proposal(2, "a")


# Alone


def test_a_file_in_use_is_refused_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    first = Checkpoint(path, "f")
    with pytest.raises(CheckpointError, match=r"Another run is using.*another path"):
        Checkpoint(path, "f")
    first.close()
    first.close()
    Checkpoint(path, "f").close()
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_checkpoint_nobody_keeps_gives_its_file_free(tmp_path: Path) -> None:
    for _ in range(2):
        Checkpoint(tmp_path / "run.json", "f")


async def test_of_two_runs_at_once_on_one_file_the_second_is_refused(tmp_path: Path) -> None:
    checkpoint, log = tmp_path / "run.json", tmp_path / "run.log"
    task = asyncio.ensure_future(logging_pack(log, "1c").arun(QUESTION, checkpoint=checkpoint))
    for _ in range(1000):
        await asyncio.sleep(0.005)
        if len(answered(checkpoint)) == 2:
            break
    with pytest.raises(CheckpointError, match="Another run"):
        await logging_pack(log).arun(QUESTION, checkpoint=checkpoint)
    task.cancel()
    await asyncio.wait({task})
    assert whole(await logging_pack(log).arun(QUESTION, checkpoint=checkpoint))


async def test_a_run_lets_go_of_its_file_when_it_ends_however_it_ends(tmp_path: Path) -> None:
    checkpoint, log = tmp_path / "run.json", tmp_path / "run.log"
    with pytest.raises(MixtureTimeoutError):
        await logging_pack(log, "2c", timeout=0.3).arun(QUESTION, checkpoint=checkpoint)
    with pytest.raises(MixtureTimeoutError):
        await logging_pack(log, "3g", timeout=0.3).workflow.run(
            query_str=QUESTION, checkpoint=checkpoint, streams=False
        )
    for _ in range(3):
        response = await logging_pack(log).workflow.run(
            query_str=QUESTION, checkpoint=checkpoint, streams=False
        )
        assert whole(response)
        await logging_pack(log).arun(QUESTION, checkpoint=checkpoint)
    assert sorted(os.listdir(tmp_path)) == ["run.json", "run.log"]


async def test_what_comes_after_it_was_closed_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    before = await saved(path)
    checkpoint = Checkpoint(path, "f")
    checkpoint.close()
    await checkpoint.after(call(1, 1, "b"), proposal(proposer="b"))
    assert content_of(path) == before


# Atomic


async def test_the_loop_goes_on_while_a_slow_disk_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, released = Checkpoint(tmp_path / "run.json", "f"), threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: released.wait(10))
    saves = [asyncio.ensure_future(checkpoint.after(call(1, n), proposal())) for n in range(5)]
    await asyncio.sleep(0.05)
    assert not any(save.done() for save in saves)
    released.set()
    await asyncio.gather(*saves)
    assert len(answered(tmp_path / "run.json")) == 5


async def test_an_answer_whose_writing_was_cut_short_is_written_at_the_end(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.json", "f")
    save = asyncio.ensure_future(checkpoint.after(call(), proposal()))
    await asyncio.sleep(0)
    save.cancel()
    await asyncio.wait({save})
    checkpoint.close()
    assert answered(tmp_path / "run.json") == [(1, "a")]


async def test_a_disk_that_fills_up_costs_the_run_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: int) -> None:
        raise OSError("no space left on device")

    class Full:
        async def before(self, _: Call) -> None: ...

        async def after(self, _: Call, __: Proposal | Missing) -> None:
            monkeypatch.setattr(os, "fsync", fail)

    pack = logging_pack(tmp_path / "run.log", policies=[Full()])
    response = await pack.arun(QUESTION, checkpoint=tmp_path / "run.json")
    assert whole(response)
    assert not response.degraded
    assert "no space left on device" in caplog.text


async def test_any_text_comes_back_as_it_was(tmp_path: Path) -> None:
    said = proposal(text="half a pair: \ud83d, \u2028, Ünïcode, \0")
    first = Checkpoint(tmp_path / "run.json", "f")
    await first.after(call(), said)
    first.close()
    assert await Checkpoint(tmp_path / "run.json", "f").before(call()) == said


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
            with pytest.raises(CheckpointError, match=r"cannot be written \(no space.*Make room"):
                await checkpoint.after(call(1, 1, "b"), proposal(proposer="b"))
        assert content_of(path) == before
        assert sorted(os.listdir(tmp_path)) == ["run.json", "run.json.lock"]
    checkpoint.close()
    assert answered(path) == [(1, "a"), (1, "b")]
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


# Steps within a layer


async def test_roles_that_could_not_be_written_stay_unwritten_once_proposals_were_asked_for(
    tmp_path: Path,
) -> None:
    def step(task: Task, index: int, name: str) -> Call:
        return replace(call(1, index, name), task=task)

    first = Checkpoint(tmp_path / "run.json", "f")
    await first.before(step("roles", -1, "w"))
    await first.after(step("roles", -1, "w"), missing(1, "w"))
    await first.before(step("propose", 0, "a"))
    await first.after(step("propose", 0, "a"), proposal(1, "a"))
    first.close()
    again = Checkpoint(tmp_path / "run.json", "f")
    assert await again.before(step("roles", -1, "w")) == missing(1, "w")
    assert await again.before(step("propose", 0, "a")) == proposal(1, "a")


async def test_a_proposer_whose_round_was_condensed_without_it_is_not_asked_again(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "run.json", "f")
    await first.before(call(1, 1, "b"))
    await first.after(call(1, 1, "b"), missing(1, "b"))
    await first.before(replace(call(1, 2, "g"), task="condense"))
    first.close()
    assert await Checkpoint(tmp_path / "run.json", "f").before(call(1, 1, "b")) == missing(1, "b")
