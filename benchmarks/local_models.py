"""What the local benchmarks run on: the embedded default, a model whose experts differ, fresh engines.

Both models are kept in the cache folder of the command line, and made when they are not there. It knows no
benchmark, and imports torch on use only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llama_index.packs.mixture_of_agents.app.default_model import Release, cache_folder, prepare

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
    from llama_index.packs.mixture_of_agents.sparse_moe.requests import EngineStats

T = TypeVar("T")

REDRAWN = 0.05
"""Share of each expert's units that are drawn anew: it matters where a token goes, and text stays text."""


def default_folder() -> Path:
    """The embedded default: experts that are copies of one network, and a random router."""
    return prepare(cache_folder(), _tell)


def parted_folder() -> Path:
    """The same dense model with experts set apart by drop-upcycling, and a router fitted by k-means."""
    return prepare(cache_folder() / f"benchmark-redrawn-{REDRAWN}", _tell, upcycle=_parted)


@dataclass(frozen=True)
class Weights:
    """One copy of a model in memory, which all contenders run.

    Attributes:
        folder: Its checkpoint, tokenizer included.
        model: A stock model of transformers, in eval mode, on the CPU.
    """

    folder: Path
    model: PreTrainedModel

    @classmethod
    def of(cls, folder: Path) -> Weights:
        """Load a checkpoint."""
        import torch

        from llama_index.packs.mixture_of_agents.sparse_moe.loading import load_model

        return cls(folder, apart(lambda: load_model(folder, torch.device("cpu"), None)))

    @classmethod
    def of_default(cls) -> Weights:
        """Load the embedded default."""
        return cls.of(default_folder())


def apart(work: Callable[[], T]) -> T:
    """Compute on a thread that ends with the work.

    Each thread that computes with torch has helpers of its own. While more of them live than there are
    cores, they sleep between operations instead of spinning, and whoever computes loses a third of its
    speed. So no contender's helpers may outlive it.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


@contextmanager
def fresh(
    llm: SparseMoELLM, weights: Weights, *, sharing: bool = True, ends: bool = True
) -> Iterator[SparseMoELLM]:
    """The LLM with an engine that has computed nothing yet, and that is closed afterwards.

    Args:
        llm: Opened on these weights.
        weights: What the engine runs.
        sharing: Whether the engine keeps beginnings of prompts.
        ends: Whether the model's end marks end an answer. Neither is an option of the LLM.
    """
    from llama_index.packs.mixture_of_agents.sparse_moe.engine import DEFAULT_PREFIX_BYTES, Engine

    local = llm._require_open()
    engine = Engine(lambda: weights.model, prefix_bytes=DEFAULT_PREFIX_BYTES if sharing else 0)
    llm._local = replace(local, engine=engine, stop_ids=local.stop_ids if ends else frozenset())
    apart(llm.load)
    try:
        yield llm
    finally:
        llm.close()
        llm._local = local


def engine_stats(llm: SparseMoELLM) -> EngineStats:
    """What the LLM's engine did so far."""
    return llm._require_open().engine.stats()


def _parted(source: Path, destination: Path, release: Release, progress: Callable[[str], None]) -> None:
    from llama_index.packs.mixture_of_agents.sparse_moe.upcycle import upcycle

    upcycle(
        source,
        destination,
        experts=release.experts,
        top_k=release.top_k,
        reinitialize=REDRAWN,
        router="kmeans",
        progress=progress,
    )


def _tell(title: str, detail: str) -> None:
    if not detail:
        print(f"{title} ...", file=sys.stderr, flush=True)
