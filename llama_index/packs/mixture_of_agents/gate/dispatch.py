"""Top-k, capacity, overflow, dispatch: of those a gate scored, the best who have room.

As in `sparse_moe`: whoever is among the first k and has no room overflows to the next best that has, in the
order of scores. Pure; whether there is room, and what is held for it, is asked of the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision


@dataclass(frozen=True)
class Ranking:
    """Who may be asked, the best first.

    Attributes:
        names: Everyone who may.
        top_k: How many are to be asked.
        unusable: Whose score is no number; they come last.
    """

    names: tuple[str, ...]
    top_k: int
    unusable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dispatch:
    """Who is asked.

    Attributes:
        asked: Names, the best first.
        overflowed: Those among the first k who had no room, and why.
        stand_ins: Those of `asked` who were not among the first k.
    """

    asked: tuple[str, ...] = ()
    overflowed: Mapping[str, str] = field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()

    def reason(self) -> str:
        """What became of those without room, in words; empty where all had room."""
        if not self.overflowed:
            return ""
        why = "; ".join(f"{name} has no room ({said})" for name, said in self.overflowed.items())
        instead = ", ".join(self.stand_ins) or "nobody"
        return f"{why}; asked instead: {instead}"


def ranked(
    decision: GateDecision, candidates: Sequence[str], done: Collection[str], top_k: int | None
) -> Ranking:
    """Put those who may be asked in order.

    First whom the gate asks for, as it orders them; then the others by score, and those it gives no score
    behind them, as they sit. A score that is no number puts its owner last of all, asked for or not.

    Args:
        decision: The gate's.
        candidates: Everyone who is there.
        done: Those who were called already.
        top_k: How many are to be asked; None for as many as the gate asks for.
    """
    left = [name for name in candidates if name not in done]
    wanted = [name for name in dict.fromkeys(decision.ask) if name in left]
    scores = decision.scores
    unusable = [name for name in left if name in scores and not math.isfinite(scores[name])]
    others = [name for name in left if name not in wanted]
    others.sort(key=lambda name: -scores[name] if name in scores and name not in unusable else math.inf)
    order = [name for name in [*wanted, *others] if name not in unusable]
    order += [name for name in [*wanted, *others] if name in unusable]
    return Ranking(tuple(order), min(len(order), len(wanted) if top_k is None else top_k), tuple(unusable))


def dispatch(ranking: Ranking, lacks: Callable[[str], str]) -> Dispatch:
    """Ask the first k, and for each who has no room the next best who has.

    Args:
        ranking: Who may be asked.
        lacks: Takes room for a name and gives "", or says why there is none; asked once for each name.
    """
    asked: list[str] = []
    overflowed: dict[str, str] = {}
    for place, name in enumerate(ranking.names):
        if len(asked) == ranking.top_k:
            break
        why = lacks(name)
        if not why:
            asked.append(name)
        elif place < ranking.top_k:
            overflowed[name] = why
    first = ranking.names[: ranking.top_k]
    return Dispatch(tuple(asked), overflowed, tuple(name for name in asked if name not in first))
