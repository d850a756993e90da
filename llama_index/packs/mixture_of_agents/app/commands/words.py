"""How a command hears its words, and how options that several commands take are written once.

It joins `argv`, which knows no parser, to typer, whose parser knows neither lists by spaces nor options with
two names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

import typer
from typer.core import TyperCommand

from llama_index.packs.mixture_of_agents.app.argv import Option, expanded
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_SEVERAL = "..."
"""The end of the metavar of an option that takes a list: MODEL..., NUMBER..., FILE..."""


class SpokenCommand(TyperCommand):
    """A command that takes lists by spaces and by commas, and `_` for `-`; see `argv`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the words into the form the parser takes, then parse them."""
        try:
            words = expanded(args, [_option(param) for param in self.params if _is_option(param)])
        except ConfigurationError as error:
            if not ctx.resilient_parsing:  # while a shell completes, half a command is no mistake
                raise typer.BadParameter(str(error), ctx=ctx) from error
            words = args
        return super().parse_args(ctx, words)


def hear(app: typer.Typer) -> None:
    """Let every command of a program, its groups' too, hear words that way."""
    for command in app.registered_commands:
        if command.cls in (None, TyperCommand):
            command.cls = SpokenCommand
        command.help = reflowed(command.help or inspect.getdoc(command.callback) or "")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            hear(group.typer_instance)


def reflowed(text: str) -> str:
    """A help text whose paragraphs are one line each, so that terminals of any width break them.

    Indented paragraphs, which are examples, stay as they are.
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        part if part.startswith(" ") else " ".join(line.strip() for line in part.splitlines())
        for part in paragraphs
    )


def _is_option(param: Any) -> bool:
    return bool(param.param_type_name == "option")


def _option(param: Any) -> Option:
    metavar = str(param.metavar or "")
    names = sorted(param.opts, key=lambda name: not name.startswith("--"))
    return Option(
        spellings=tuple(names),
        opposites=tuple(param.secondary_opts),
        is_flag=bool(param.is_flag or getattr(param, "count", False)),
        repeats=bool(param.multiple),
        is_list=param.multiple and metavar.endswith(_SEVERAL),
        splits_commas=not metavar.startswith("FILE"),
        is_numeric=metavar.startswith("NUMBER"),
    )


def bundled(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a dataclass's type stand for the dataclass's fields.

    Each field becomes a parameter of its own, with the annotation and the default it has there; the command
    gets the dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    bundles: dict[str, Any] = {
        name: kind for name, kind in hints.items() if name != "return" and is_dataclass(kind)
    }
    listed: list[inspect.Parameter] = []
    for one in inspect.signature(command).parameters.values():
        if one.name in bundles:
            listed += [_parameter(held, bundles[one.name]) for held in fields(bundles[one.name])]
        else:
            listed.append(one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def called(**values: Any) -> None:
        for name, kind in bundles.items():
            values[name] = kind(**{held.name: values.pop(held.name) for held in fields(kind)})
        command(**values)

    called.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in listed}
    return called


def _parameter(held: Any, kind: Any) -> inspect.Parameter:
    annotation = get_type_hints(kind, include_extras=True)[held.name]
    return inspect.Parameter(
        held.name, inspect.Parameter.KEYWORD_ONLY, default=held.default, annotation=annotation
    )
