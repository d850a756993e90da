"""Models made ready under a view's eyes: the embedded default, or one the user names."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from llama_index.packs.mixture_of_agents.app import default_model
from llama_index.packs.mixture_of_agents.app.choosing import view_for
from llama_index.packs.mixture_of_agents.app.view import View


def default_directory(view: View) -> Path:
    """The embedded default model's directory, made first if need be.

    Raises:
        ConfigurationError: It cannot be made.
    """
    default_model.require_libraries()
    return default_model.prepare(default_model.cache_folder(), view.stage)


def upcycle(source: Path, destination: Path, experts: int, top_k: int, progress: bool | None) -> None:
    """Make a mixture of experts of a dense model, and print what came of it.

    Raises:
        ConfigurationError: It cannot be made.
    """
    # Not at the top: it is slow to import, and not every command needs it.
    from llama_index.packs.mixture_of_agents.sparse_moe import upcycle as make

    began = time.monotonic()
    view = view_for(progress=progress)
    title = f"Upcycling {source.name} to {experts} experts"
    try:
        view.stage(title)
        made = make(
            source,
            destination,
            experts=experts,
            top_k=top_k,
            progress=lambda detail: view.stage(title, detail),
        )
        view.begin(0)  # which ticks the stage off
    finally:
        view.close()
    sys.stdout.write(f"{made}: {upcycled_line(made, experts, top_k, time.monotonic() - began)}\n")


def upcycled_line(made: Path, experts: int, top_k: int, seconds: float) -> str:
    """What was made, in a line: experts, size, time."""
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    return f"{experts} experts, {top_k} per token, {size / 1e9:.2f} GB, made in {seconds:.1f} s"
