"""Mixtures of scripted models whose runs are observed, and the tree a run of theirs makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from opentelemetry.trace import Tracer

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.records.telemetry import Telemetry
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.records.span_tree import Recorder

KEY = "sk-proj-" + "a1b2c3d4" * 4
STEPS = [("propose ant", ["chat ant"]), ("propose bee", ["chat bee"])]
TREE = (
    "invoke_agent mixture_of_agents",
    [("layer 1", STEPS), ("layer 2", STEPS), ("layer 3", [("synthesize queen", ["chat queen"])])],
)


def observed_pack(
    recorder: Recorder, references: Sequence[Any] | None = None, **options: Any
) -> MixtureOfAgentsPack:
    names = ("ant", "bee")
    llm = options.pop("llm", None) or ScriptedLLM("the answer", model="queen")
    policies = [*options.pop("policies", ()), Telemetry(recorder.provider, **options.pop("spans", {}))]
    models = references or [ScriptedLLM(f"draft of {name}", model=name) for name in names]
    return MixtureOfAgentsPack(
        llm, list(models), num_layers=options.pop("num_layers", 3), policies=policies, **options
    )


def posting(tracer: Tracer, model: str) -> ScriptedLLM:
    def answer(messages: Sequence[ChatMessage]) -> str:
        with tracer.start_as_current_span("POST"):
            return f"said by {model}"

    return ScriptedLLM(answer, model=model)


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
