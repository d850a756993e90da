"""A data folder has no way out: not by dots, absolute paths, links, or odd characters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    (tmp_path / "secret.csv").write_text("secret")
    inside = tmp_path / "data"
    (inside / "deep").mkdir(parents=True)
    (inside / "a.csv").write_text("a")
    (inside / "deep" / "b.CSV").write_text("b")
    (inside / "notes.txt").write_text("n")
    (inside / "out.csv").symlink_to(tmp_path / "secret.csv")
    (inside / "in.csv").symlink_to(inside / "a.csv")
    (inside / "up").symlink_to(tmp_path)
    (inside / "round").symlink_to(inside / "round")
    return DataFolder(inside)


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.csv", "deep/../../secret.csv", "/etc/passwd", "out.csv", "up/secret.csv", "round"),
        *(
            "",
            " ",
            ".",
            "..",
            "a.csv\0.txt",
            "x" * 5000,
            "deep",
            "nope.csv",
            "~/x.csv",
            "up/data/../secret.csv",
        ),
    ],
)
def test_a_way_out_or_nothing_is_refused(folder: DataFolder, name: str) -> None:
    with pytest.raises(ToolError):
        folder.file(name)


@pytest.mark.parametrize("name", ["a.csv", "./a.csv", "deep/b.CSV", "deep/../a.csv", "in.csv"])
def test_a_file_inside_is_found_by_any_of_its_names(folder: DataFolder, name: str) -> None:
    assert folder.file(name, (".csv",)).read_text() in ("a", "b")


def test_a_file_of_another_kind_is_refused(folder: DataFolder) -> None:
    with pytest.raises(ToolError, match=r"\.csv"):
        folder.file("notes.txt", (".csv",))


def test_what_is_listed_is_inside_and_links_out_are_not(folder: DataFolder) -> None:
    assert folder.files((".csv",)) == ["a.csv", "deep/b.CSV", "in.csv"]
    with pytest.raises(ToolError, match=r"there are: a\.csv, deep/b\.CSV, in\.csv"):
        folder.file("missing.csv", (".csv",))


@given(name=st.text(alphabet="ab./\\\0~ ", max_size=12))
def test_no_name_reads_what_is_outside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    parent = tmp_path_factory.getbasetemp() / "walled"
    (parent / "data").mkdir(parents=True, exist_ok=True)
    folder = DataFolder(parent / "data")
    try:
        path = folder.room_for(name, ("", ".a", ".b"))
    except ToolError:
        return
    assert path.is_relative_to(folder.path)


def test_a_new_file_is_written_whole_and_none_is_replaced(folder: DataFolder) -> None:
    assert folder.write("new/c.csv", b"c", (".csv",)) == "new/c.csv"
    assert (folder.path / "new" / "c.csv").read_bytes() == b"c"
    for taken in ("a.csv", "in.csv"):
        with pytest.raises(ToolError, match="there already"):
            folder.write(taken, b"other", (".csv",))
    assert (folder.path / "a.csv").read_text() == "a"
    assert not list(folder.path.rglob(".writing-*"))


@pytest.mark.parametrize("name", ["../c.csv", "/tmp/c.csv", "up/c.csv", "c.txt", "a.csv/c.csv"])
def test_nothing_is_written_outside_or_of_another_kind(folder: DataFolder, name: str) -> None:
    with pytest.raises(ToolError):
        folder.write(name, b"c", (".csv",))
    assert not (folder.path.parent / "c.csv").exists()


@pytest.mark.parametrize("path", ["nowhere", "a\0b", 3])
def test_a_folder_must_be_one(path: object) -> None:
    with pytest.raises(ConfigurationError):
        DataFolder(path)  # type: ignore[arg-type]


def test_a_folder_may_show_only_some_of_its_files(folder: DataFolder) -> None:
    shown = DataFolder(folder.path, only=["deep/b.CSV"])
    assert shown.files() == ["deep/b.CSV"]
    assert shown.file("deep/../deep/b.CSV").read_text() == "b"
    with pytest.raises(ToolError, match=r"'notes\.txt'; there are: deep/b\.CSV"):
        shown.file("notes.txt")


@pytest.mark.parametrize("name", ["a\n.csv", "\u202evsc.csv", "a\x1b[2J.csv"])
def test_a_new_files_name_moves_no_cursor_and_no_letters(tmp_path: Path, name: str) -> None:
    with pytest.raises(ToolError, match="plain characters"):
        DataFolder(tmp_path).room_for(name, (".csv",))
