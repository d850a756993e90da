"""`run` works wherever it is called from: a script, a running loop, a patched loop, threads, a tool."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM

ROOT = Path(__file__).parents[2]
MIXTURE = """
import asyncio
from llama_index.core.base.llms.types import ChatMessage
from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM
pack = MixtureOfAgentsPack(ScriptedLLM("the answer"), [LatencyLLM(0.01)] * 2)
"""
SCRIPT = """
print(pack.run("Why?"))
print(pack.as_llm().complete("Why?"))
print("".join(piece.delta for piece in pack.as_llm().stream_complete("Why?")))
"""
INSIDE_A_LOOP = """
async def main():
    print(pack.run("Why?"))
    print(pack.as_llm().complete("Why?"))
    print("".join(piece.delta for piece in pack.as_llm().stream_complete("Why?")))
    print(await pack.arun("Why?"))
asyncio.run(main())
"""
PATCHED = "import nest_asyncio\nnest_asyncio.apply()\n"
PATCHED_INSIDE = INSIDE_A_LOOP.replace("main():", "main():\n    import nest_asyncio; nest_asyncio.apply()")


@pytest.mark.parametrize(
    ("code", "answers"),
    [
        (SCRIPT + INSIDE_A_LOOP + SCRIPT, 10),
        (PATCHED + SCRIPT + INSIDE_A_LOOP, 7),
        (PATCHED_INSIDE, 4),
    ],
    ids=["script, loop, script", "patched script and loop", "loop patched inside"],
)
def test_it_answers_in_a_process_of_its_own_without_a_word_on_stderr(code: str, answers: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MIXTURE + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=40, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("the answer\n" * answers, "", 0)


def pack(script: str = "the answer", latency: float = 0.01) -> MixtureOfAgentsPack:
    return MixtureOfAgentsPack(ScriptedLLM(script), [LatencyLLM(latency)] * 2)


async def test_inside_a_running_loop_it_leaves_that_loop_alone() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0)
    before = ticks
    assert pack().run("Why?").text == "the answer"
    assert ticks == before  # blocked, as a blocking call is, and not run from within
    assert asyncio.get_running_loop() is ticking.get_loop()
    ticking.cancel()


def test_from_many_threads_at_once() -> None:
    def echo(messages: Sequence[ChatMessage]) -> str:
        return messages[-1].content or ""

    mixture = MixtureOfAgentsPack(ScriptedLLM(echo), [LatencyLLM(0.02, echo)])
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda n: mixture.run(f"Question {n}").text, range(48)))
    assert answers == [f"Question {n}" for n in range(48)]


def test_from_within_a_run_as_a_sync_tool_would() -> None:
    inner = pack("the inner answer")
    outer = MixtureOfAgentsPack(ScriptedLLM(lambda _: str(inner.run("Why?"))), [ScriptedLLM("a draft")])
    assert outer.run("Why?").text == "the inner answer"


async def test_one_pack_serves_blocking_and_awaiting_callers_at_once() -> None:
    mixture = pack()
    blocking = [asyncio.to_thread(mixture.run, "Why?") for _ in range(5)]
    awaiting = [mixture.arun("Why?") for _ in range(5)]
    responses = await asyncio.gather(*blocking, *awaiting)
    assert {response.text for response in responses} == {"the answer"}


def test_one_pack_serves_one_loop_after_another() -> None:
    mixture = pack()
    for _ in range(3):
        assert asyncio.run(mixture.arun("Why?")).text == "the answer"
        assert mixture.run("Why?").text == "the answer"
