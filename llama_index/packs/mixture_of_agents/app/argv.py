"""Command-line words, put into the form the parser takes. Knows no command, only how its options look.

A list may be written by spaces, by commas or by repetition; `_` may stand for `-` in an option's name; an
option with several spellings may be given once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_MODEL_LIKE = re.compile(r"[a-z][a-z0-9-]*:\S")
_NUMBER_LIKE = re.compile(r"[-+.\d][-+.\deE,]*")


@dataclass(frozen=True)
class Option:
    """An option as its parser knows it.

    Attributes:
        spellings: "--layers", "--layer"; the first one is what it is called.
        opposites: What takes a flag back: "--no-trace".
        is_flag: It takes no value.
        is_list: It takes several values.
        repeats: It may be given several times, each with a value of its own.
        splits_commas: Commas part its values; not so where a value may hold one.
        is_numeric: Its values are numbers, so another word cannot be one.
    """

    spellings: tuple[str, ...]
    opposites: tuple[str, ...] = ()
    is_flag: bool = False
    is_list: bool = False
    repeats: bool = False
    splits_commas: bool = False
    is_numeric: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every way to write it."""
        return (*self.spellings, *self.opposites)

    def takes(self, word: str) -> bool:
        """Whether a word behind its first value is one more value of it.

        A word with spaces in it is one only if it begins like `provider:model`, so a question may stand last.
        """
        if self.is_numeric:
            return bool(_NUMBER_LIKE.fullmatch(word))
        return _is_value(word)

    def parted(self, value: str) -> list[str]:
        """The values that one word holds."""
        parts = [part.strip() for part in value.split(",")] if self.is_list and self.splits_commas else []
        return [part for part in parts if part] or [value]


def expanded(words: Sequence[str], options: Sequence[Option]) -> list[str]:
    """Words as a parser takes them: known names, one value for each mention of an option.

    Nothing after `--` is changed.

    Args:
        words: The words after the command's name.
        options: Those of the command.

    Raises:
        ConfigurationError: One option has two different values.
    """
    end = words.index("--") if "--" in words else len(words)
    reading = _Reading(options)
    for word in words[:end]:
        reading.read(word)
    return [*reading.ended(), *words[end:]]


class _Reading:
    """Words read so far, as the parser takes them.

    Args:
        options: Those of the command.
    """

    def __init__(self, options: Sequence[Option]) -> None:
        self._options = {name: option for option in options for name in option.names}
        self._done: list[str] = []
        self._said: dict[Option, list[tuple[str, str]]] = {}
        self._awaits_value = ""
        self._list = ""

    def read(self, word: str) -> None:
        """Read one more word."""
        name, equals, value = word.partition("=")
        name = self._known(name)
        if self._awaits_value:
            self._add(self._awaits_value, word)
        elif name in self._options and self._options[name].is_flag:
            self._add_flag(name, equals + value)
        elif name in self._options and equals:
            self._add(name, value)
        elif name in self._options:
            self._awaits_value = name
        elif self._list and not word.startswith("-") and self._options[self._list].takes(word):
            self._add(self._list, word)
        else:
            self._list = ""
            self._done.append(word)

    def ended(self) -> list[str]:
        """All words.

        Raises:
            ConfigurationError: One option has two different values.
        """
        for option, said in self._said.items():
            if option.is_list or not option.repeats:
                _check_one_meaning(option, said)
        # An option without its value is left to the parser, which says so.
        return [*self._done, *([self._awaits_value] if self._awaits_value else [])]

    def _known(self, name: str) -> str:
        """The name an option has, where `_` was written for `-`; other words stay."""
        dashed = name.replace("_", "-") if name.startswith("--") else name
        return dashed if dashed in self._options else name

    def _add(self, name: str, word: str) -> None:
        option = self._options[name]
        for value in option.parted(word):
            self._done += [name, value]
            self._said.setdefault(option, []).append((name, value))
        self._awaits_value, self._list = "", name if option.is_list else ""

    def _add_flag(self, name: str, rest: str) -> None:
        self._done.append(name + rest)
        self._said.setdefault(self._options[name], []).append((name, ""))
        self._list = ""


def _check_one_meaning(option: Option, said: Sequence[tuple[str, str]]) -> None:
    """Refuse two values for one option. A list may go on, under the name it began with, or its letter."""
    readings: dict[str, object] = {}
    full = [(name if name.startswith("--") else option.spellings[0], value) for name, value in said]
    for name, value in full:
        if option.is_list:
            listed = " ".join(given for spelled, given in full if spelled == name)
            readings[f"{name} {listed}"] = listed
        else:
            readings[f"{name} {value}".strip()] = name in option.opposites if option.is_flag else value
    if len(set(readings.values())) > 1:
        raise ConfigurationError(
            f"{' and '.join(readings)} say different things about one option; give one of them."
        )


def _is_value(word: str) -> bool:
    return not any(character.isspace() for character in word) or bool(_MODEL_LIKE.match(word))
