"""Data that somebody named for a crew, who can work on it, and what of it is looked at first.

A database has no table files, so it goes without the analyst: SQL is asked instead. It knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from llama_index.packs.mixture_of_agents.agents import ToolUse
from llama_index.packs.mixture_of_agents.agents.specialists import (
    Specialist,
    analysis_specialist,
    data_specialist,
    visualisation_specialist,
)
from llama_index.packs.mixture_of_agents.agents.tools import cleaning, csv_tables
from llama_index.packs.mixture_of_agents.agents.tools.consent import Confirm
from llama_index.packs.mixture_of_agents.agents.tools.database import CsvFolder, Source, SqliteFile, select
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.frames import ENDINGS, polars
from llama_index.packs.mixture_of_agents.agents.tools.rows import Limits, Rows
from llama_index.packs.mixture_of_agents.app.looking import MOST_GROUPS, Look, look_for
from llama_index.packs.mixture_of_agents.app.sentences import sentences
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError

_LIMITS = Limits()
_TAKES = f"It takes a table file ({', '.join(ENDINGS)}), a folder of such, or a SQLite file."


@dataclass(frozen=True)
class Looks:
    """What is looked at, where a model cannot choose.

    Attributes:
        uses: Tool calls of each specialist, made before it says a word.
        sentences: What may be said of what the data specialist finds, as a regular expression; None for
            anything.
    """

    uses: dict[str, list[ToolUse]]
    sentences: str | None = None


@dataclass(frozen=True)
class Data:
    """What a crew looks at.

    Attributes:
        source: To be asked in SQL; None where no file is of that kind.
        folder: Of its table files; a database has none.
    """

    source: Source | None
    folder: DataFolder

    @property
    def files(self) -> list[str]:
        """Its table files."""
        return self.folder.files(ENDINGS)


def data_at(path: Path) -> Data:
    """The data somebody named.

    Raises:
        ConfigurationError: There is none, or it is of another kind.
    """
    path = path.expanduser().resolve()
    if not path.exists():
        raise ConfigurationError(f"--data {path} cannot be used: nothing is there. {_TAKES}")
    if path.is_dir():
        return _table_files(DataFolder(path), path)
    if path.suffix.lower() in ENDINGS and path.is_file():
        # Only the file that was named: its neighbours are none of the agents' business.
        return _table_files(DataFolder(path.parent, only=[path.name]), path)
    try:
        return Data(SqliteFile(path), DataFolder(path.parent, only=()))
    except ConfigurationError as error:
        raise ConfigurationError(f"--data cannot be used: {error}. {_TAKES}") from error


def _table_files(folder: DataFolder, path: Path) -> Data:
    if not folder.files(ENDINGS, most=1):
        raise ConfigurationError(f"--data {path.name} holds no table file: {', '.join(ENDINGS)}.")
    polars()
    return Data(CsvFolder(folder) if folder.files(csv_tables.ENDINGS, most=1) else None, folder)


def specialists_over(data: Data, out: DataFolder | None, confirm: Confirm | None) -> list[Specialist]:
    """Who can work on data: those of the three for whom there is something."""
    there: list[Specialist] = []
    if data.source is not None:
        there.append(data_specialist(data.source, folder=out, confirm=confirm))
    if data.files:
        there.append(analysis_specialist(data.folder))
    artist = visualisation_specialist(data.folder, confirm=confirm, out=out)
    if out is None:
        kept = [tool for tool in artist.tools if tool.metadata.name != "save_chart"]
        artist = replace(artist, tools=tuple(kept))
    return [*there, artist]


def looks_at(data: Data, question: str, out: DataFolder | None, *, everyone: bool) -> Looks:
    """What each specialist looks at before it says a word, where its model cannot choose; the data is read.

    Args:
        data: The data.
        question: What is asked.
        out: Where a chart is saved; None for nowhere.
        everyone: Whether all look, because somebody may count on them. Else only those do who find something
            that others do not: a chart that goes nowhere is for nobody.

    Raises:
        ConfigurationError: The data cannot be read.
    """
    look, looks = None, Looks({})
    if data.source is not None:
        try:
            look = _look_in(data.source, question)
            looks = looks if look is None else _asked(look, data.source, out, draws=everyone)
        except ToolError as error:
            raise ConfigurationError(f"--data cannot be read: {error}.") from error
    if look is None and not _others(data):
        raise ConfigurationError("--data has nothing in it: no table there has a column.")
    if not data.files or not (everyone or look is None):
        return looks
    looked_at = [name for name in data.files if look is not None and Path(name).stem == look.table]
    described = ToolUse("describe", {"file": [*looked_at, *data.files][0]})
    return replace(looks, uses={**looks.uses, "analysis": [described]})


def _look_in(source: Source, question: str) -> Look | None:
    names = cleaning.tables(source, _LIMITS)
    return look_for(question, {name: cleaning.columns(source, name, _LIMITS) for name in names})


def _asked(look: Look, source: Source, out: DataFolder | None, *, draws: bool) -> Looks:
    """What is asked in SQL, what may be said of it, and drawn."""
    selects, found = _selects(look, source), select(source, look.sql, _LIMITS)
    uses = {"data": [ToolUse("query", {"sql": sql}) for sql in selects]}
    chart = _chart_of(look, found, out, is_all=len(selects) == 1) if draws else {}
    is_sound = look.texts_sql is None or select(source, look.texts_sql, _LIMITS).rows[0][0] == 0
    return Looks({**uses, **chart}, sentences(look, found.rows) if is_sound else None)


def _others(data: Data) -> list[str]:
    """Table files that are not asked in SQL."""
    return [name for name in data.files if Path(name).suffix.lower() not in csv_tables.ENDINGS]


def _selects(look: Look, source: Source) -> list[str]:
    """What is looked for, and how much of it there is where that is not all."""
    if look.along is None or select(source, look.groups_sql, _LIMITS).rows[0][0] <= MOST_GROUPS:
        return [look.sql]
    return [look.groups_sql, look.sql]


def _chart_of(look: Look, found: Rows, out: DataFolder | None, *, is_all: bool) -> dict[str, list[ToolUse]]:
    if look.along is None:
        return {}
    chart = {
        "kind": "bar",
        "x": look.along,
        "y": look.name,
        "title": f"{look.name} by {look.along}{'' if is_all else f', only the {look.first}'}",
        "rows": [dict(zip(found.columns, row, strict=True)) for row in found.rows],
    }
    if out is None:
        return {"visualisation": [ToolUse("make_chart", {"chart": chart})]}
    return {"visualisation": [ToolUse("save_chart", {"chart": chart, "save_as": _free_name(out)})]}


def _free_name(out: DataFolder) -> str:
    ending = ".json" if find_spec("matplotlib") is None else ".png"
    names = (f"chart{'' if number == 1 else f'-{number}'}{ending}" for number in count(1))
    return next(name for name in names if not (out.path / name).exists())
