"""A run's money: what is out is held back, in its own ledger and in those it shares, in any thread."""

from __future__ import annotations

import threading

import pytest

from llama_index.packs.mixture_of_agents.records.spending.ledger import (
    NOTHING,
    UNLIMITED,
    Amount,
    Ledger,
    dollars,
    rounded_up,
)
from llama_index.packs.mixture_of_agents.records.spending.purse import Purse

FIRST, SECOND = (1, 0, 0), (1, 1, 0)


def usd(amount: float) -> Amount:
    return Amount(usd=amount)


def test_what_is_out_cannot_be_taken_twice() -> None:
    purse = Purse("run", [Ledger(usd(10)), Ledger(UNLIMITED)])
    assert purse.take(FIRST, usd(6), NOTHING)
    assert not purse.take(SECOND, usd(6), NOTHING)
    assert purse.room() == Amount(4, float("inf")).least(purse.room())
    assert purse.take(SECOND, usd(4), NOTHING)
    assert purse.settle(FIRST, usd(1))
    assert purse.room().usd == pytest.approx(5)


def test_what_is_needed_beside_a_call_is_held_back_with_it() -> None:
    purse = Purse("run", [Ledger(usd(10))])
    assert not purse.take(FIRST, usd(6), usd(5))
    assert purse.take(FIRST, usd(6), usd(4))


def test_runs_that_share_a_ledger_see_what_the_others_have_out() -> None:
    shared = Ledger(usd(10))
    one, other = (Purse(name, [Ledger(usd(10)), shared]) for name in ("one", "other"))
    assert one.take(FIRST, usd(3), NOTHING)
    assert one.take(SECOND, usd(3), NOTHING)
    assert not other.take(FIRST, usd(5), NOTHING)
    assert other.take(FIRST, usd(4), NOTHING)
    one.settle(FIRST, usd(1))
    one.settle(SECOND, usd(1))
    one.close()
    assert other.take(SECOND, usd(4), NOTHING)
    assert shared.spent == usd(2)


def test_a_refusal_changes_nothing_in_any_ledger() -> None:
    own, shared = Ledger(usd(1)), Ledger(usd(10))
    purse = Purse("run", [shared, own])
    assert purse.take(FIRST, usd(0.5), NOTHING)
    assert not purse.take(SECOND, usd(5), NOTHING)
    assert (shared.held("run"), own.held("run")) == (usd(0.5), usd(0.5))


def test_a_closed_purse_has_spent_what_was_still_out_and_holds_nothing() -> None:
    shared = Ledger(usd(10))
    purse = Purse("run", [Ledger(UNLIMITED), shared])
    purse.take(FIRST, usd(3), usd(2))
    purse.close()
    assert (shared.spent, shared.held("run")) == (usd(3), NOTHING)
    assert purse.figures()["assumed_usd"] == pytest.approx(3)


def test_a_call_that_comes_back_after_the_run_is_over_costs_once_and_holds_nothing() -> None:
    shared = Ledger(usd(10))
    purse = Purse("run", [Ledger(UNLIMITED), shared])
    purse.take(FIRST, usd(3), usd(2))
    purse.take(SECOND, usd(1), usd(2))
    purse.close()
    purse.settle(FIRST, usd(0.5))
    purse.assume(SECOND)
    assert not purse.keep(usd(2))
    assert not purse.take((2, 0, 0), usd(1), NOTHING)
    assert shared.spent.usd == pytest.approx(1.5)
    assert shared.room("another").usd == pytest.approx(8.5)


def test_threads_never_hold_more_than_there_is() -> None:
    shared, taken = Ledger(usd(50)), list[bool]()

    def take(number: int) -> None:
        purse = Purse(f"run-{number}", [Ledger(UNLIMITED), shared])
        for index in range(20):
            got = purse.take((1, index, 0), usd(1), NOTHING)
            taken.append(got)
            if got and index % 2:
                purse.settle((1, index, 0), usd(1))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 50
    assert shared.spent.usd <= 50


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0.0, "$0"), (0.004215, "$0.00421"), (0.5, "$0.500"), (12.0, "$12.00"), (1234.5, "$1234.50")],
)
def test_dollars_are_told_to_three_figures(amount: float, said: str) -> None:
    assert dollars(amount) == said


@pytest.mark.parametrize("amount", [0.0042151, 0.00042, 0.999999, 1.0, 17.3, 123456.7])
def test_an_amount_rounded_up_is_at_least_as_much_also_in_words(amount: float) -> None:
    told = rounded_up(usd(amount)).usd
    assert amount <= told <= amount * 1.02
    assert float(dollars(told)[1:]) >= amount
