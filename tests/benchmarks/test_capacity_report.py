"""The page and the plot say what the figures say, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.capacity_report import (
    EQUAL,
    NO_LIMIT,
    PARTED,
    POLICIES,
    CapacityFigure,
    Measured,
    page,
    plot,
    shown,
    table,
    tables,
    write,
)

FACTORS = (1.0, 2.0)


@pytest.fixture
def measured() -> Measured:
    """Every figure another number."""
    figures: list[CapacityFigure] = []
    for model in (EQUAL, PARTED):
        figures.append(CapacityFigure(model, NO_LIMIT, None, 10.0 + len(figures), 0.0, 0.0, 0.0, 1.5))
        for policy in POLICIES:
            for factor in FACTORS:
                number = len(figures)
                figures.append(
                    CapacityFigure(
                        model, policy, factor, 10.0 + number, number / 100, number / 200, number / 400, 1.2
                    )
                )
    return Measured({"cores": "2"}, "tiny", 0.05, ["import"], 512, 512, 128, figures)


def test_a_table_has_a_row_for_each_policy_and_a_column_for_each_factor(measured: Measured) -> None:
    head, _, *rows = table(measured, shown).splitlines()
    assert head == "| experts | beyond the limit | 1 | 2 | no limit |"
    assert rows[0] == "| equal experts | drop | 11.0 | 12.0 | 10.0 |"
    assert len(rows) == 2 * len(POLICIES)


def test_each_measure_has_its_table(measured: Measured) -> None:
    text = tables(measured)
    assert "| equal experts | drop | 1.0% | 2.0% | 0.0% |" in text
    assert "| equal experts | reroute | 7.0% + 3.5% | 8.0% + 4.0% | 0.0% |" in text
    assert "| parted experts | drop | 2.5% | 2.8% | 0.0% |" in text


@pytest.mark.parametrize(
    ("perplexity", "text"), [(15.04, "15.0"), (999.9, "999.9"), (43796.6, "4e4"), (1e10, "1e10")]
)
def test_a_ruined_perplexity_is_a_size(perplexity: float, text: str) -> None:
    assert shown(CapacityFigure("m", "drop", 0.5, perplexity, 0, 0, 0, 1)) == text


def test_the_page_tells_the_figures_at_the_even_share(measured: Measured) -> None:
    text = page(measured)
    assert "no room for 1.0% of the" in text
    assert "perplexity from 10.0 to 11.0" in text
    assert "drops\n  16.0%: 26.0." in text
    assert max(map(len, text.splitlines())) <= 110


def test_what_was_written_is_read_back(measured: Measured, tmp_path: Path) -> None:
    again = Measured.of(json.loads(json.dumps(asdict(measured))))
    assert again == measured
    write(again, tmp_path)
    assert (tmp_path / "capacity.md").read_text(encoding="utf-8") == page(measured)


def test_the_plot_is_small_and_the_same_each_time(measured: Measured) -> None:
    drawn = plot(measured, "svg")
    assert drawn == plot(measured, "svg")
    assert len(drawn) < 60_000
    assert all(policy.encode() in drawn for policy in POLICIES)
