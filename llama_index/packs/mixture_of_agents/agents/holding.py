"""What holds words to what was found: a check that sets them aside, arguments for the call that words it.

Both are functions of the user's, plain or async; a plain one may block. Where they cannot be asked, or give
something else than they should, words do not pass. What was found, and who words it, is not known here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.agents.speaking import Said, Speaker
from llama_index.packs.mixture_of_agents.calls.retries import describe
from llama_index.packs.mixture_of_agents.calls.threads import called
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

Found = TypeVar("Found")

Check: TypeAlias = Callable[[str, Sequence[str]], "str | Awaitable[str | None] | None"]
"""Of a text and what it rests on: why it cannot stand, or an empty text."""

HeldTo: TypeAlias = Callable[[Sequence[Found]], "Mapping[str, Any] | Awaitable[Mapping[str, Any]]"]
"""Of what was found: arguments for the call that words it, such as `{"regex": ...}`; with none it is free."""


def refuse_no_functions(whose: str, check: object, held_to: object) -> None:
    """Refuse what cannot be asked.

    Args:
        whose: The member's name, or the crew's.
        check: To be a `Check`, or None.
        held_to: To be a `HeldTo`, or None.

    Raises:
        ConfigurationError: One is neither a function nor None.
    """
    for name, given, of in (
        ("check", check, "a text and its sources"),
        ("held_to", held_to, "what was found"),
    ):
        if given is not None and not callable(given):
            raise ConfigurationError(
                f"the {name} of {whose!r} must be a function of {of}, or None; found {shown(given)}"
            )


async def checked(check: Check, said: Said, sources: Sequence[str]) -> Said:
    """What was said, or why it cannot stand.

    Args:
        check: Says so.
        said: What was said.
        sources: What it rests on.
    """
    try:
        why = await called(check, said.text, sources)
    except Exception as error:
        why = f"its check failed: {describe(error)}"
    if why is not None and not isinstance(why, str):
        why = (
            f"its check failed: it gave {shown(why)}; it should give why words cannot stand, or an empty text"
        )
    return replace(said, reason=f"its words were set aside: {why}") if why else said


async def say_held(
    speaker: Speaker, messages: Sequence[ChatMessage], held_to: HeldTo[Found], found: Sequence[Found]
) -> Said:
    """Ask for words that are held to what was found; where they cannot be held, nothing is said.

    Args:
        speaker: Who words it.
        messages: What it reads.
        held_to: Gives the call's arguments.
        found: What it is held to.
    """
    try:
        arguments = await called(held_to, found)
    except Exception as error:
        return Said(reason=f"nothing could be found to hold it to: {describe(error)}", error=error)
    if not isinstance(arguments, Mapping):
        return Said(
            reason=f"held_to gave {shown(arguments)}; it should give a mapping of arguments for the call"
        )
    return await speaker.say(messages, arguments, must=bool(arguments))
