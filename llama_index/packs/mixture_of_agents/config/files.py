"""Configuration files: TOML, YAML or JSON by their names; what is wrong is said with file, line and key.

It knows no field.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.config.faults import Fault, Place, RefusedError, refused
from llama_index.packs.mixture_of_agents.config.mixture_config import MixtureConfig
from llama_index.packs.mixture_of_agents.config.secrecy import masked
from llama_index.packs.mixture_of_agents.config.writing import EXPONENTS
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = ("moa.toml", "moa.yaml", "moa.yml", "moa.json")
"""What a configuration is called where nobody names one."""
_LARGEST = 1_000_000


class _SyntaxError(Exception):
    """A file that cannot be read as what its name says."""

    def __init__(self, said: str, line: int | None = None) -> None:
        super().__init__(said)
        self.line = line


def find_config(folder: str | os.PathLike[str] = ".") -> Path | None:
    """The configuration in a folder; None where there is none.

    Raises:
        ConfigurationError: There are several.
    """
    found = [path for path in (Path(folder, name) for name in NAMES) if path.exists()]
    if len(found) > 1:
        listed = " and ".join(path.name for path in found)
        raise ConfigurationError(f"{Path(folder)} holds {listed}; name the one you mean.")
    return found[0] if found else None


def load_config(path: str | os.PathLike[str]) -> MixtureConfig:
    """Read a mixture from a file: .toml, .yaml, .yml or .json.

    Raises:
        ConfigurationError: It cannot be read, or something in it cannot work; the message names the file,
            the line where that is known, the key, and what is valid.
    """
    file = Path(path)
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise ConfigurationError(
            f"{file}: a configuration's name ends in {', '.join(_READERS)}; found "
            f"{file.suffix or 'no ending'}."
        )
    text = _text(file)
    try:
        data = read(text)
        if not isinstance(data, dict):
            raise refused((), f" must be a table of keys and values; found {shown(data)}.")
        wrong = next((key for key in data if not isinstance(key, str)), None)
        if wrong is not None:
            raise refused((), f" must have texts as keys; found {shown(wrong)}. Put it in quotes.")
        return MixtureConfig(**data)
    except _SyntaxError as error:
        said = f": {masked(str(error))}"
        raise RefusedError([Fault((), said)], str(file), [error.line]) from None
    except RefusedError as error:
        lines = [_line_of(text, fault.place) for fault in error.faults]
        raise RefusedError(error.faults, str(file), lines) from None


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST:
            raise ConfigurationError(f"{file} is no configuration: it has more than {_LARGEST} bytes.")
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"There is no file {file}. `moa config init` writes one to begin with."
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{file} is not text in UTF-8 ({error.reason}); save it as UTF-8."
        ) from error


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        found = re.search(r"\(at line (\d+)", str(error))
        raise _SyntaxError(f"this is no TOML: {error}", int(found[1]) if found else None) from None


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses to read one key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for n, key in enumerate(written) if key in written[:n]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {twice!r} stands here twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


# Numbers are the same in each of the three languages; YAML 1.1 takes 5e-2 for a text.
_Loader.add_implicit_resolver(*EXPONENTS)


def _yaml(text: str) -> Any:
    try:
        data = yaml.load(text, Loader=_Loader)  # it is a safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _SyntaxError(
            f"this is no YAML: {error.problem or error.context}", mark.line + 1 if mark else None
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _SyntaxError(f"this is no YAML: {getattr(error, 'reason', error)}") from None
    return {} if data is None else data


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise _SyntaxError(f"this is no JSON: {error.msg}", error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise _SyntaxError(f"this is no JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"the key {key!r} stands twice in one table")
        data[key] = value
    return data


_READERS: Mapping[str, Callable[[str], Any]] = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml, ".json": _json}


def _line_of(text: str, place: Place) -> int | None:
    """The line on which a key stands, where only one does; readers keep no places of what they read."""
    keys = [step for step in place if isinstance(step, str)]
    for depth in range(len(keys), 0, -1):
        lines = _lines_with(text, keys[depth - 1])
        if len(lines) == 1:
            return lines[0]
    return None


def _lines_with(text: str, key: str) -> list[int]:
    quoted = re.escape(key)
    pattern = re.compile(rf"(?:^|[\s{{,.\[])(?:\"{quoted}\"|'{quoted}'|{quoted})\s*(?:=|:|\.|\])")
    return [n for n, line in enumerate(text.splitlines(), 1) if pattern.search(line.split(" #", 1)[0])]
