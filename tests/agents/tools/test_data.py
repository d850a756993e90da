"""The data specialist's tools: what they show, and that nothing is written without a yes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.tools import FunctionTool

from llama_index.packs.mixture_of_agents.agents.tools.consent import Confirm, require_consent
from llama_index.packs.mixture_of_agents.agents.tools.data import DataTools
from llama_index.packs.mixture_of_agents.agents.tools.database import CsvFolder
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.errors import ToolError

SALES = "region,amount\nnorth, 3 \n north,3\nsouth,4.5\nsouth,4.5\n,7\n"


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    (tmp_path / "sales.csv").write_text(SALES)
    return DataFolder(tmp_path)


def _tools(folder: DataFolder, confirm: Confirm | None = None) -> dict[str, FunctionTool]:
    tools = DataTools(CsvFolder(folder), folder=folder, confirm=confirm).tools()
    return {str(tool.metadata.name): tool for tool in tools}


def test_tables_are_listed_and_described(folder: DataFolder) -> None:
    tools = _tools(folder)
    assert tools["list_tables"]().content.endswith("sales: region, amount")
    described = tools["describe_table"](table="sales").content
    assert described.startswith("sales (region TEXT, amount TEXT)")
    assert "(3 rows)" in described


def test_quality_is_counted(folder: DataFolder) -> None:
    report = _tools(folder)["check_quality"](table="sales").raw_output
    assert (report.rows, report.duplicates) == (5, 1)
    region, amount = report.columns
    assert (region.nulls, region.distinct, region.padded) == (1, 3, 1)
    assert amount.padded == 1
    assert "1 null" in str(report)


@pytest.mark.parametrize("name", ["nope", 'sales"; DROP TABLE sales; --', "sqlite_master"])
@pytest.mark.parametrize("tool", ["describe_table", "check_quality"])
def test_an_unknown_table_is_refused_and_the_known_are_named(
    folder: DataFolder, tool: str, name: str
) -> None:
    with pytest.raises(ToolError, match="there are: sales"):
        _tools(folder)[tool](table=name)


@pytest.mark.parametrize("arguments", [{}, {"sql": 3}, {"sql": "SELECT 1", "more": 1}, {"query": "SELECT 1"}])
def test_arguments_that_do_not_fit_are_refused_in_words(
    folder: DataFolder, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ToolError, match="Its arguments are: sql"):
        _tools(folder)["query"](**arguments)


async def test_a_cleaned_table_is_saved_after_a_yes(folder: DataFolder) -> None:
    asked: list[str] = []

    def confirm(description: str) -> bool:
        asked.append(description)
        return True

    save = _tools(folder, confirm)["save_cleaned"]
    output = await save.acall(table="sales", file="clean.csv", required=["region"])
    assert output.content == "saved 2 rows as clean.csv"
    assert (folder.path / "clean.csv").read_text().splitlines() == ["region,amount", "north,3", "south,4.5"]
    assert asked == [f"saving 2 cleaned rows of table 'sales' as 'clean.csv' in {folder.path.name!r}"]


async def test_the_one_who_confirms_may_take_time(folder: DataFolder) -> None:
    async def confirm(description: str) -> bool:
        return "sales" in description

    await _tools(folder, confirm)["save_cleaned"].acall(table="sales", file="clean.csv", trim=False)
    assert (folder.path / "clean.csv").read_text().splitlines()[1] == "north, 3 "


@pytest.mark.parametrize("confirm", [None, lambda _: False, lambda _: "yes", lambda _: None])
async def test_nothing_is_written_without_a_yes(folder: DataFolder, confirm: Any) -> None:
    with pytest.raises(ToolError, match="not done"):
        await _tools(folder, confirm)["save_cleaned"].acall(table="sales", file="clean.csv")
    assert folder.files() == ["sales.csv"]


@pytest.mark.parametrize("file", ["../clean.csv", "/tmp/clean.csv", "clean.exe", "sales.csv", ""])
async def test_nobody_is_asked_about_a_place_that_is_refused(folder: DataFolder, file: str) -> None:
    def confirm(description: str) -> bool:
        raise AssertionError(description)

    with pytest.raises(ToolError):
        await _tools(folder, confirm)["save_cleaned"].acall(table="sales", file=file)


async def test_a_required_column_must_exist(folder: DataFolder) -> None:
    with pytest.raises(ToolError, match="no column price"):
        await _tools(folder, lambda _: True)["save_cleaned"].acall(
            table="sales", file="c.csv", required=["price"]
        )


def test_without_a_folder_there_is_no_tool_that_writes(folder: DataFolder) -> None:
    names = [tool.metadata.name for tool in DataTools(CsvFolder(folder)).tools()]
    assert names == ["list_tables", "describe_table", "query", "check_quality"]


async def test_a_person_at_a_terminal_does_not_block_the_loop() -> None:
    answered = threading.Event()

    def at_a_terminal(description: str) -> bool:
        return answered.wait(10)

    asked = asyncio.ensure_future(require_consent(at_a_terminal, "saving a file"))
    await asyncio.sleep(0.05)
    answered.set()
    await asyncio.wait_for(asked, 5)
