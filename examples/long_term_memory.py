"""An agent's long-term memory over three runs, each in a process of its own; then it forgets.

    python examples/long_term_memory.py

Needs no key: the agent's model is scripted, its memory is real. The first run is told something, the second
is asked and finds it in its messages, the third comes after it was forgotten, and finds nothing, nor does the
file.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock

from llama_index.packs.mixture_of_agents.agents.memory import MemoryTools, RunMemory
from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

FACT = "The user's server is called Heimdall"
ASKED = "What is my server called?"


async def tell(notebook: Notebook) -> str:
    """A run in which the agent keeps what it is told."""
    call = ToolCallBlock(tool_call_id="1", tool_name="remember", tool_kwargs={"text": FACT})
    await run(
        notebook, "told", "My server is called Heimdall.", [ChatMessage(role="assistant", blocks=[call])]
    )
    return "kept: " + "; ".join(note.text for note in notebook.inspect("helper"))


async def ask(notebook: Notebook) -> str:
    """A run that is asked for it."""
    sent = await run(notebook, "asked", ASKED, [])
    return "it has it in its messages" if FACT in sent else "it knows nothing of it"


async def run(notebook: Notebook, run_id: str, question: str, script: list[ChatMessage]) -> str:
    """One run of the agent; gives what its model was sent first."""
    model = ScriptedLLM([*script, "Done."], is_function_calling_model=True)
    tools = MemoryTools(notebook, "helper", run_id=run_id).tools()
    agent = FunctionAgent(name="helper", tools=[*tools], llm=model)
    async with RunMemory(run_id, notebook=notebook) as memory:
        await agent.run(question, memory=memory.of("helper"))
    return model.calls[0].text


def main() -> None:
    """Three processes, one after another, on one notebook."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes.db"
        for what in ("tell", "ask"):
            print(f"{what}: {in_a_process(what, path)}")
        print(f"forget: {Notebook(path).forget('Heimdall', agent='helper')}")
        print(f"ask: {in_a_process('ask', path)}")
        print(f"in the file: {any(b'Heimdall' in file.read_bytes() for file in Path(folder).iterdir())}")


def in_a_process(what: str, path: Path) -> str:
    """One of the runs in a process of its own; gives what it said."""
    command = [sys.executable, "-W", "ignore", __file__, what, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(asyncio.run({"tell": tell, "ask": ask}[sys.argv[1]](Notebook(sys.argv[2]))))
    else:
        main()
