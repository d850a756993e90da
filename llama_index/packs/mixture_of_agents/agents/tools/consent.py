"""Leave to write: whoever runs an agent says yes or no to each file it wants to make.

The one who is asked may be a function, a person at a terminal, or a workflow that sends an event and waits.
Nothing is written where nobody can be asked. What is written is not known here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from llama_index.packs.mixture_of_agents.calls.threads import called
from llama_index.packs.mixture_of_agents.errors import ToolError

Confirm: TypeAlias = Callable[[str], "bool | Awaitable[bool]"]
"""Takes a description of what is about to be written and answers whether it may be; plain or async."""


async def require_consent(confirm: Confirm | None, description: str) -> None:
    """Ask for leave; return only with a yes.

    Args:
        confirm: Whom to ask, a plain function in a thread; None where nobody can be asked.
        description: What is about to be done, with the place it is done to.

    Raises:
        ToolError: Nobody can be asked, or the answer was no.
    """
    if confirm is None:
        raise ToolError(f"not done: {description} needs a confirmation, and nobody is there to give one")
    answer = await called(confirm, description)  # one that asks at a terminal blocks
    if answer is not True:
        raise ToolError(f"not done: {description} was declined")
