"""`moa replay` at work: from words to a replay, from its response to what is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.packs.mixture_of_agents.app.board import degraded_note, printable
from llama_index.packs.mixture_of_agents.app.recorded import mixture_run
from llama_index.packs.mixture_of_agents.app.replaying import replay_of
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import llm_named
from llama_index.packs.mixture_of_agents.records.replaying.recording import Changes, Recording


@dataclass(frozen=True)
class Wanted:
    """What the caller wants otherwise.

    Attributes:
        swap: "NAME=provider:model", each.
        drop: Names of proposers.
        prompt: A file with another question.
        strict: Nothing may go out.
        as_json: Print the whole response.
    """

    swap: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    prompt: Path | None = None
    strict: bool = False
    as_json: bool = False


def rerun(named: str, run_id: str | None, wanted: Wanted) -> None:
    """Replay a run, print its answer, and note what it took.

    Raises:
        ConfigurationError: There is no such run, or a change cannot work.
        MixtureError: No model answered, now or in the record.
    """
    run, swap = mixture_run(named, run_id), _swaps(wanted.swap)
    Recording(run).check(Changes(swap, wanted.drop))  # before a model is made, which may take a while
    replay = replay_of(
        run,
        swap={name: llm_named(model) for name, model in swap.items()},
        drop=wanted.drop,
        prompt=None if wanted.prompt is None else _read(wanted.prompt),
        strict=wanted.strict,
    )
    try:
        response = replay.run()
    finally:
        note(f"replay of {run.run_id}: {replay.tally}")
    _print(response.to_dict() if wanted.as_json else response.text)
    if response.degraded:
        note(degraded_note(response.missing))


def _swaps(words: Sequence[str]) -> dict[str, str]:
    swap: dict[str, str] = {}
    for name, model in map(_swap, words):
        if swap.setdefault(name, model) != model:
            raise ConfigurationError(
                f"--swap names two models for {name!r}, {swap[name]} and {model}; give one of them."
            )
    return swap


def _swap(words: str) -> tuple[str, str]:
    name, equals, model = words.partition("=")
    if not equals or not name.strip() or not model.strip():
        raise ConfigurationError(
            f"--swap takes NAME=provider:model, such as aggregator=openai:gpt-4o; found {words!r}."
        )
    return name.strip(), model.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The prompt {path} cannot be read ({error}).") from error


def _print(answer: str | dict[str, Any]) -> None:
    if isinstance(answer, dict):
        text = json.dumps(answer, indent=2)
    else:
        text = printable(answer) if sys.stdout.isatty() else answer
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
