"""Variables that hold keys and addresses: this process's environment, over a `.env` file.

The file is read by python-dotenv and changes nothing: the environment stays as it is. Where both have a
variable, the environment's counts. It knows no provider.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

FILE = ".env"
ENVIRONMENT = "environment"
_SWITCH = "PYTHON_DOTENV_DISABLED"


class Variables(Mapping[str, str]):
    """Variables and where each is from. Blank ones count as not set.

    Args:
        environment: The process's.
        file: What the `.env` file holds.
        path: Where that file is; None where there is none.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        file: Mapping[str, str | None] | None = None,
        path: Path | None = None,
    ) -> None:
        self.path = path
        self._environment = {name: value for name, value in environment.items() if value.strip()}
        self._file = {name: value for name, value in (file or {}).items() if value and value.strip()}

    def __getitem__(self, name: str) -> str:
        if name in self._environment:
            return self._environment[name]
        return self._file[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._file, **self._environment})

    def __len__(self) -> int:
        return len({**self._file, **self._environment})

    def __repr__(self) -> str:
        return f"Variables({len(self)} of them, file={str(self.path) if self.path else None!r})"

    def source(self, name: str) -> str:
        """Where a variable is from: "environment", or the file's path; empty where it is not set."""
        if name in self._environment:
            return ENVIRONMENT
        return str(self.path) if name in self._file else ""


def variables(folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Variables:
    """The environment's variables over those of the folder's `.env` file.

    PYTHON_DOTENV_DISABLED=1, python-dotenv's own switch, leaves the file out.

    Args:
        folder: Where the file is looked for; by default the current one.
        environment: By default the process's.

    Raises:
        ConfigurationError: The file is there and cannot be read.
    """
    environment = os.environ if environment is None else environment
    path = (Path.cwd() if folder is None else folder) / FILE
    if environment.get(_SWITCH, "").casefold() in ("1", "true", "t", "yes", "y") or not path.exists():
        return Variables(environment)
    try:
        # What Windows' editors put before the first line is no part of a name.
        return Variables(environment, dotenv_values(path, encoding="utf-8-sig"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({type(error).__name__}); it must be UTF-8 text with a line like "
            f"OPENAI_API_KEY=... for each key. Repair it, or set {_SWITCH}=1 to leave it out."
        ) from error


class StandInKeys(Mapping[str, str]):
    """Variables with something in the place of every key that is not set.

    For models that are only looked at (what would they cost?) and never asked.

    Args:
        held: The variables that are set.
    """

    def __init__(self, held: Mapping[str, str]) -> None:
        self._held = held

    def __getitem__(self, name: str) -> str:
        if name in self._held or not name.endswith("_API_KEY"):
            return self._held[name]
        return "no-key"

    def __contains__(self, name: object) -> bool:
        return name in self._held or (isinstance(name, str) and name.endswith("_API_KEY"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def source_of(name: str, env: Mapping[str, str]) -> str:
    """Where a variable is from; all of a plain mapping's are from the same place."""
    return env.source(name) if isinstance(env, Variables) else "given"
