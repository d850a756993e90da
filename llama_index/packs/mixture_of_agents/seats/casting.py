"""Roles written for a question by a model, read from whatever it said.

The shape asked for is `RoleList`; numbered lists, and "Role: ..." above its "Perspective: ..." and
"Instructions: ...", are understood, too. Where too little was written, fixed roles fill up. It does not call
the role writer, nor know who plays which role.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel, Field, create_model, field_validator

from llama_index.packs.mixture_of_agents.answers.shapes import read_shape
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.results import Role
from llama_index.packs.mixture_of_agents.strategies import FIXED_ROLES

_LONGEST_NAME = 80
_LONGEST_PART = 800
_LONGEST_READ = 50_000

_MARKUP = " \t*_`#\"'“”"
_FIELD = re.compile(
    r"^[\s*_`#>-]*(?:[0-9]{1,2}[.)]\s*)?[*_`]*"
    r"(?P<field>role(?:\s+name)?|name|perspective|instructions?)(?:\s*[0-9]{1,2})?[*_`\s]*[:=][*_`]*\s*"
    r"(?P<value>\S.*)$",
    re.IGNORECASE,
)
_INNER_FIELD = re.compile(r"[,;.]\s+[*_`]*(?=(?:perspective|instructions?)[*_`]*\s*:)", re.IGNORECASE)
_NUMBERED = re.compile(
    r"^\s*(?:[*_`]*(?:role\s*)?[0-9]{1,2}\s*[.):]|[-*•])\s*(?P<name>[^:\n]{1,200}?)\s*"
    r"(?::|\s[-\u2013\u2014]\s|$)\s*(?P<rest>.*)$",
    re.IGNORECASE,
)
_RUNS = re.compile(r"([\s*_`#>-])[\s*_`#>-]{2,}")
"""Runs of space and markup; read as one, so that a line of nothing else takes no time."""
_CALLS_IT = re.compile(r"^(?:you are|you're|act as)\s+", re.IGNORECASE)


class RoleList(BaseModel):
    """The roles in which models are to reply, each different from the others.

    Attributes:
        roles: One for each model.
    """

    roles: list[Role] = Field(description="One role for each model, all different.")

    @field_validator("roles", mode="before")
    @classmethod
    def _names_are_roles(cls, given: Any) -> Any:
        """A bare name is a role, too."""
        if not isinstance(given, list):
            return given
        return [{"name": role} if isinstance(role, str) else role for role in given]


@lru_cache(maxsize=64)
def role_list_of(count: int) -> type[RoleList]:
    """The shape of so many roles: its schema allows neither more nor fewer."""
    roles = Field(min_length=count, max_length=count, description=f"{count} roles, all different.")
    return create_model("RoleList", __base__=RoleList, __doc__=RoleList.__doc__, roles=(list[Role], roles))


def roles_from(model: Any, message: ChatMessage, count: int) -> list[Role] | None:
    """The roles in a role writer's answer, `count` of them with different names; None for not even one.

    Where there are too few, fixed ones fill up.

    Args:
        model: Who wrote them.
        message: Its answer.
        count: How many are wanted.
    """
    shaped = read_shape(model, message, RoleList)
    found = _distinct(shaped.roles if shaped else ())
    if not found:
        found = _distinct(_plain_roles(as_reference(message.content or "")[:_LONGEST_READ]))
    return _filled(found, count) if found else None


def fixed_roles(count: int) -> list[Role]:
    """So many roles for any question, with different names."""
    return _filled([], count)


def _filled(roles: Sequence[Role], count: int) -> list[Role]:
    filled = list(roles[:count])
    taken = {role.name.casefold() for role in filled}
    turn = 1
    while len(filled) < count:
        for role in FIXED_ROLES:
            name = role.name if turn == 1 else f"{role.name.removeprefix('a ')} number {turn}"
            if len(filled) < count and name.casefold() not in taken:
                filled.append(role.model_copy(update={"name": name}))
        turn += 1
    return filled


def _distinct(roles: Sequence[Role]) -> list[Role]:
    """The roles that say something, of bounded length, the first of each name."""
    kept: dict[str, Role] = {}
    for role in roles:
        name = _cut(_CALLS_IT.sub("", " ".join(role.name.split()).strip(_MARKUP + ".:")), _LONGEST_NAME)
        if name:
            tidy = Role(
                name=name,
                perspective=_cut(role.perspective.strip(), _LONGEST_PART),
                instructions=_cut(role.instructions.strip(), _LONGEST_PART),
            )
            kept.setdefault(name.casefold(), tidy)
    return list(kept.values())


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3].rstrip()}..."


def _plain_roles(text: str) -> list[Role]:
    lines = [line for line in text.splitlines() if line.strip()]
    return list(_labelled(lines)) or list(_numbered(lines))


def _labelled(lines: Sequence[str]) -> Iterator[Role]:
    """Roles from "Role: ...", "Perspective: ..." and "Instructions: ...", on one line or several."""
    parts: dict[str, str] = {}
    for line in lines:
        for piece in _INNER_FIELD.split(_RUNS.sub(r"\1", line)):
            found = _FIELD.match(piece)
            if not found:
                continue
            field = _field_name(found["field"])
            if field == "name" and parts.get("name"):
                yield _role_of(parts)
                parts = {}
            parts[field] = found["value"].strip(_MARKUP)
    if parts.get("name"):
        yield _role_of(parts)


def _role_of(parts: dict[str, str]) -> Role:
    name, colon, rest = parts["name"].partition(": ")
    if colon and len(parts) == 1:  # "Role 1: A nurse: looks at people"
        return Role(name=name.strip(_MARKUP), perspective=rest.strip(_MARKUP))
    return Role(**parts)


def _field_name(written: str) -> str:
    word = written.casefold()
    return "perspective" if word == "perspective" else "instructions" if word.startswith("instr") else "name"


def _numbered(lines: Sequence[str]) -> Iterator[Role]:
    """Roles from "1. Cautious economist: looks at ...", or bullets of the same form."""
    for line in lines:
        found = _NUMBERED.match(line)
        if found and found["name"].strip(_MARKUP):
            yield Role(name=found["name"].strip(_MARKUP), perspective=found["rest"].strip(_MARKUP))
