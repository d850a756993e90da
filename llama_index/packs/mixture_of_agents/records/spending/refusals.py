"""What is said when a budget refuses a run: what was found, and what to do. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.packs.mixture_of_agents.facts import MixtureFacts, SeatFacts
from llama_index.packs.mixture_of_agents.records.spending.degrading import Plan

_WHAT_TO_DO = {
    "price": (
        "No price is known for {who}, so a budget in USD cannot be kept. Give it one, in USD per million "
        'tokens: prices={{"{key}": {{"input": ..., "output": ...}}}}, to the pack, to the table prices of '
        "a configuration, or to the Budget where "
        "you made one; or limit tokens or seconds."
    ),
    "tokens": (
        "Nobody knows beforehand how often {who} asks its model, so a budget in tokens cannot be kept with "
        "it. Limit seconds instead, or leave it out."
    ),
    "window": (
        "The question has pictures or documents, whose tokens nobody can tell, and the context window of "
        "{who} is unknown. Ask without them, or limit seconds."
    ),
}


def cannot_bound(seats: Sequence[tuple[SeatFacts, str]]) -> str:
    """Nobody knows what these cost at most; each with what is missing."""
    missing = seats[0][1]
    chosen = [seat for seat, what in seats if what == missing]
    who = ", ".join(f"{seat.name} ({seat.identity})" for seat in chosen)
    key = f"{chosen[0].identity.class_name}:{chosen[0].identity.model}"
    return _WHAT_TO_DO[missing].format(who=who, key=key)


def too_small(limit: str, needed: str, least: Plan, facts: MixtureFacts) -> str:
    """Even the least run may cost more than a run may."""
    return (
        f"A budget of {limit} is too small for this mixture: {_told(least, facts)} may cost up to {needed}. "
        f"Set a budget of at least {needed}, or lower max_tokens{_longest(facts)}."
    )


def used_up(total: str, spent: str, needed: str) -> str:
    """The least run does not fit into what is left for all runs."""
    return (
        f"The total budget of {total} is used up or spoken for: {spent} are spent, and the least this run "
        f"could do may cost up to {needed}. Raise total, or ask less."
    )


def _told(plan: Plan, facts: MixtureFacts) -> str:
    names = [facts.layers[layer - 1][n].name for layer, kept in plan.kept.items() for n in kept]
    allowed = [length for length in (plan.longest_answer, facts.aggregator.longest_answer) if length]
    short = f" of {min(allowed)} tokens" if allowed else ""
    if facts.finish.get("name") == "vote" and names:
        return f"asking {', '.join(names)}"
    asked = f"{', '.join(names)} and then " if names else ""
    return f"asking {asked}{facts.aggregator.name} for an answer{short}"


def _longest(facts: MixtureFacts) -> str:
    """A reminder where answers may be as long as a context window."""
    seats = [seat for layer in facts.layers for seat in layer] + [facts.aggregator]
    open_ended = [seat.name for seat in seats if (seat.longest_answer or -1) <= 0]
    if not open_ended:
        return ""
    names = ", ".join(dict.fromkeys(open_ended))
    return f" (none is set for {names}, so an answer may fill a context window)"
