"""Prompts that begin alike for a given number of tokens."""

from __future__ import annotations

import pytest

from benchmarks.local_prompts import TASKS, proposals
from benchmarks.prefix_layout import Count, in_bytes


@pytest.mark.parametrize("wanted", [20, 200, 541])
def test_prompts_begin_alike_for_about_as_long_as_asked(wanted: int) -> None:
    asked = proposals(in_bytes, wanted)
    longest_word = 20
    assert wanted <= Count.of([*map(in_bytes, asked)]).common <= wanted + longest_word
    assert [str(messages[-1].content).rpartition("\n\n")[2] for messages in asked] == list(TASKS)


def test_a_short_page_is_refused() -> None:
    with pytest.raises(ValueError, match="page of 2 words"):
        proposals(in_bytes, 500, page="two words")
