"""One run under a view's eyes: events go to the view, the response comes back.

It knows the pack's stream and the view, and neither models nor commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.app.board import summary
from llama_index.packs.mixture_of_agents.app.view import View
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.events import DeltaEvent, ProgressEvent
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.reports import was_cut
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Task

Question = str | Sequence[ChatMessage]


class Listener:
    """A `CallPolicy` that lets every call go out and remembers what came back.

    Attributes:
        calls: How many calls went out; those that a store answered, or a budget refused, did not.
        texts: The newest answer of each proposer to each task in each layer.
        cut: Whether the newest text of whoever writes the answer ended at its longest length.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.texts: dict[tuple[int, Task, str], str] = {}
        self.cut = False

    async def before(self, call: Call) -> Proposal | Missing | None:
        """Let it go out."""
        return None

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """Remember what was said."""
        self.calls += 1
        if isinstance(outcome, Proposal):
            self.texts[(call.layer, call.task, call.proposer)] = outcome.text
            if call.task == "synthesize":
                self.cut = was_cut(outcome.details)


def watch(
    pack: MixtureOfAgentsPack,
    question: Question,
    view: View,
    listener: Listener,
    checkpoint: str | None = None,
) -> tuple[MixtureResponse, str]:
    """Ask a pack and show the run; Ctrl-C cancels every call in flight.

    Args:
        pack: The mixture; the listener is among its policies.
        question: What to ask, a text or a conversation.
        view: Who watches. It is closed at the end, but not finished: the answer comes first.
        listener: What the pack's calls are told to.
        checkpoint: A file to save the run to, and to resume it from.

    Returns:
        The response, and a line on what it took.
    """
    view.begin(pack.workflow.mixture.num_layers - 1)
    response = asyncio.run(_watched(pack, question, view, listener, checkpoint))
    return response, summary(response, listener.calls)


async def _watched(
    pack: MixtureOfAgentsPack, question: Question, view: View, listener: Listener, checkpoint: str | None
) -> MixtureResponse:
    async with aclosing(pack.astream(question, checkpoint)) as items:
        async for item in items:
            if isinstance(item, MixtureResponse):
                return item
            _pass_on(item, view, listener)
    raise MixtureError("The run ended without an answer.")


def _pass_on(item: ProgressEvent | DeltaEvent, view: View, listener: Listener) -> None:
    if isinstance(item, DeltaEvent):
        view.delta(item.delta)
    else:
        view.show(item, listener.texts.get((item.layer, item.task, item.proposer), ""))
