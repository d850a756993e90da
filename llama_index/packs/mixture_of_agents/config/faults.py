"""What is wrong with a configuration, and where in it. It knows no field and no file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

Place = tuple[str | int, ...]
"""The keys and indices from the top down to a value."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def place_shown(place: Place) -> str:
    """A place as people write it: `proposers[1].settings.api_base`, `models."gpt-4.1"`."""
    shown = ""
    for step in place:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            bare = step if _BARE.fullmatch(step) else f'"{step}"'
            shown += f".{bare}" if shown else bare
    return shown or "the configuration"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        place: Where.
        said: What was found, what is valid, what to do; it reads on from the place.
    """

    place: Place
    said: str

    def __str__(self) -> str:
        reads_on = self.said.startswith((" ", ":", "[", ".", "'"))
        return f"{place_shown(self.place)}{'' if reads_on else ': '}{self.said}"


class RefusedError(ConfigurationError):
    """A configuration that cannot work.

    Args:
        faults: All that was found.
        origin: The file, and with it the line of each fault where that is known; empty for none.
        lines: The line of each fault, from 1; None where it is not known.
    """

    def __init__(self, faults: Sequence[Fault], origin: str = "", lines: Sequence[int | None] = ()) -> None:
        self.faults = tuple(faults)
        self.origin = origin
        self.lines = tuple(lines) or (None,) * len(self.faults)
        told = zip(self.faults, self.lines, strict=True)
        super().__init__("\n".join(f"{_before(origin, line)}{fault}" for fault, line in told))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults, self.origin, self.lines)


def _before(origin: str, line: int | None) -> str:
    if not origin:
        return ""
    return f"{origin}: " if line is None else f"{origin}, line {line}: "


def refused(place: Place, said: str) -> RefusedError:
    """The error for one fault."""
    return RefusedError([Fault(place, said)])
