"""A folder that tools may read, and no way out of it.

A name is resolved with its symbolic links before it is compared, so neither `..`, nor an absolute path, nor a
link that points elsewhere leads out. What the files hold is not known here.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError


class DataFolder:
    """The files tools may see, named by their path inside the folder.

    Args:
        path: An existing folder.
        only: The files that may be read, by their paths inside; None for all.

    Attributes:
        path: The folder, resolved.

    Raises:
        ConfigurationError: There is no such folder.
    """

    def __init__(self, path: str | os.PathLike[str], *, only: Collection[str] | None = None) -> None:
        given: object = path
        if not isinstance(given, (str, os.PathLike)) or "\0" in str(path):
            raise ConfigurationError(f"a data folder is named by a path; found {shown(path)}")
        self.path = Path(path).expanduser().resolve()
        if not self.path.is_dir():
            raise ConfigurationError(f"the data folder must exist; {str(path)!r} is no folder")
        self._only = None if only is None else {_real(self.path / name) for name in only}

    def file(self, name: str, endings: Sequence[str] = ()) -> Path:
        """An existing file.

        Args:
            name: Its path inside the folder, such as "sales.csv" or "2026/march.csv".
            endings: What its name may end in, such as ".csv"; none for anything.

        Raises:
            ToolError: It is outside the folder, is not there, or has another ending.
        """
        path = self._inside(name)
        if not self._is_readable(path):  # False, too, for a name the system does not take
            raise ToolError(f"there is no file {shown(name)}; there are: {self._listed(endings)}")
        if endings and path.suffix.lower() not in endings:
            raise ToolError(f"{shown(name)} must end in {', '.join(endings)}")
        return path

    def files(self, endings: Sequence[str] = (), most: int = 1000) -> list[str]:
        """Names of the files inside, sorted; links that lead out are not among them.

        Args:
            endings: What a name may end in; none for anything.
            most: How many at most.
        """
        names: list[str] = []
        for parent, folders, files in os.walk(self.path):
            folders.sort()
            for file in sorted(files):
                path = Path(parent, file)
                if (not endings or path.suffix.lower() in endings) and self._is_readable(_real(path)):
                    names.append(path.relative_to(self.path).as_posix())
            if len(names) >= most:
                break
        return sorted(names)[:most]

    def write(self, name: str, content: bytes, endings: Sequence[str]) -> str:
        """Make a new file; a file that is there already stays as it is.

        Args:
            name: Its path inside the folder.
            content: All of it; a reader sees the whole file or none.
            endings: What its name may end in.

        Returns:
            The name it was given.

        Raises:
            ToolError: It is outside the folder, has another ending, is there already, or cannot be written.
        """
        path = self.room_for(name, endings)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _put(path, content)
        except FileExistsError:
            raise ToolError(f"{shown(name)} is there already; choose another name") from None
        except OSError as error:
            raise ToolError(f"{name!r} cannot be written: {error.strerror or error}") from error
        return path.relative_to(self.path).as_posix()

    def room_for(self, name: str, endings: Sequence[str]) -> Path:
        """Where a new file of that name would be.

        Raises:
            ToolError: It is outside the folder, has another ending or odd characters, or is there already.
        """
        path = self._inside(name)
        if not name.isprintable():
            raise ToolError(f"a new file is named in one line of plain characters; found {shown(name)}")
        if path.suffix.lower() not in endings:
            raise ToolError(f"{shown(name)} must end in {', '.join(endings)}")
        if os.path.lexists(path):
            raise ToolError(f"{shown(name)} is there already; choose another name")
        return path

    def _inside(self, name: str) -> Path:
        if not name.strip() or "\0" in name:
            raise ToolError(f"a file is named by its path inside the data folder; found {shown(name)}")
        path = _real(self.path / name)
        if not self._holds(path):
            raise ToolError(f"{shown(name)} is outside the data folder; give a path inside it")
        return path

    def _is_readable(self, path: Path) -> bool:
        shown = self._only is None or path in self._only
        return shown and self._holds(path) and os.path.isfile(path)

    def _holds(self, path: Path) -> bool:
        return path != self.path and path.is_relative_to(self.path)

    def _listed(self, endings: Sequence[str]) -> str:
        names = self.files(endings, most=21)
        more = ", ..." if len(names) > 20 else ""
        return (", ".join(names[:20]) + more) or "none"


def _real(path: Path) -> Path:
    """Where a path leads, links followed; a circle of links leads to itself, and is no file."""
    return Path(os.path.realpath(path))


def _put(path: Path, content: bytes) -> None:
    """Write beside, then link into place: a link is made whole or not at all, and never over a file."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        try:
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with path.open("xb") as file:
                file.write(content)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
