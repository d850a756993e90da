"""`moa` as the tests run it: in this process, or as a program of its own; and its scripted models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents import providers
from tests.app.scripted_provider import ROWS

ROOT = Path(__file__).parents[2]
Program = Callable[..., CompletedProcess[str]]


def environment(**extra: str) -> dict[str, str]:
    """The environment of a program that a test starts: no keys, the checkout on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOA_")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **extra}


def command(*words: str) -> list[str]:
    """`moa` with scripted models among its providers."""
    return [sys.executable, "-m", "tests.app.scripted_provider", *words]


def interrupted(words: list[str], folder: Path, calls: int) -> tuple[CompletedProcess[str], float]:
    """A program that gets Ctrl-C once so many calls to `slow:` models are out; how long it took then."""
    process = subprocess.Popen(
        words,
        env=environment(MOA_TEST_TRACES=str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job is born deaf to Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(folder.glob("*.asked"))) < calls:
        assert process.poll() is None
        time.sleep(0.02)
    struck = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    return CompletedProcess(words, process.returncode, out, err), time.monotonic() - struck


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces go to the folder one is in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def moa() -> Program:
    """Run `moa` as a program; standard input is empty unless it is given."""

    def start(
        *words: str, text: str = "", extra: Mapping[str, str] | None = None, **settings: Any
    ) -> CompletedProcess[str]:
        return subprocess.run(
            command(*words),
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=50,
            check=False,
            env=environment(**(extra or {})),
            **settings,
        )

    return start


@pytest.fixture
def scripted_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted providers, in this process."""
    monkeypatch.setattr(providers, "PROVIDERS", {**providers.PROVIDERS, **ROWS})


def has_torch() -> bool:
    """Whether this environment can run the local model."""
    return find_spec("torch") is not None and find_spec("transformers") is not None
