"""Models made ready under a view's eyes: the embedded default, or one the user names."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index.packs.mixture_of_agents.app import default_model
from llama_index.packs.mixture_of_agents.app.choosing import view_for
from llama_index.packs.mixture_of_agents.app.view import View
from llama_index.packs.mixture_of_agents.errors import ConfigurationError


def default_directory(view: View) -> Path:
    """The embedded default model's directory, made first if need be.

    Raises:
        ConfigurationError: It cannot be made.
    """
    default_model.require_libraries()
    return default_model.prepare(default_model.cache_folder(), view.stage)


def upcycle(
    source: Path,
    destination: Path,
    recipe: Mapping[str, Any],
    prompts_file: Path | None = None,
    progress: bool | None = None,
) -> None:
    """Make a mixture of experts of a dense model, and print what came of it.

    Args:
        source: The dense model.
        destination: The folder to make.
        recipe: Options of `sparse_moe.upcycle`; experts and top_k at least.
        prompts_file: What a k-means router is fitted to, one prompt a line.
        progress: As `view_for` takes it.

    Raises:
        ConfigurationError: It cannot be made.
    """
    # Not at the top: it is slow to import, and not every command needs it.
    from llama_index.packs.mixture_of_agents.sparse_moe import upcycle as make

    prompts = None if prompts_file is None else prompts_in(prompts_file)
    began = time.monotonic()
    view = view_for(progress=progress)
    title = f"Upcycling {source.name} to {recipe['experts']} experts"
    try:
        view.stage(title)
        made = make(
            source,
            destination,
            **recipe,
            prompts=prompts,
            progress=lambda detail: view.stage(title, detail),
        )
        view.begin(0)  # which ticks the stage off
    finally:
        view.close()
    line = upcycled_line(made, recipe["experts"], recipe["top_k"], time.monotonic() - began)
    sys.stdout.write(f"{made}: {line}\n")


def prompts_in(path: Path) -> list[str]:
    """Read prompts, one a line; empty lines don't count.

    Raises:
        ConfigurationError: The file cannot be read, is not text in UTF-8, or holds nothing.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigurationError(
            f"the prompts in {path} cannot be read ({problem}); name a UTF-8 text file with one prompt a line"
        ) from problem
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise ConfigurationError(f"{path} holds no prompts; write one a line, or leave --prompts out")
    return prompts


def upcycled_line(made: Path, experts: int, top_k: int, seconds: float) -> str:
    """What was made, in a line: experts, size, time."""
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    return f"{experts} experts, {top_k} per token, {size / 1e9:.2f} GB, made in {seconds:.1f} s"
