"""A published folder is there whole or not at all, and living writers are left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.folders import published_folder


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    with published_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("1", encoding="utf-8")
        assert not (tmp_path / "new").exists()
    assert os.listdir(tmp_path) == ["new"]
    assert (tmp_path / "new" / "a").read_text(encoding="utf-8") == "1"


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    with published_folder(tmp_path / "new") as first:
        (first / "a").write_text("1", encoding="utf-8")
        os.utime(first, (1, 1))
        with pytest.raises(ZeroDivisionError), published_folder(tmp_path / "new"):
            _ = 1 // 0
    assert os.listdir(tmp_path / "new") == ["a"]


def test_who_comes_second_is_told(tmp_path: Path) -> None:
    def publish_in_between() -> None:
        with published_folder(tmp_path / "new") as folder:
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "theirs").write_text("theirs", encoding="utf-8")
            (folder / "mine").write_text("mine", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="was taken while the model was being made"):
        publish_in_between()
    assert os.listdir(tmp_path) == ["new"]
    assert os.listdir(tmp_path / "new") == ["theirs"]


def test_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".new.partial-abc"
    left.mkdir()
    (left / "half").write_text("x", encoding="utf-8")
    os.utime(left, (1, 1))
    (tmp_path / ".newer.partial-abc").mkdir()
    os.utime(tmp_path / ".newer.partial-abc", (1, 1))
    with published_folder(tmp_path / "new"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".newer.partial-abc", "new"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with (
        pytest.raises(ConfigurationError, match="is not an empty folder"),
        published_folder(tmp_path / "link"),
    ):
        pass
