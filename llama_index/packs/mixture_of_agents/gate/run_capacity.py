"""One run under shared limits: its calls wait for room, are settled when they are back, and give back all.

What a run holds is in its tickets, by the place of a call; what a gate has taken for those it names is held
by name until their calls come. It knows no gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.estimates import Estimates, used_tokens
from llama_index.packs.mixture_of_agents.gate.first_room import first_room
from llama_index.packs.mixture_of_agents.gate.gauges import Gauge
from llama_index.packs.mixture_of_agents.gate.limits import Need, means
from llama_index.packs.mixture_of_agents.gate.tickets import Lane, Ticket
from llama_index.packs.mixture_of_agents.gate.waiting_line import WaitingLine
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage

_OVER = "the run is over"


class RunCapacity:
    """A `CallPolicy`, a `RunWatch` and a `CallWatch` that keeps one run's calls within shared limits.

    Args:
        line: The line before the limits.
        gauges: The limits.
        start: The run.
        deadline: Seconds a call waits for room.

    Attributes:
        line: As above; the same for all runs under the same limits.
        tried: Who was called in the present round of proposers.
    """

    def __init__(self, line: WaitingLine, gauges: Sequence[Gauge], start: RunStart, deadline: float) -> None:
        self.line = line
        self.tried: set[str] = set()
        self._gauges, self._run_id, self._deadline = gauges, start.run_id, deadline
        self._estimates = Estimates(start.mixture, start.meter)
        self._tickets: dict[tuple[int, int, int], Ticket] = {}
        self._claims: dict[str, Ticket] = {}
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self._is_over

    async def before(self, call: Call) -> Missing | None:
        """None once there is room, a Missing where there is none in time."""
        if self._is_over:
            return call.missing(f"not asked: {_OVER}")
        if call.task != "propose":
            self.give_back_claims()  # whoever was claimed and not called will not be
        claim = self._claims.pop(call.proposer, None) if call.task == "propose" else None
        lane, need = self._needs(call)
        if not lane:
            return None
        ticket = self._tickets[call.place] = self.line.join(lane, need, self._run_id, instead_of=claim)
        why = await self.line.wait(ticket, self._deadline)
        if not why:
            return None
        self._tickets.pop(call.place, None)
        if self.is_over:
            return call.missing(f"not asked: {_OVER}")
        return call.missing(f"not asked, over capacity: {why}. {_ADVICE}")

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """Settle a call: what it used counts in place of what it might have."""
        ticket = self._tickets.pop(call.place, None)
        if ticket is None:
            return
        if isinstance(outcome, Proposal):
            self.line.settle(ticket, used_tokens(outcome.usage), outcome.usage.cost_usd)
        elif not ticket.was_sent:  # cut before it went out
            self.line.give_back(ticket)
        elif outcome.status is not None:  # providers do not charge for answering with an error
            self.line.settle(ticket, 0, 0.0)
        else:
            self.line.settle(ticket, None, None)

    def asks(self, call: Call) -> None:
        """Remember who is called in this round."""
        if call.task == "propose":
            self.tried.add(call.proposer)

    def happened(self, event: ProgressEvent) -> None:
        """A new round: everyone may be called again."""
        if event.kind == "round":
            self.tried.clear()

    def sent(self, call: Call) -> None:
        """A request goes out now; from here its minute counts."""
        ticket = self._tickets.get(call.place)
        if ticket is not None:
            self.line.sent(ticket)

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """A call that another policy answered or refused did not go out: it needs no room."""
        ticket = self._tickets.pop(call.place, None)
        if ticket is not None:
            self.line.give_back(ticket)
        if call.task == "propose":
            self._give_back_claim(call.proposer)

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """The run is over, however: whatever it holds or waits for is given back."""
        self._is_over = True
        while self._tickets:
            self.line.give_back(self._tickets.popitem()[1], _OVER)
        self.give_back_claims()
        self.line.forget(self._run_id)

    def claim(self, seat: SeatFacts, messages: Sequence[ChatMessage]) -> str:
        """Hold room for a call to a seat that is about to come.

        Returns:
            Empty; or why there is no room now.
        """
        lane, need = self._needs(self._call_to(seat, messages))
        if not lane:
            return ""
        ticket = self.line.take(lane, need, self._run_id)
        if not ticket.why:
            self._claims[seat.name] = ticket
        return ticket.why

    async def await_claim(
        self, seats: Sequence[SeatFacts], messages: Sequence[ChatMessage]
    ) -> tuple[str, dict[str, str]]:
        """As `claim`, but wait in line for whoever has room first, at most as long as a call does.

        Args:
            seats: The best first.
            messages: What the call will say.

        Returns:
            Who has room; empty for nobody in time, and then why, by name.
        """
        needs = {seat.name: self._needs(self._call_to(seat, messages)) for seat in seats}
        # Under the same limits nobody overtakes, so the better of two has room first.
        first = {lane: name for name, (lane, _) in reversed(needs.items())}
        tickets = {
            name: self.line.join(*needs[name], self._run_id) for name in needs if name in first.values()
        }
        self._claims |= tickets
        chosen, whys = "", dict[str, str]()
        try:
            chosen, whys = await first_room(self.line, tickets, self._deadline)
        finally:
            for name in tickets:
                if name != chosen:
                    self._claims.pop(name, None)
        return chosen, whys

    def counts_money(self, seat: SeatFacts) -> bool:
        """Whether a call to a seat has to keep to a share of a budget."""
        return any(
            gauge.money.is_limited for gauge in self._gauges if means(gauge.pattern, seat.identity, seat.name)
        )

    def may_ever(self, seat: SeatFacts, messages: Sequence[ChatMessage]) -> bool:
        """Whether there could be room for a call to a seat, if it waited."""
        lane, need = self._needs(self._call_to(seat, messages))
        return not self.line.never(lane, need, self._run_id)

    def give_back_claims(self) -> None:
        """Hold no room any more for calls that did not come."""
        for name in list(self._claims):
            self._give_back_claim(name)

    def _give_back_claim(self, name: str) -> None:
        claim = self._claims.pop(name, None)
        if claim is not None:
            self.line.give_back(claim)

    def _needs(self, call: Call) -> tuple[Lane, Need]:
        """What limits a call, and what it may take of it."""
        lane = tuple(gauge for gauge in self._gauges if means(gauge.pattern, call.identity, call.proposer))
        if not lane:
            return lane, Need()
        if not any(gauge.counts_tokens or gauge.money.is_limited for gauge in lane):
            return lane, Need(calls=1, requests=self._estimates.tries)  # counting tokens takes time
        return lane, self._estimates.need(call, any(gauge.money.is_limited for gauge in lane))

    def _call_to(self, seat: SeatFacts, messages: Sequence[ChatMessage]) -> Call:
        """A call as it will come, as far as is known of it."""
        sampling = Sampling(max_tokens=seat.max_tokens)
        return Call(self._run_id, 0, 0, seat.name, messages, sampling, identity=seat.identity)


_ADVICE = "Raise its Limits or the Capacity's deadline, ask fewer at a time, or add proposers."

_taking_part: ContextVar[tuple[RunCapacity, ...]] = ContextVar("mixture_of_agents_capacity", default=())


def take_part(part: RunCapacity) -> RunCapacity:
    """Have a gate of the same run find its part; each run begins in a context of its own."""
    _taking_part.set((*(one for one in _taking_part.get() if not one.is_over), part))
    return part


def part_under(line: WaitingLine) -> RunCapacity | None:
    """The part of the present run that waits in this line; None where the run has none."""
    return next((part for part in reversed(_taking_part.get()) if part.line is line), None)
