"""`llamaindex-cli download-llamapack MixtureOfAgentsPack`, unmodified, as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.policy.tree import PACKAGE, ROOT, all_files
from tests.ways_in.conversation import ANSWER, asking
from tests.ways_in.downloading import PACK, Download, download, offline
from tests.ways_in.environments import INSTALL_SECONDS, Environment
from tests.ways_in.github_proxy import COUNTER, FILE_PREFIX, FILES, PAGES, TREE_PREFIX

pytestmark = [pytest.mark.timeout(INSTALL_SECONDS + 120), pytest.mark.network, pytest.mark.slow]

COMMAND = ("llamaindex-cli", "download-llamapack", "MixtureOfAgentsPack")
FOLDER = "mixture_of_agents_pack"
IN_REPOSITORY = "llama-index-packs/llama-index-packs-mixture-of-agents"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by-command")


@pytest.fixture(scope="module")
def downloaded(downloader: Environment, home: Path) -> Download:
    done = download(downloader, home, *COMMAND, "--download-dir", f"./{FOLDER}")
    assert done.process.returncode == 0, done.process.stdout + done.process.stderr
    return done


def test_it_succeeds_and_asks_no_other_host(downloaded: Download) -> None:
    assert f"Successfully downloaded MixtureOfAgentsPack to ./{FOLDER}" in downloaded.process.stdout
    assert downloaded.refused == []


def test_it_asks_in_the_known_order(downloaded: Download) -> None:
    """Folders first, one request each; then every file; then `pyproject.toml`; then the counter."""
    asked = downloaded.asked
    folders = [
        PACKAGE,
        *(path for path in PACKAGE.rglob("*") if path.is_dir() and path.name != "__pycache__"),
    ]
    pages, files = asked[: len(folders)], asked[len(folders) : -1]
    assert pages[0].path == f"{TREE_PREFIX}{IN_REPOSITORY}/{PACK}?recursive=1"
    assert {request.host for request in pages} == {PAGES}
    assert sorted(request.path.removeprefix(FILE_PREFIX) for request in files[:-1]) == sorted(
        f"{IN_REPOSITORY}/{path.relative_to(ROOT).as_posix()}" for path in all_files(PACKAGE)
    )
    assert {request.host for request in files} == {FILES}
    assert files[-1].path == f"{FILE_PREFIX}{IN_REPOSITORY}/pyproject.toml"
    assert (asked[-1].method, asked[-1].host) == ("POST", COUNTER)
    assert json.loads(asked[-1].body) == {"type": "llamapack", "plugin": "MixtureOfAgentsPack"}


def test_every_file_arrives_unchanged(downloaded: Download, home: Path) -> None:
    for original in [*all_files(PACKAGE), ROOT / "pyproject.toml"]:
        copy = home / FOLDER / original.relative_to(ROOT)
        assert copy.read_bytes() == original.read_bytes(), original


def test_what_it_installed_answers(downloaded: Download, downloader: Environment, home: Path) -> None:
    said = downloader.ask(asking(), env=offline(downloader, home), cwd=home)
    assert said["answer"] == ANSWER
    assert said["proposals"] == ["draft a1", "draft a2", "draft b1", "draft b2"]
    assert "llama_index.core.llama_pack.base.BaseLlamaPack" in said["bases"]
    assert Path(said["file"]).is_relative_to(downloader.site_packages)


def test_the_copy_itself_answers(downloaded: Download, downloader: Environment, home: Path) -> None:
    """Users download a pack to change it, so the copy must work from where it lies."""
    env = offline(downloader, home) | {"PYTHONPATH": str(home / FOLDER)}
    said = downloader.ask(asking(), env=env, cwd=home)
    assert said["answer"] == ANSWER
    assert Path(said["file"]).is_relative_to(home / FOLDER)


def test_a_download_over_an_older_one_keeps_its_project_file_and_works(
    downloaded: Download, downloader: Environment, home: Path, tmp_path: Path
) -> None:
    """The downloader never replaces a `pyproject.toml`, so the pack must build from what was there."""
    older = (
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "llama-index-packs-mixture-of-agents"\nversion = "0.5.1"\nreadme = "README.md"\n'
        'dependencies = ["llama-index-core>=0.13.0,<0.15"]\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["llama_index/"]\n'
    )
    shutil.copytree(home / FOLDER, tmp_path / FOLDER)
    (tmp_path / FOLDER / "pyproject.toml").write_text(older, encoding="utf-8")
    (tmp_path / FOLDER / PACK / "base.py").write_text("raise RuntimeError('the abandoned pack')\n")
    again = download(downloader, tmp_path, *COMMAND, "--download-dir", f"./{FOLDER}")
    assert again.process.returncode == 0, again.process.stdout + again.process.stderr
    assert (tmp_path / FOLDER / "pyproject.toml").read_text(encoding="utf-8") == older
    said = downloader.ask(asking(), env=offline(downloader, tmp_path), cwd=tmp_path)
    assert said["answer"] == ANSWER
