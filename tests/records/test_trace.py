"""The trace of real runs: what is in it, what is not, and that nothing it meets stops the run."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import multiprocessing
import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ImageBlock,
    MessageRole,
    TextBlock,
)

from llama_index.packs.mixture_of_agents import (
    ConfigurationError,
    MixtureError,
    MixtureOfAgentsPack,
    MixtureTimeoutError,
)
from llama_index.packs.mixture_of_agents.agreement import Agreement
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces import lines as line_file
from llama_index.packs.mixture_of_agents.records.traces import writing
from llama_index.packs.mixture_of_agents.records.traces.lines import Appender, append
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.records.traces.schema import (
    SCHEMA,
    CallAnswered,
    CallMissing,
)
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, Script, ScriptedLLM

ODD = ["{} {0} %s %", "NUL \x00 in it", "half \ud800 and \udfff", "a" * 1_000_000, "\u2028 line\r\nends\n"]


def pack_of(path: Path, *scripts: Script, **options: Any) -> MixtureOfAgentsPack:
    models = [ScriptedLLM(script, model=f"m{number}") for number, script in enumerate(scripts)]
    settings = {"num_layers": 2, "trace": str(path), **options}
    return MixtureOfAgentsPack(ScriptedLLM("answer", model="judge"), models, **settings)


def only_run(path: Path) -> RunRecord:
    (run,) = read_trace(path)
    return run


def kinds(path: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in path.read_text().splitlines()]


def test_a_run_is_in_its_trace_from_beginning_to_end(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    response = pack_of(path, "one", "two", temperature=0.5, config={"name": "mine"}).run("Why?")
    run = only_run(path)
    assert (run.run_id, run.status, run.answer) == (response.run_id, "answered", "answer")
    assert (run.question_text, run.mixture.config) == ("Why?", {"name": "mine"})
    assert run.started.packages["llama-index-core"]
    assert [(c.asked.proposer, c.asked.task, c.asked.place) for c in run.calls] == [
        ("m0", "propose", (1, 0, 0)),
        ("m1", "propose", (1, 1, 0)),
        ("judge", "synthesize", (2, 0, 0)),
    ]
    first, last = run.calls[0], run.calls[-1]
    assert first.asked.sampling.temperature == 0.5
    assert str(first.asked.identity) == "ScriptedLLM(m0)"
    assert isinstance(first.outcome, CallAnswered)
    assert (first.outcome.text, first.outcome.usage.prompt_tokens) == ("one", 1)
    assert "=== draft 2\ntwo" in (last.messages[0].content or "")
    assert run.ended is not None
    assert run.ended.usage == response.usage


def test_each_line_says_its_schema_run_time_and_kind(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    pack_of(path, "one").run("Why?")
    for line in path.read_text().splitlines():
        head = list(json.loads(line))[:4]
        assert head == ["schema", "run", "time", "kind"]
        assert json.loads(line)["schema"] == SCHEMA
    assert kinds(path)[:3] == ["message", "run_started", "call_asked"]
    assert kinds(path)[-1] == "run_ended"


def test_the_same_message_stands_there_once(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    pack_of(path, *["one"] * 5, num_layers=3).run("Why in the world?")
    assert path.read_text().count("Why in the world?") == 1
    assert kinds(path).count("message") == 3  # the question, the drafts for proposers, those for the judge


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_texts_come_back_as_they_were(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.jsonl"
    pack_of(path, "one").run(text)
    run = only_run(path)
    assert run.question_text == text
    assert path.read_bytes().isascii()


@pytest.mark.parametrize("text", [ODD[0], ODD[1], ODD[3], ODD[4]], ids=range(4))
def test_odd_answers_come_back_as_they_were(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.jsonl"
    pack_of(path, text).run("Why?")
    outcome = only_run(path).calls[0].outcome
    assert isinstance(outcome, CallAnswered)
    assert outcome.text == text


def test_attachments_and_foreign_objects_do_not_stop_it(tmp_path: Path) -> None:
    class Foreign:
        pass

    path = tmp_path / "t.jsonl"
    blocks = [TextBlock(text="What is this?"), ImageBlock(image=b"\x89PNG\xff\x00")]
    asked = ChatMessage(role=MessageRole.USER, blocks=blocks, additional_kwargs={"own": Foreign()})
    pack_of(path, "one").run([asked])
    (kept,) = only_run(path).question
    assert kept.blocks[0] == asked.blocks[0]
    assert "Foreign object" in kept.additional_kwargs["own"]
    assert " at 0x" not in path.read_text()


def test_a_call_that_is_tried_again_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    pack_of(path, [ConnectionError("down"), "one"], [ValueError("no")], max_retries=1).run("Why?")
    run = only_run(path)
    assert [(retry.proposer, retry.reason) for retry in run.retries] == [("m0", "ConnectionError: down")]
    answered, missing = run.calls[0].outcome, run.calls[1].outcome
    assert isinstance(answered, CallAnswered)
    assert isinstance(missing, CallMissing)
    assert (answered.retries, missing.reason, run.status) == (1, "ValueError: no", "degraded")


def test_agreement_and_votes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    scripts = ["The answer is 4", "The answer is 4"]
    pack_of(path, *scripts, num_layers=4, stop_early=Agreement(), finish="vote").run("2+2?")
    run = only_run(path)
    assert run.ended is not None
    assert run.ended.decision is not None
    assert (run.ended.stopped_after, run.ended.decision.votes) == (1, {"4": ["m0", "m1"]})
    assert run.agreed is not None
    assert run.agreed.layer == 1


def test_a_failed_run_has_its_error(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    judge = ScriptedLLM([ValueError("judge down")], model="judge")
    pack = MixtureOfAgentsPack(judge, [ScriptedLLM([ValueError("m0 down")])], 2, trace=Trace(path))
    with pytest.raises(MixtureError):
        pack.run("Why?")
    run = only_run(path)
    assert (run.status, run.answer) == ("failed", "")
    assert run.ended is not None
    assert run.ended.error is not None
    assert "judge down" in run.ended.error.message


def test_a_run_out_of_time_has_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    slow = LatencyLLM(5.0, model="slow")
    pack = MixtureOfAgentsPack(slow, [ScriptedLLM("one"), slow], 2, timeout=0.3, trace=Trace(path))
    with pytest.raises(MixtureTimeoutError):
        pack.run("Why?")
    run = only_run(path)
    assert run.status == "timeout"
    assert [call.outcome is not None for call in run.calls] == [True, False]


async def test_a_cancelled_run_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    pack = MixtureOfAgentsPack(LatencyLLM(5.0), [LatencyLLM(5.0)], 2, trace=Trace(path))
    task = asyncio.ensure_future(pack.arun("Why?"))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert only_run(path).status == "cancelled"


def test_each_run_has_a_file_of_its_own_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "moa"
    pack = pack_of(tmp_path, "one", trace=Trace(folder=folder, clock=lambda: 1_000_000_000.25))
    ids = [pack.run("Why?").run_id, pack.run("Why?").run_id]
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(f"20010909T014640.250000Z-{run_id}.jsonl" for run_id in ids)
    assert {run.run_id for run in read_trace(folder)} == set(ids)


def test_many_runs_at_once_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    pack = pack_of(path, "one", "two", num_layers=3)
    questions = [f"Why {number}? {'long ' * 2000}" for number in range(20)]

    async def ask() -> None:
        await asyncio.gather(*(pack.arun(question) for question in questions))

    asyncio.run(ask())
    runs = read_trace(path)
    assert sorted(run.question_text for run in runs) == sorted(questions)
    assert {(run.status, len(run.calls)) for run in runs} == {("answered", 5)}


def _append_many(path: Path, name: str) -> None:
    for number in range(40):
        append(path, json.dumps({"name": name, "number": number, "fill": name * 20_000}) + "\n")


def test_processes_and_threads_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    context = multiprocessing.get_context("spawn")
    workers: list[Any] = [context.Process(target=_append_many, args=(path, "a"))]
    workers += [threading.Thread(target=_append_many, args=(path, name)) for name in "bcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == 160
    for name in "abcd":
        assert [line["number"] for line in found if line["name"] == name] == list(range(40))


def test_a_half_line_of_a_killed_process_stays_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"schema": 1, "ru')
    pack_of(path, "one").run("Why?")
    first, *others = path.read_text().splitlines()
    assert first == '{"schema": 1, "ru'
    assert all(json.loads(line) for line in others)
    assert only_run(path).status == "answered"


def test_a_killed_run_leaves_a_readable_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    program = textwrap.dedent(
        f"""
        import os, time
        from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
        from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

        def die(messages):
            time.sleep(0.5)
            os.kill(os.getpid(), 9)

        pack = MixtureOfAgentsPack(ScriptedLLM(die), [ScriptedLLM("one")], 2, trace={str(path)!r})
        pack.run("Why?")
        """
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    run = only_run(path)
    assert (run.status, run.question_text) == ("unfinished", "Why?")
    assert [call.outcome is not None for call in run.calls] == [True, False]


def test_its_owner_alone_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    pack_of(path, "one").run("Why?")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EMFILE])
def test_a_file_that_cannot_be_opened_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(writing, "append", refuse)
    pack = pack_of(tmp_path / "t.jsonl", "one", "two")
    assert [pack.run("Why?").text for _ in range(2)] == ["answer"] * 2
    (warning,) = caplog.records
    assert os.strerror(code) in warning.getMessage()


def test_what_cannot_be_written_is_one_warning_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    pack = pack_of(tmp_path, "one", trace=Trace(folder=tmp_path / "file" / "logs"))
    with caplog.at_level(logging.WARNING):
        assert [pack.run("Why?").text for _ in range(3)] == ["answer"] * 3
    (warning,) = caplog.records
    assert "cannot be written" in warning.getMessage()


def test_a_full_disk_is_one_warning_and_leaves_whole_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, room, write = tmp_path / "t.jsonl", [3000], os.write

    def until_full(handle: int, data: Any) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = write(handle, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", until_full)
    assert pack_of(path, "one" * 1000, "two" * 1000).run("Why?").text == "answer"
    monkeypatch.undo()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert only_run(path).status == "unfinished"


@pytest.mark.parametrize("path", ["", "  ", 3, b"bytes", "nul\0"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a path"):
        Trace(path)


def test_a_folder_as_a_path_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="folder="):
        Trace(tmp_path)


def test_the_thread_ends_when_there_is_nothing_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_file, "_IDLE_SECONDS", 0.01)
    appender, done = Appender(), list[int]()
    for number in range(3):
        appender.put(lambda number=number: done.append(number))  # type: ignore[misc]
        assert appender.drain(5)
        if appender._thread is not None:
            appender._thread.join(5)
    assert done == [0, 1, 2]


def test_work_that_fails_is_told_and_the_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    appender, done = Appender(), list[str]()
    appender.put(lambda: done.append(str(1 / 0)))
    appender.put(lambda: done.append("next"))
    assert appender.drain(5)
    assert done == ["next"]
    assert "could not be written down" in caplog.text


def test_settings_that_a_policy_changed_are_kept_beside_those_asked_for(tmp_path: Path) -> None:
    class Shorter:
        async def before(self, call: Call) -> Sampling:
            return Sampling(max_tokens=5)

        async def after(self, call: Call, outcome: object) -> None:
            return None

    path = tmp_path / "t.jsonl"
    pack_of(path, "one", max_tokens=100, policies=[Shorter()]).run("Why?")
    call = only_run(path).calls[0]
    assert call.outcome is not None
    assert (call.asked.sampling.max_tokens, call.outcome.sampling.max_tokens) == (100, 5)


def test_the_question_stands_there_as_the_caller_put_it(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    talk: Sequence[ChatMessage] = [
        ChatMessage(role=MessageRole.SYSTEM, content="Be brief."),
        ChatMessage(role=MessageRole.USER, content="Hello"),
        ChatMessage(role=MessageRole.ASSISTANT, content="Hi"),
        ChatMessage(role=MessageRole.USER, content="Why?"),
    ]
    pack_of(path, "one").run(talk)
    run = only_run(path)
    assert (run.question, run.question_text) == (list(talk), "Why?")


def test_routing_statistics_of_a_local_model_are_kept(tmp_path: Path) -> None:
    routing = {"layers": [{"layer": 0, "load": [3, 1], "kept": 4, "dropped": 0}]}

    class Local(ScriptedLLM):
        def __init__(self) -> None:
            super().__init__("answer")

        async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
            response = await super().achat(messages, **kwargs)
            return ChatResponse(message=response.message, raw={"sparse_moe": routing})

    path = tmp_path / "t.jsonl"
    MixtureOfAgentsPack(Local(), [ScriptedLLM("one")], 2, trace=path).run("Why?")
    outcome = only_run(path).calls[-1].outcome
    assert isinstance(outcome, CallAnswered)
    assert outcome.details["sparse_moe"] == routing
