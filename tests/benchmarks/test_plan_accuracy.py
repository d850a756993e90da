"""Plans against runs, over ten configurations: every call foreseen, and nearly every token."""

from __future__ import annotations

import pytest

from benchmarks.plan_accuracy import CONFIGURATIONS, Accuracy, Configuration, measure, table


def test_there_are_ten_configurations() -> None:
    assert len({configuration.name for configuration in CONFIGURATIONS}) == 10


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda configuration: configuration.name)
def test_a_plan_foresees_every_call_and_nearly_every_token(configuration: Configuration) -> None:
    measured = measure(configuration, runs=4)
    assert measured.error_of_calls == 0
    # Single answers vary by a third; many of them, by less together.
    tolerance = 0.1 if measured.calls > 10 else 0.2
    assert abs(measured.error_of_tokens) < tolerance
    assert measured.planned_usd == pytest.approx(measured.usd, rel=1.5 * tolerance)


def test_a_row_of_the_table_tells_the_errors() -> None:
    text = table([Accuracy("one", 5, 5, 110, 150, 100, 0.1, None)])
    assert "| one | 5 | 5 | 110 | 100 | +10.0% | +50.0% | 0.10000 | unknown |" in text
