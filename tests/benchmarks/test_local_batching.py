"""Contenders are compared only where they did the same work."""

from __future__ import annotations

import pytest

from benchmarks.local_batching import Run, check_equal, figures, table

FIRST = Run(8.0, ("a", "b"), (4, 4), 100, 8)


def _run(seconds: float, texts: tuple[str, ...] = ("a", "b"), lengths: tuple[int, ...] = (4, 4)) -> Run:
    return Run(seconds, texts, lengths, 60, 5)


def test_ratios_are_those_of_the_medians() -> None:
    listed = figures({"stock": [FIRST], "ours": [_run(1.0), _run(2.0), _run(9.0)]})
    assert [(one.seconds, one.ratio) for one in listed] == [(8.0, 1.0), (2.0, 4.0)]
    assert (listed[1].fastest, listed[1].slowest) == (1.0, 9.0)
    assert "| ours | 2.0 s (1.0 to 9.0) | 4.00 | 60 | 5 |" in table(listed)


def test_equal_answers_pass() -> None:
    check_equal({"stock": [FIRST], "ours": [_run(1.0)]}, 4)


@pytest.mark.parametrize(
    ("run", "complaint"),
    [(_run(1.0, texts=("a", "c")), "ours wrote another text"), (_run(1.0, lengths=(4, 3)), "ours wrote")],
)
def test_other_work_is_not_compared(run: Run, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_equal({"stock": [FIRST], "ours": [_run(1.0), run]}, 4)
