"""Runs of scripted mixtures of every kind, recorded, for replays to be held against.

The scripts answer by what they read, so that any change in a prompt changes everything behind it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents import MixtureError, MixtureOfAgentsPack, Proposer
from llama_index.packs.mixture_of_agents.agreement import Agreement
from llama_index.packs.mixture_of_agents.finishes import Sequential, Vote
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.testing import Answer, ScriptedLLM


def last_word(text: str) -> str | None:
    """An extractor that no record can hold."""
    return text.split()[-1] if text else None


def speaker(name: str, fails: float = 0.0) -> ScriptedLLM:
    """A model whose answer is a digest of what it reads, and which fails on a share of its prompts."""

    def answer(messages: Sequence[ChatMessage]) -> Answer:
        read = "".join(message.content or "" for message in messages)
        digest = sha256(f"{name}{read}".encode(errors="surrogatepass")).digest()
        if digest[0] < 256 * fails:
            return ValueError(f"{name} refuses {digest[1]}")
        if "drafts" in read and '"choice"' in read:
            return f'{{"choice": 1, "reason": "{digest.hex()[:8]}"}}'
        return f"{name} {{}} % \x00 says {digest.hex()[:12]}. The answer is {digest[2] % 2}"

    return ScriptedLLM(answer, model=name)


@dataclass(frozen=True)
class Recorded:
    """A run, its record, and the models it asked.

    Attributes:
        run: The record.
        text: The answer; None where there was an error.
        error: What was raised; empty where there was an answer.
        models: By name.
        options: Of the pack.
    """

    run: RunRecord
    text: str | None
    error: str
    models: dict[str, ScriptedLLM]
    options: dict[str, Any]

    @property
    def calls(self) -> int:
        """How many calls the models have had so far."""
        return sum(len(model.calls) for model in self.models.values())


def options_at(number: int) -> dict[str, Any]:
    """Options of every kind, drawn by a number."""
    draw = random.Random(number)
    finish: Any = draw.choice(
        ["synthesize", "rank", "vote", Sequential(2), Vote(extract=last_word), Vote(extract="number")]
    )
    options: dict[str, Any] = {
        "num_layers": draw.choice([2, 3, 4]),
        "strategy": draw.choice(["model", "role", "self", "temperature"]),
        "finish": finish,
        "pass_on": draw.choice(["proposals", "condensed"]),
        "stop_early": draw.choice([None, Agreement("answer", share=0.6), Agreement(last_word, share=0.5)]),
        "roles": draw.choice(["run", "layer", "fixed"]),
        "temperature": draw.choice([None, 0.3]),
        "max_tokens": draw.choice([None, 200]),
    }
    return options


def recorded(folder: Path, number: int, fails: float | None = None, **options: Any) -> Recorded:
    """Run a mixture drawn by a number, and read its record."""
    draw = random.Random(1000 + number)
    share = draw.choice([0.0, 0.0, 0.2, 0.5, 0.95]) if fails is None else fails
    models = {name: speaker(name, share) for name in ("ann", "bob", "cid", "judge")}
    chosen = {**options_at(number), **options}
    path = folder / f"run{number}.jsonl"
    proposers = [models["ann"], Proposer(models["bob"], role="You are Bob."), models["cid"]]
    pack = MixtureOfAgentsPack(models["judge"], proposers, trace=Trace(path), max_retries=0, **chosen)
    text, error = None, ""
    try:
        text = pack.run(f"Why {number}? {{}} %s \x00 \ud800").text
    except MixtureError as raised:
        error = str(raised)
    (run,) = read_trace(path)
    return Recorded(run, text, error, models, chosen)
