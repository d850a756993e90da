"""What a run leaves out so that it fits a budget: the decision alone, as arithmetic on planned calls.

The measures are taken in the order given, each as far as it must go: refine layers from the last, the
dearest proposers one by one, a shorter answer. This module spends nothing and knows no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from llama_index.packs.mixture_of_agents.records.spending.course import Course, PlannedCall
from llama_index.packs.mixture_of_agents.records.spending.ledger import NOTHING, Amount

Measure = Literal["skip_refine", "drop_dearest", "short_synthesis"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True)
class Plan:
    """What is left of a run to do.

    Attributes:
        kept: Layer -> who of it is asked; nobody for a skipped one.
        longest_answer: Of the finish, in tokens; None for as long as it may be.
        extras: With the calls a run can do without: roles, condensing.
    """

    kept: Mapping[int, tuple[int, ...]]
    longest_answer: int | None = None
    extras: bool = True


@dataclass(frozen=True)
class Degrading:
    """How runs of one mixture are made to fit.

    Attributes:
        course: The calls they make.
        bound: The most that one of them costs.
        order: The measures that may be taken, first to last.
        shortest: The shortest answer that is still acceptable, in tokens.
    """

    course: Course
    bound: Callable[[PlannedCall], Amount]
    order: Sequence[Measure]
    shortest: int

    def shortest_allowed(self, longest: int) -> int:
        """How short an answer of at most so many tokens may be made."""
        return min(self.shortest, longest) if "short_synthesis" in self.order else longest

    def cost(self, plan: Plan, drafts: Sequence[int] = ()) -> Amount:
        """The most a plan costs, when its first layer reads drafts of these sizes."""
        calls = self.course.calls(plan.kept, drafts, longest_answer=plan.longest_answer, extras=plan.extras)
        return sum(map(self.bound, calls), NOTHING)

    def whole(self, first: int = 1) -> Plan:
        """Everything from a layer on."""
        return Plan({layer: tuple(seats) for layer, seats in self.course.everyone.items() if layer >= first})

    def fitted(self, plan: Plan, room: Amount, drafts: Sequence[int] = ()) -> Plan:
        """The plan with as little left out as the order of measures allows; the least where nothing fits."""
        for step in self._steps(plan, room, drafts):
            plan = step
            if self.cost(plan, drafts).fits(room):
                break
        return plan

    def least(self, plan: Plan, drafts: Sequence[int] = ()) -> Plan:
        """The plan with everything left out that may be."""
        for step in self._steps(plan, None, drafts):
            plan = step
        return plan

    def _steps(self, plan: Plan, room: Amount | None, drafts: Sequence[int]) -> Iterator[Plan]:
        """The plan as it is, then with one thing more left out each time."""
        yield plan
        for measure in self.order:
            if measure == "skip_refine":
                plan = yield from self._skipping(plan)
            elif measure == "drop_dearest":
                plan = yield from self._dropping(plan, drafts)
            else:
                plan = self._shortened(plan, room, drafts)
                yield plan
        yield replace(plan, extras=False)

    def _skipping(self, plan: Plan) -> Generator[Plan, None, Plan]:
        for layer in sorted((n for n, seats in plan.kept.items() if n > 1 and seats), reverse=True):
            plan = replace(plan, kept={**plan.kept, layer: ()})
            yield plan
        return plan

    def _dropping(self, plan: Plan, drafts: Sequence[int]) -> Generator[Plan, None, Plan]:
        while True:
            dearest = self._dearest(plan, drafts)
            if dearest is None:
                return plan
            left = tuple(n for n in plan.kept[dearest.layer] if n != dearest.index)
            plan = replace(plan, kept={**plan.kept, dearest.layer: left})
            yield plan

    def _dearest(self, plan: Plan, drafts: Sequence[int]) -> PlannedCall | None:
        """Of all proposers who are not the last of their layer; the later one of equals."""
        calls = [
            call
            for call in self.course.calls(plan.kept, drafts, extras=False)
            if call.task == "propose" and len(plan.kept[call.layer]) > 1
        ]
        return max(calls, key=lambda call: (self._price(call), call.layer, call.index), default=None)

    def _price(self, call: PlannedCall) -> tuple[float, float]:
        bound = self.bound(call)
        return bound.usd, bound.tokens

    def _shortened(self, plan: Plan, room: Amount | None, drafts: Sequence[int]) -> Plan:
        """The plan with the longest answer that fits, the shortest acceptable one where none does."""
        if room is None:
            return replace(plan, longest_answer=self.shortest)
        finish = list(self.course.calls(plan.kept, drafts))
        longest = finish[-1].writes if finish and finish[-1].task != "propose" else self.shortest

        def fits(tokens: int) -> bool:
            return self.cost(replace(plan, longest_answer=tokens), drafts).fits(room)

        return replace(plan, longest_answer=longest_fitting(self.shortest, longest, fits))


def longest_fitting(shortest: int, longest: int, fits: Callable[[int], bool]) -> int:
    """The largest number that fits, where smaller ones fit if it does; the smallest where none does."""
    low, high = min(shortest, longest), longest
    if fits(high):
        return high
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
