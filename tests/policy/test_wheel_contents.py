"""The wheel holds the pack, all of it, and nothing that belongs to someone else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.built import build, wheel_files, wheel_metadata
from tests.policy.tree import PACKAGE, ROOT, all_files, pyproject

PREFIX = "llama_index/packs/mixture_of_agents/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")
    return built


def test_every_file_of_the_pack_is_in_it(wheel: Path) -> None:
    expected = [path.relative_to(ROOT).as_posix() for path in all_files(PACKAGE)]
    assert [name for name in wheel_files(wheel) if name.startswith(PREFIX)] == sorted(expected)
    assert f"{PREFIX}py.typed" in expected


def test_nothing_above_the_pack_is_in_it(wheel: Path) -> None:
    outside = [name for name in wheel_files(wheel) if not name.startswith(PREFIX)]
    assert all(name.partition("/")[0].endswith(".dist-info") for name in outside), outside


def test_its_metadata_is_the_projects(wheel: Path) -> None:
    project = pyproject()["project"]
    metadata = wheel_metadata(wheel)
    assert f"\nName: {project['name']}\n" in metadata
    assert f"\nVersion: {project['version']}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert "torch" not in {
        line.split()[1].partition(">")[0]
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    }


def test_the_downloaded_copy_builds_wherever_it_lies(tmp_path: Path, wheel: Path) -> None:
    """The downloader brings the pack and `pyproject.toml`, and writes a README of its own.

    A repository around it may ignore files with names like ours: the wheel must hold them all the same.
    """
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.toml\n*.md\napp/\nsparse_moe/\ntesting.py\n", encoding="utf-8")
    copy = tmp_path / "mixture_of_agents_pack"
    shutil.copytree(PACKAGE, copy / PREFIX, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "README.md").write_text("DO NOT DELETE", encoding="utf-8")
    (built,) = build(copy, tmp_path / "dist", "wheel")
    ours = [name for name in wheel_files(wheel) if name.startswith(PREFIX)]
    assert [name for name in wheel_files(built) if name.startswith(PREFIX)] == ours
