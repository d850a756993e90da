"""Text in pieces, broken between words."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.app.wrapping import Wrapping

TEXT = st.text(st.sampled_from("ab \n\t."), max_size=200)
WIDTH = st.integers(1, 30)


def wrapped(pieces: list[str], width: int) -> str:
    wrapping = Wrapping(width)
    return "".join(wrapping.fed(piece) for piece in pieces) + wrapping.ended()


def test_words_go_to_the_next_line_whole() -> None:
    assert wrapped(["the quick br", "own fox"], 10) == "the quick\nbrown fox"


def test_own_line_breaks_and_indentation_stay() -> None:
    assert wrapped(["a list:\n\n  - one\n  - two"], 20) == "a list:\n\n  - one\n  - two"


def test_a_word_is_shown_as_soon_as_it_is_whole() -> None:
    wrapping = Wrapping(80)
    assert wrapping.fed("one tw") == "one"
    assert wrapping.fed("o ") == " two"


@given(TEXT, WIDTH, st.data())
def test_pieces_do_not_matter(text: str, width: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edges = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert wrapped(pieces, width) == wrapped([text], width)


@given(TEXT, WIDTH)
def test_no_word_is_changed_or_lost(text: str, width: int) -> None:
    assert wrapped([text], width).split() == text.split()


@given(TEXT, WIDTH)
def test_only_a_word_alone_is_wider(text: str, width: int) -> None:
    for line in wrapped([text], width).split("\n"):
        assert len(line) <= width or re.fullmatch(r"\s*\S+", line)
