"""Whoever leaves stops the computing, and nobody blocks the event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler

from llama_index.packs.mixture_of_agents.errors import EngineClosedError, RequestCancelledError
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM, loading
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.local_model import LocalModel
from llama_index.packs.mixture_of_agents.sparse_moe.serving.tickets import RequestHandle

TOKENS = 400
ROOT = Path(__file__).parents[2]
ASYNC_DOORS = ["acomplete", "achat", "astream_complete", "astream_chat"]


def _asked(door: str) -> Any:
    return [ChatMessage(content="Hello")] if door.endswith("chat") else "Hello"


@pytest.fixture
def patient(moe_folder: Path, slow_steps: Callable[[float], None]) -> Any:
    """An LLM whose answers of 400 tokens take seconds."""
    slow_steps(0.01)
    opened = SparseMoELLM(moe_folder, temperature=1.5, seed=1, max_new_tokens=TOKENS)
    opened.load()
    yield opened
    opened.close()


def _engine(llm: SparseMoELLM) -> Engine:
    assert llm._local is not None
    return llm._local.engine


def _settled(engine: Engine) -> int:
    """Wait until nothing is decoded; return the steps it took in all, and see that it stays so."""
    deadline = time.monotonic() + 10
    while engine.stats().active + engine.stats().waiting:
        assert time.monotonic() < deadline, "it went on computing"
        time.sleep(0.005)
    steps = engine.stats().steps
    time.sleep(0.05)
    assert engine.stats().steps == steps
    return steps


@pytest.mark.parametrize("door", ["stream_complete", "stream_chat"])
def test_closing_a_stream_stops_computing(patient: SparseMoELLM, door: str) -> None:
    stream = getattr(patient, door)(_asked(door))
    assert next(stream).delta is not None
    stream.close()
    assert 1 <= _settled(_engine(patient)) < TOKENS / 4


def test_a_handler_that_keeps_the_exception_does_not_keep_the_request(patient: SparseMoELLM) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    patient.callback_manager = CallbackManager([debug])
    stream = patient.stream_complete("Hello")
    next(stream)
    stream.close()
    assert _settled(_engine(patient)) < TOKENS / 4
    assert len(debug.get_llm_inputs_outputs()) == 1


def test_a_stream_that_is_dropped_stops_computing(patient: SparseMoELLM) -> None:
    for _ in patient.stream_complete("Hello"):
        break
    assert _settled(_engine(patient)) < TOKENS / 4


def test_a_stream_that_is_never_read_computes_nothing(patient: SparseMoELLM) -> None:
    del_me = patient.stream_complete("Hello")
    del del_me
    assert _settled(_engine(patient)) == 0


def test_an_exception_in_the_readers_loop_stops_computing(patient: SparseMoELLM) -> None:
    stream = patient.stream_complete("Hello")
    with pytest.raises(ZeroDivisionError):
        _ = [1 // 0 for _ in stream]
    stream.close()
    assert _settled(_engine(patient)) < TOKENS / 4


@pytest.mark.parametrize("door", ["astream_complete", "astream_chat"])
async def test_closing_an_async_stream_stops_computing(patient: SparseMoELLM, door: str) -> None:
    stream = await getattr(patient, door)(_asked(door))
    assert (await anext(stream)).delta is not None
    await stream.aclose()
    assert await asyncio.to_thread(_settled, _engine(patient)) < TOKENS / 4


async def _until(condition: Callable[[], bool]) -> None:
    """Wait in a thread, so that the loop stays free for what is waited for."""

    def wait() -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.002)

    await asyncio.to_thread(wait)


async def _consume(llm: SparseMoELLM, door: str) -> None:
    result = await getattr(llm, door)(_asked(door))
    if door.startswith("astream"):
        async for _ in result:
            pass


@pytest.mark.parametrize("door", ASYNC_DOORS)
async def test_cancelling_a_task_stops_computing(patient: SparseMoELLM, door: str) -> None:
    task = asyncio.create_task(_consume(patient, door))
    await _until(lambda: _engine(patient).stats().steps > 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(_settled, _engine(patient)) < TOKENS / 4


async def test_one_of_many_leaves_and_the_others_finish(patient: SparseMoELLM) -> None:
    alone = (await patient.acomplete("Hello", max_tokens=12)).text
    leaving = asyncio.create_task(_consume(patient, "achat"))
    staying = [asyncio.create_task(patient.acomplete("Hello", max_tokens=12)) for _ in range(3)]
    await _until(lambda: _engine(patient).stats().peak_active == 4)
    leaving.cancel()
    assert [(await task).text for task in staying] == [alone] * 3
    await asyncio.to_thread(_settled, _engine(patient))


@pytest.mark.parametrize("door", ASYNC_DOORS)
async def test_the_event_loop_goes_on_ticking(patient: SparseMoELLM, door: str) -> None:
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - before)

    ticking = asyncio.create_task(tick())
    result = await getattr(patient, door)(_asked(door), max_tokens=30)
    if door.startswith("astream"):
        _ = [item async for item in result]
    ticking.cancel()
    assert len(gaps) > 60, "30 steps of more than 10 ms leave time for hundreds of ticks"
    assert sorted(gaps)[len(gaps) // 2] < 0.01


async def test_preparing_a_prompt_does_not_block_the_loop(
    patient: SparseMoELLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = LocalModel.encode

    def slow_encode(self: LocalModel, text: str, *, special_tokens: bool) -> tuple[int, ...]:
        time.sleep(0.2)
        return encode(self, text, special_tokens=special_tokens)

    monkeypatch.setattr(LocalModel, "encode", slow_encode)
    task = asyncio.create_task(patient.acomplete("Hello", max_tokens=1))
    ticks = 0
    while not task.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks >= 10


async def test_loading_does_not_block_the_loop(moe_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = loading.load_model

    def slow_load(*args: Any) -> Any:
        time.sleep(0.2)
        return load(*args)

    monkeypatch.setattr(loading, "load_model", slow_load)
    llm = SparseMoELLM(moe_folder, dtype="float32")
    task = asyncio.create_task(llm.acomplete("Hello", max_tokens=1))
    ticks = 0
    while not task.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks >= 10
    llm.close()


async def test_concurrent_calls_from_one_loop_give_the_same_as_alone(llm: SparseMoELLM) -> None:
    prompts = [f"prompt {number}" for number in range(6)]
    alone = [llm.complete(prompt, temperature=1.2, seed=4).text for prompt in prompts]
    together = await asyncio.gather(*(llm.acomplete(prompt, temperature=1.2, seed=4) for prompt in prompts))
    assert [answer.text for answer in together] == alone


def test_loops_may_come_and_go(llm: SparseMoELLM) -> None:
    texts = [asyncio.run(llm.acomplete("Hello")).text for _ in range(3)]
    assert texts == [llm.complete("Hello").text] * 3


def test_a_loop_that_ends_early_leaves_no_noise(
    patient: SparseMoELLM, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> None:
        task = asyncio.create_task(patient.acomplete("Hello"))
        await asyncio.sleep(0.1)
        assert not task.done()

    asyncio.run(leave())
    assert _settled(_engine(patient)) < TOKENS / 4
    assert caplog.text == ""


async def test_closing_the_engine_ends_open_calls(patient: SparseMoELLM) -> None:
    task = asyncio.create_task(patient.acomplete("Hello"))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(patient.close)
    with pytest.raises(EngineClosedError):
        await task


def test_a_request_that_someone_else_cancels_says_so(
    patient: SparseMoELLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles: list[RequestHandle] = []
    submit = Engine.submit

    def remember(self: Engine, *args: Any) -> RequestHandle:
        handles.append(submit(self, *args))
        return handles[-1]

    monkeypatch.setattr(Engine, "submit", remember)
    stream = patient.stream_complete("Hello")
    next(stream)
    handles[0].cancel()
    with pytest.raises(RequestCancelledError):
        list(stream)


LEAVE_AT_ONCE = """
import contextlib, sys, threading, time
from llama_index.packs.mixture_of_agents.errors import EngineClosedError
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
llm = SparseMoELLM(sys.argv[1], temperature=1.0, seed=1, max_new_tokens=400)
stream = llm.stream_complete("Hello")
next(stream)
def wait_for_an_answer():
    with contextlib.suppress(EngineClosedError):
        llm.complete("Hello")
