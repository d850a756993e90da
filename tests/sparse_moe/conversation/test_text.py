"""Text comes out piece by piece, never to be taken back, and stops before a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from llama_index.packs.mixture_of_agents.sparse_moe.conversation.text import StopScanner, TextAssembler
from tests.sparse_moe.tiny_models import tiny_tokenizer

TEXTS = st.text(alphabet="ab<", max_size=20)
STOPS = st.lists(st.text(alphabet="ab<", min_size=1, max_size=4), max_size=3)
TOKENIZER = tiny_tokenizer()


def _pieces(text: str, cuts: Sequence[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(edges)]


def _before_first_stop(text: str, stops: Sequence[str]) -> str:
    """Read letter by letter until the text ends with a stop string."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(TEXTS, STOPS, st.lists(st.integers(0, 40), max_size=8))
@example("aab", ["aab"], [1, 2])
@example("baab", ["ab", "aab"], [2])
@example("abba", ["abba", "b"], [])
def test_joined_pieces_are_the_text_before_the_first_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    scanner = StopScanner(stops)
    given_out = "".join([scanner.push(piece) for piece in _pieces(text, cuts)]) + scanner.flush()
    assert given_out == _before_first_stop(text, stops)
    assert scanner.stopped == any(stop in text for stop in stops)
    assert not any(stop in given_out for stop in stops)


@given(TEXTS, STOPS)
def test_exactly_what_could_become_a_stop_is_held_back(text: str, stops: list[str]) -> None:
    scanner = StopScanner(stops)
    given_out = ""
    for end, letter in enumerate(text, start=1):
        given_out += scanner.push(letter)
        if scanner.stopped:
            return
        waiting = [
            size for size in range(end + 1) if any(stop.startswith(text[end - size : end]) for stop in stops)
        ]
        assert given_out == text[: end - max(waiting, default=0)]


def test_nothing_follows_a_stop() -> None:
    scanner = StopScanner(["END"])
    assert scanner.push("one END two") == "one "
    assert scanner.stopped
    assert (scanner.push("three"), scanner.flush()) == ("", "")


def _decode(ids: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(ids), skip_special_tokens=True))


def _assembled(ids: Sequence[int]) -> list[str]:
    assembler = TextAssembler(_decode)
    return [*(assembler.push(token) for token in ids), assembler.flush()]


@given(st.lists(st.integers(0, 258), max_size=30))
def test_any_tokens_join_to_their_decoded_text(ids: list[int]) -> None:
    assert "".join(_assembled(ids)) == _decode(ids)


@given(st.text(max_size=15))
def test_no_piece_holds_half_a_character(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    pieces = _assembled(ids)
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_of_four_tokens_comes_out_at_the_fourth() -> None:
    assert _assembled(TOKENIZER("a🙂b")["input_ids"]) == ["a", "", "", "", "🙂", "b", ""]


def test_a_replacement_character_that_was_meant_is_not_lost() -> None:
    assert "".join(_assembled(TOKENIZER("a\ufffd")["input_ids"])) == "a\ufffd"


def test_spaces_in_front_of_words_survive() -> None:
    """SentencePiece tokenizers drop the space of whatever comes first in a list."""
    core = Tokenizer(models.WordLevel({"▁Hello": 0, "▁big": 1, "▁world": 2}, unk_token="▁big"))
    core.decoder = decoders.Metaspace()
    assembler = TextAssembler(lambda ids: str(core.decode(list(ids))))
    assert [assembler.push(token) for token in (0, 1, 2)] == ["Hello", " big", " world"]
