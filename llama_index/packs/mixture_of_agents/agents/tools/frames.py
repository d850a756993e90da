"""Table files as polars frames: CSV, TSV, JSON lines and Parquet, out of a data folder.

Polars is the extra `tables`; it is imported when a table is read. What is done with a frame is not known
here.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.rows import Limits, Rows, shown_rows
from llama_index.packs.mixture_of_agents.errors import MissingExtraError, ToolError

if TYPE_CHECKING:
    import polars as pl

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LARGEST = 500_000_000
"""Bytes of one file: it is held in memory."""
MOST_CELLS = 200_000_000
"""Of a Parquet file, where a column of one value takes no room on disk whatever its length."""
_ROWS_TO_TYPE = 10_000
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and zlib begin: polars unpacks them unasked, to any size."""


def polars() -> ModuleType:
    """The library.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module("polars")
    except ModuleNotFoundError as error:
        raise MissingExtraError("work on tables", "tables") from error


def read_table(folder: DataFolder, file: str) -> pl.DataFrame:
    """A table file as a frame; dates are found in texts that look like them.

    Args:
        folder: Where it is.
        file: Its path inside the folder.

    Raises:
        ToolError: It is not there, of another kind, too large, or cannot be read.
        MissingExtraError: Polars is not installed.
    """
    library = polars()
    path = folder.file(file, ENDINGS)
    if path.stat().st_size > LARGEST:
        raise ToolError(f"{file!r} has {path.stat().st_size} bytes; at most {LARGEST} are read")
    try:
        _refuse_unpacked(library, path, file)
        frame: pl.DataFrame = _read(library, path)
    except (library.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise ToolError(f"{file!r} cannot be read as a table: {error}") from error
    return frame


def _refuse_unpacked(library: ModuleType, path: Path, file: str) -> None:
    """Refuse what is small on disk and may be gigabytes in memory."""
    if path.suffix.lower() == ".parquet":
        lazy = library.scan_parquet(path, glob=False)
        cells = int(lazy.select(library.len()).collect().item()) * len(lazy.collect_schema())
        if cells > MOST_CELLS:
            raise ToolError(f"{file!r} holds {cells} values; at most {MOST_CELLS} are read")
        return
    with path.open("rb") as opened:
        if opened.read(4).startswith(_COMPRESSED):
            raise ToolError(f"{file!r} is compressed; unpack it first")


def _read(library: ModuleType, path: Path) -> pl.DataFrame:
    ending = path.suffix.lower()
    if ending == ".parquet":
        frame: pl.DataFrame = library.read_parquet(path, glob=False)
        return frame
    if ending in (".jsonl", ".ndjson"):
        frame = library.read_ndjson(path, infer_schema_length=None)
        return frame
    frame = library.read_csv(
        path,
        separator="\t" if ending == ".tsv" else ",",
        infer_schema_length=_ROWS_TO_TYPE,
        try_parse_dates=True,
        truncate_ragged_lines=True,
        glob=False,
    )
    return frame


def columns_known(frame: pl.DataFrame, *names: str | None) -> None:
    """Refuse names that are no columns of the frame; None passes.

    Raises:
        ToolError: One is not.
    """
    unknown = [name for name in names if name is not None and name not in frame.columns]
    if unknown:
        raise ToolError(f"there is no column {', '.join(unknown)}; there are: {', '.join(frame.columns)}")


def as_rows(frame: pl.DataFrame, limits: Limits) -> Rows:
    """The first rows of a frame, for a model to read."""
    return shown_rows(frame.columns, frame.iter_rows(), limits)
