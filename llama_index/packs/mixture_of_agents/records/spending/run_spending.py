"""One run under its budget: each call is checked before it goes out, and taken down when it is back.

Held back at any time: what calls that are out cost at most, what the rest of an opened round costs, and what
the least acceptable end needs. So the answer can be paid whatever else is left out. A round is decided upon
when its first call is about to go out, knowing what earlier ones really cost. It places no calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.spending.bounds import Bounds
from llama_index.packs.mixture_of_agents.records.spending.budget_report import BudgetReport, Degradation
from llama_index.packs.mixture_of_agents.records.spending.degrading import Degrading, Plan, longest_fitting
from llama_index.packs.mixture_of_agents.records.spending.ledger import NOTHING, Amount
from llama_index.packs.mixture_of_agents.records.spending.pace import Pace
from llama_index.packs.mixture_of_agents.records.spending.purse import Purse
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage

_WITHOUT = {"roles": ("no_roles", "fixed roles stand in"), "condense": ("no_condensing", "all is passed on")}
_EARLIER = "Checkpoint"
"""The policy that answers with what this very run has paid for before it was killed."""


class RunBudget:
    """A `CallPolicy` and a `RunWatch` that keeps one run within its budget.

    Args:
        purse: The money.
        bounds: What calls cost at most.
        degrading: How the run is made to fit.
        pace: The run's time.
        on_end: Told the report once the run is over.
    """

    def __init__(
        self,
        purse: Purse,
        bounds: Bounds,
        degrading: Degrading,
        pace: Pace,
        on_end: Callable[[BudgetReport], None],
    ) -> None:
        self._purse, self._bounds, self._degrading, self._pace = purse, bounds, degrading, pace
        self._on_end = on_end
        self._opened: dict[int, tuple[int, ...]] = {}
        self._refusals: dict[int, str] = {}
        self._waiting: dict[int, Amount] = {}
        self._drafts: dict[int, dict[int, int]] = {}
        self._expected: dict[int, dict[int, int]] = {}
        self._degraded: list[Degradation] = []
        self._over_bound: list[str] = []
        self._retries = 0
        self._is_over = False

    async def before(self, call: Call) -> Missing | Sampling | None:
        """None where the call fits, a Sampling where it fits when it is shorter, else a Missing."""
        if call.task == "propose":
            return self._before_proposal(call)
        if call.task in _WITHOUT:
            return self._before_extra(call)
        return self._before_answer(call)

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """Take down what a call cost, and let go of what was held back for it."""
        if call.task == "propose":
            self._pace.answers(call.layer, outcome.latency_seconds if isinstance(outcome, Proposal) else 0.0)
            self._expected.get(call.layer, {}).pop(call.index, None)
        if isinstance(outcome, Proposal):
            cost = self._bounds.used(call, outcome.text, outcome.usage)
            if not self._purse.settle(call.place, cost):
                self._over_bound.append(call.proposer)
            if call.task == "propose":
                self._came(call, outcome)
        elif outcome.status is not None:
            self._purse.settle(call.place, NOTHING)  # providers do not charge for answering with an error
        else:
            self._purse.assume(call.place)
        self._hold()

    def asks(self, call: Call) -> None:
        """Nothing to do: `before` will be asked."""

    def happened(self, event: ProgressEvent) -> None:
        """Count the attempts that nobody says the cost of."""
        self._retries += event.kind == "retry"

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """Proposals of earlier policies count as drafts; a call without an answer may say what it used."""
        if isinstance(record, Proposal) and source == _EARLIER:
            self._purse.spent_before(self._bounds.used(call, record.text, record.usage))
        if isinstance(record, Proposal) and call.task == "propose":
            self._came(call, record)
        said = usage.cost_usd is not None or usage.prompt_tokens is not None
        if isinstance(record, Missing) and not source and said:
            self._purse.learn(call.place, self._bounds.used(call, "", usage))

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """Calls that are still out may be charged; whatever else was held back is free again."""
        if self._is_over:
            return
        self._is_over = True
        self._purse.close()
        self._on_end(self.report())

    def report(self) -> BudgetReport:
        """What was spent and left out so far."""
        return BudgetReport(
            **self._purse.figures(),
            limit_seconds=self._pace.seconds,
            seconds=self._pace.elapsed,
            retries=self._retries,
            over_bound=self._over_bound,
            degraded=self._degraded,
        )

    def _came(self, call: Call, proposal: Proposal) -> None:
        """A draft for the calls to come."""
        if call.layer == max(self._opened, default=0):
            self._waiting.pop(call.index, None)
        self._expected.get(call.layer, {}).pop(call.index, None)
        size = self._bounds.draft(as_reference(proposal.text))
        self._drafts.setdefault(call.layer, {})[call.index] = size

    def _before_proposal(self, call: Call) -> Missing | None:
        self._open(call.layer, NOTHING)
        self._waiting.pop(call.index, None)
        if call.index not in self._opened[call.layer]:
            return call.missing(f"not asked: {self._refusals[call.layer]}")
        bound = self._bounds.call(call)
        if not self._take(call, bound):
            self._expected[call.layer].pop(call.index, None)
            reason = self._does_not_fit(bound)
            self._note("drop_dearest", call.layer, [call.proposer], reason)
            return call.missing(f"not asked: {reason}")
        self._pace.asks(call.layer)
        return None

    def _before_extra(self, call: Call) -> Missing | None:
        """Roles are for the round they belong to, condensing is for the next one."""
        for_layer, bound = call.layer + (call.task == "condense"), self._bounds.call(call)
        self._open(for_layer, bound)
        measure, instead = _WITHOUT[call.task]
        if not self._opened[for_layer]:
            return call.missing(f"not asked: {self._refusals[for_layer]}")
        if self._take(call, bound):
            return None
        reason = f"{self._does_not_fit(bound)}; {instead}"
        self._note(measure, call.layer, [call.proposer], reason)
        return call.missing(f"not asked: {reason}")

    def _before_answer(self, call: Call) -> Missing | Sampling | None:
        self._waiting.clear()
        room = self._purse.room() - self._passes_after(call)
        if self._bounds.call(call).fits(room):
            self._purse.take(call.place, self._bounds.call(call), self._passes_after(call))
            return None
        longest = self._bounds.longest(call)
        shortest = min(longest, self._degrading.shortest_allowed(longest))
        tokens = longest_fitting(shortest, longest, lambda n: self._bounds.call(call, n).fits(room))
        bound = self._bounds.call(call, tokens)
        if not bound.fits(room) or not self._purse.take(call.place, bound, self._passes_after(call)):
            reason = self._does_not_fit(bound)
            self._note("no_answer", call.layer, [call.proposer], reason)
            return call.missing(f"not asked: {reason}")
        reason = f"{tokens} tokens instead of {longest}, for {self._purse.shown(room)} of the budget is left"
        self._note("short_synthesis", call.layer, [call.proposer], reason)
        return replace(call.sampling, max_tokens=tokens)

    def _passes_after(self, call: Call) -> Amount:
        """What the passes behind this one need at least."""
        course = self._degrading.course
        shortest = self._degrading.shortest_allowed(self._bounds.longest(call))
        passes = list(course.finish(self._read_last(), shortest))
        return sum(map(self._degrading.bound, passes[call.turn + 1 :]), NOTHING)

    def _open(self, layer: int, beside: Amount) -> None:
        """Decide who of a round is asked, when the first call for it is about to go out."""
        if layer in self._opened:
            return
        self._waiting.clear()
        self._expected.clear()
        drafts, whole = self._read_last(), self._degrading.whole(layer)
        room, cost = self._purse.room() - beside, self._degrading.cost(whole, drafts)
        late = self._pace.too_late_for(layer)
        plan = replace(whole, kept={}) if late else self._degrading.fitted(whole, room, drafts)
        kept = self._opened[layer] = plan.kept.get(layer, ())
        for index in kept:
            proposal = self._degrading.course.proposal(layer, index, drafts)
            self._waiting[index] = self._degrading.bound(proposal)
            self._expected.setdefault(layer, {})[index] = self._degrading.course.draft(proposal.writes)
        self._hold()
        self._tell_opened(layer, late, cost, room)

    def _tell_opened(self, layer: int, late: str, cost: Amount, room: Amount) -> None:
        kept, seats = self._opened[layer], self._degrading.course.facts.layers[layer - 1]
        dropped = [seat.name for index, seat in enumerate(seats) if index not in kept]
        rest = f"what is left to do may cost up to {self._purse.shown(cost)}, and {self._purse.shown(room)}"
        measure = "drop_dearest" if kept else "skip_refine"
        what = "one of the dearest of its round" if kept else f"round {layer} is skipped"
        self._refusals[layer] = f"{what}: {late or f'{rest} of the budget is left'}"
        if dropped:
            self._note(measure, layer, dropped, self._refusals[layer])

    def _take(self, call: Call, bound: Amount) -> bool:
        return self._purse.take(call.place, bound, self._needed_beside_calls())

    def _hold(self) -> None:
        self._purse.keep(self._needed_beside_calls())

    def _needed_beside_calls(self) -> Amount:
        """What the rest of the open round and the least acceptable end may cost."""
        layer = max(self._opened, default=0)
        rest = self._degrading.whole(layer + 1)
        coming = [*self._drafts.get(layer, {}).values(), *self._expected.get(layer, {}).values()]
        needed = self._least(rest, coming or self._read_last())
        if coming and self._read_last():
            # When the round gives nothing, what follows reads the round before it.
            needed = needed.most(self._least(rest, self._read_last()))
        return sum(self._waiting.values(), needed)

    def _least(self, rest: Plan, drafts: Sequence[int]) -> Amount:
        return self._degrading.cost(self._degrading.least(rest, drafts), drafts)

    def _read_last(self) -> list[int]:
        """Sizes of the proposals of the last round that has any."""
        layer = max(self._drafts, default=0)
        return list(self._drafts.get(layer, {}).values())

    def _does_not_fit(self, bound: Amount) -> str:
        room = self._purse.room() - self._needed_beside_calls()
        left = self._purse.shown(room.most(NOTHING))
        return f"it may cost up to {self._purse.shown(bound)}, and {left} of the budget is left for it"

    def _note(self, measure: str, layer: int, who: list[str], reason: str) -> None:
        self._degraded.append(Degradation(measure=measure, layer=layer, who=who, reason=reason))
