"""A budget: the most a run may cost, in US dollars, tokens or seconds, and what is left out to keep to it.

    Budget(0.05)                                   5 cents a run
    Budget(tokens=20_000, seconds=60)
    Budget(0.05, total=2.0)                        and 2 dollars for all runs together, in whatever threads

Every call is checked before it goes out against the most it can cost (`spending.bounds`): what is spent,
what is out and what the answer needs never pass the budget. When a call would, the run leaves out what
`degrade` names, in that order: refine layers, the dearest proposers of a layer, the length of the answer.
Whoever is not asked is `Missing` with the reason, and `Budget.report` tells the whole. A run that cannot
fit is refused before its first call. Spending passes the budget only where a call costs more than its
bound, by that much.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

from llama_index.packs.mixture_of_agents.checks import number, shown, whole_number
from llama_index.packs.mixture_of_agents.checks import seconds as check_seconds
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.records.spending.bounds import Bounds
from llama_index.packs.mixture_of_agents.records.spending.budget_report import BudgetReport
from llama_index.packs.mixture_of_agents.records.spending.counting import has_attachments
from llama_index.packs.mixture_of_agents.records.spending.course import Course
from llama_index.packs.mixture_of_agents.records.spending.degrading import MEASURES, Degrading
from llama_index.packs.mixture_of_agents.records.spending.frames import Frames
from llama_index.packs.mixture_of_agents.records.spending.ledger import UNLIMITED, Amount, Ledger, rounded_up
from llama_index.packs.mixture_of_agents.records.spending.pace import Pace
from llama_index.packs.mixture_of_agents.records.spending.purse import Purse
from llama_index.packs.mixture_of_agents.records.spending.refusals import cannot_bound, too_small, used_up
from llama_index.packs.mixture_of_agents.records.spending.run_spending import RunBudget

REPORTS_KEPT = 1_000
"""Reports of that many runs are kept, the newest."""


class Budget:
    """Keeps each run within its limits; a `policies.RunPolicy`.

    One object serves any number of runs at a time, each with limits of its own.

    Args:
        usd: Most a run may cost, in US dollars; None for no limit.
        tokens: Most a run may read and write, in tokens; None for no limit.
        seconds: Longest a run may take: no round of proposers is begun that would, with the answer behind
            it, last longer; None for no limit. Calls that are out are never cut: that is `timeout`'s.
        prices: What models cost: a `Prices`, or what it takes; None for the pack's, below them the listed.
        degrade: What may be left out, first to last: "skip_refine", "drop_dearest", "short_synthesis".
        total: Most that all runs with this object may cost together, in US dollars; None for no limit.
        total_tokens: Likewise, in tokens.
        shortest_answer: Tokens an answer must be allowed to have to be acceptable.
        margin: None: a prompt has at most as many tokens as bytes, which always holds, and is about four
            times too many. A factor: as many as counted, times this, which holds where a model's
            tokenizer is not worse than LlamaIndex's by more.
        clock: Monotonic seconds.

    Raises:
        ConfigurationError: A limit, measure or price cannot be.
    """

    def __init__(
        self,
        usd: float | None = None,
        tokens: int | None = None,
        seconds: float | None = None,
        *,
        prices: Prices | Mapping[str, Any] | None = None,
        degrade: Sequence[str] = MEASURES,
        total: float | None = None,
        total_tokens: int | None = None,
        shortest_answer: int = 256,
        margin: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_limits(usd, tokens, seconds, total, total_tokens)
        whole_number("shortest_answer", shortest_answer, 1)
        number("margin", margin, 1, 10, none="for the bytes of a prompt")
        self.order = _measures(degrade, seconds)
        self.prices = prices if prices is None or isinstance(prices, Prices) else Prices(prices)
        self.limit = _limit(usd, tokens)
        self.seconds = seconds
        self._shared = Ledger(_limit(total, total_tokens))
        self._shortest, self._margin, self._clock = shortest_answer, margin, clock
        self._reports: OrderedDict[str, BudgetReport] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def spent(self) -> Amount:
        """What all runs with this object have spent."""
        return self._shared.spent

    def report(self, run_id: str) -> BudgetReport | None:
        """What became of a run that is over; None for one that is not, or is long forgotten."""
        with self._lock:
            return self._reports.get(run_id)

    def for_run(self, start: RunStart) -> RunBudget:
        """The policy of one run.

        Raises:
            ConfigurationError: The least it could do does not fit, or nobody knows what its calls cost.
        """
        bounds, degrading = self._reckoning(start)
        purse = Purse(start.run_id, [Ledger(self.limit), self._shared])
        self._hold_least(degrading, purse)
        pace = Pace(start.mixture, self.seconds, self._clock, self._clock())
        return RunBudget(purse, bounds, degrading, pace, self._keep)

    def would_take(self, start: RunStart) -> None:
        """Refuse what `for_run` would refuse, and hold nothing back.

        Raises:
            ConfigurationError: As there.
        """
        purse = Purse(start.run_id, [Ledger(self.limit), self._shared])
        try:
            self._hold_least(self._reckoning(start)[1], purse)
        finally:
            purse.close()

    def _reckoning(self, start: RunStart) -> tuple[Bounds, Degrading]:
        """What calls cost at most, and how the run is made to fit."""
        bounds = Bounds(
            start.mixture, self._prices_for(start), self.limit.least(self._shared.limit), self._margin
        )
        attached = has_attachments(start.messages)
        unknown = list(bounds.seats_without(attached))
        if unknown:
            raise ConfigurationError(cannot_bound(unknown))
        course = Course(
            start.mixture,
            Frames(start.messages, bounds.prompt),
            bounds.length,
            bounds.scale,
            must_hold=True,
        )
        bound = partial(bounds.planned, attached=attached)
        return bounds, Degrading(course, bound, self.order, self._shortest)

    def _prices_for(self, start: RunStart) -> Prices:
        meter = start.meter
        return self.prices or (meter if isinstance(meter, Prices) else Prices())

    def _hold_least(self, degrading: Degrading, purse: Purse) -> None:
        """Hold back what the least acceptable run costs, so that it can be paid whatever other runs do."""
        least = degrading.least(degrading.whole())
        cost = degrading.cost(least)
        if not cost.fits(self.limit):
            needed, limit = purse.shown(rounded_up(cost)), purse.shown(self.limit)
            raise ConfigurationError(too_small(limit, needed, least, degrading.course.facts))
        if not purse.keep(cost):
            spent, total = purse.shown(self._shared.spent), purse.shown(self._shared.limit)
            raise ConfigurationError(used_up(total, spent, purse.shown(rounded_up(cost))))

    def _keep(self, report: BudgetReport) -> None:
        with self._lock:
            self._reports[report.run_id] = report
            while len(self._reports) > REPORTS_KEPT:
                self._reports.popitem(last=False)


def _limit(usd: float | None, tokens: int | None) -> Amount:
    return Amount(
        UNLIMITED.usd if usd is None else float(usd), UNLIMITED.tokens if tokens is None else tokens
    )


def _check_limits(usd: object, tokens: object, seconds: object, total: object, total_tokens: object) -> None:
    for name, value in (("usd", usd), ("total", total)):
        number(f"budget {name}", value, 0, 1e9, none="for no limit")
    for name, value in (("tokens", tokens), ("total_tokens", total_tokens)):
        whole_number(f"budget {name}", value, 1, none="for no limit")
    check_seconds("budget seconds", seconds, none="for no limit")
    if all(limit is None for limit in (usd, tokens, seconds, total, total_tokens)):
        raise ConfigurationError("A budget needs a limit: usd, tokens, seconds, total or total_tokens.")


def _measures(degrade: object, seconds: float | None) -> tuple[Any, ...]:
    """The measures named, each once.

    Raises:
        ConfigurationError: There is no such measure, one stands twice, or one that seconds need is left out.
    """
    if isinstance(degrade, str) or not isinstance(degrade, Sequence):
        raise ConfigurationError(f"degrade must be a list of {_listed()}; found {shown(degrade)}.")
    for measure in degrade:
        if measure not in MEASURES:
            close = get_close_matches(str(measure), MEASURES, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigurationError(f"degrade has {shown(measure)}; it takes {_listed()}.{hint}")
    if len(set(degrade)) < len(degrade):
        raise ConfigurationError(f"degrade names a measure twice; found {shown(list(degrade))}.")
    if seconds is not None and "skip_refine" not in degrade:
        raise ConfigurationError(
            "A budget in seconds can only be kept by skipping refine layers: put 'skip_refine' into degrade, "
            "or use the pack's timeout."
        )
    return tuple(degrade)


def _listed() -> str:
    return ", ".join(map(repr, MEASURES))
