"""Names in the plot of gates stand apart, and no further from their points than they must."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gate_plot import apart

heights = st.lists(st.floats(0, 100, allow_nan=False), max_size=8)


@given(heights)
def test_names_never_cover_each_other_and_keep_their_order(wanted: list[float]) -> None:
    placed = apart(wanted, 0.7)
    in_order = sorted(placed)
    assert all(high - low >= 0.7 - 1e-9 for low, high in pairwise(in_order))
    assert sorted(range(len(wanted)), key=lambda i: (wanted[i], i)) == sorted(
        range(len(wanted)), key=lambda i: placed[i]
    )


def test_names_that_have_room_stay_where_they_belong() -> None:
    assert apart([90.0, 80.0, 85.0], 0.7) == [90.0, 80.0, 85.0]
    assert apart([94.4, 94.4, 95.3], 0.7) == pytest.approx([94.4, 95.1, 95.8])
