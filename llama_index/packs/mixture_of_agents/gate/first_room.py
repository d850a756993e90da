"""Several places in the line at once, for a question that any of several may answer: the first room is taken.

It knows tickets and their line, and nothing of models or gates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from llama_index.packs.mixture_of_agents.gate.tickets import Ticket
from llama_index.packs.mixture_of_agents.gate.waiting_line import WaitingLine


async def first_room(
    line: WaitingLine, tickets: Mapping[str, Ticket], seconds: float
) -> tuple[str, dict[str, str]]:
    """Wait until one of several tickets holds what it needs; the others are given back.

    Args:
        line: Where they stand.
        tickets: By name, the best first: of two that hold it at once it is the one.
        seconds: No longer than that.

    Returns:
        Its name; empty for none in time, and then why, by name.
    """
    waits = {name: asyncio.ensure_future(line.wait(one, seconds)) for name, one in tickets.items()}
    chosen = ""
    try:
        left = set(waits.values())
        while left and not chosen:
            _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            chosen = next((n for n, wait in waits.items() if wait.done() and not wait.result()), "")
        return chosen, {} if chosen else {name: wait.result() for name, wait in waits.items()}
    except GeneratorExit:  # thrown away, perhaps while this thread is at the line: no lock now, as in `wait`
        for ticket in tickets.values():
            ticket.is_lost = True
        raise
    finally:
        for name, wait in waits.items():
            wait.cancel()
            if name != chosen and not tickets[name].is_lost:
                line.give_back(tickets[name])