threading.Thread(target=wait_for_an_answer, daemon=True).start()
print("leaving", flush=True)
"""


def test_a_process_may_end_while_others_compute(moe_folder: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", LEAVE_AT_ONCE, str(moe_folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr
    assert "Traceback" not in done.stderr


LEAVE_FOR_EVER_BUSY = """
import sys, threading, time
import torch
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM, loading
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
begun = threading.Event()
def compute_for_ever(*arguments, **options):
    begun.set()
    one = torch.ones(700, 700)
    until = time.monotonic() + 45
    while time.monotonic() < until:
        one @ one
llm = SparseMoELLM(sys.argv[1], max_new_tokens=400)
setattr({"loading": loading, "LoadedModel": LoadedModel}[sys.argv[2]], sys.argv[3], compute_for_ever)
threading.Thread(target=lambda: llm.complete("Hello"), daemon=True).start()
begun.wait(30)
time.sleep(0.2)
print("leaving", flush=True)
sys.exit(3)
"""


@pytest.mark.parametrize(("where", "what"), [("loading", "load_model"), ("LoadedModel", "run")])
def test_a_process_ends_with_its_own_status_in_the_middle_of_a_load_or_a_pass(
    moe_folder: Path, where: str, what: str
) -> None:
    """A thread that the interpreter ends inside torch takes the whole process with it, by SIGABRT."""
    command = [sys.executable, "-W", "ignore", "-c", LEAVE_FOR_EVER_BUSY, str(moe_folder), where, what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stdout) == (3, "leaving\n"), done.stderr
