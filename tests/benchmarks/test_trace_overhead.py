"""The benchmark of traces measures runs that are traced, and says so in a row."""

from __future__ import annotations

from pathlib import Path

from benchmarks.trace_overhead import Overhead, overhead


async def test_a_scenario_is_measured_with_and_without_a_trace(tmp_path: Path) -> None:
    figure = await overhead("two at once", tmp_path, at_once=2, repetitions=1)
    assert figure.off_ms > 0
    assert figure.ratio == figure.on_ms / figure.off_ms
    assert figure.bytes_a_run > 10_000


def test_a_figure_is_a_row_of_the_table() -> None:
    row = str(Overhead("one run", 5, 20.0, 25.0, 1.25, 35_000))
    assert row == "| one run | 20.00 ms | 25.00 ms | +5.00 ms | 1.25 | 35,000 |"
