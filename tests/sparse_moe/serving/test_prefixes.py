"""Beginnings are found by their tokens, memory is bounded, and ends of branches go first."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.sparse_moe.serving.prefixes import Block, PrefixStore, common_prefix
from llama_index.packs.mixture_of_agents.sparse_moe.serving.row_caches import CachePiece

SIZE = 8
PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=24)


def _block(name: int = 0, *, states: bool = False) -> Block:
    return Block(CachePiece(((torch.tensor([name]), torch.tensor([name])),), () if states else None, SIZE))


def _add(store: PrefixStore, tokens: list[int], block: int = 2, family: str = "f") -> None:
    count = len(tokens) // block
    store.add(family, tokens, block, 0, [_block(index) for index in range(count)])


def test_the_longest_known_beginning_in_whole_blocks() -> None:
    store = PrefixStore(1000)
    _add(store, [1, 2, 3, 4, 5])
    assert store.find("f", [1, 2, 3, 4, 5, 6], 2, 6).tokens == 4
    assert store.find("f", [1, 2, 3, 9], 2, 4).tokens == 2
    assert store.find("f", [1, 2, 3, 4], 2, 3).tokens == 2, "no longer than is of use"
    assert store.find("f", [9, 2, 3, 4], 2, 4).tokens == 0
    assert [int(one.piece.pairs[0][0]) for one in store.find("f", [1, 2, 3, 4], 2, 4).blocks] == [0, 1]


def test_families_and_block_sizes_never_meet() -> None:
    store = PrefixStore(1000)
    _add(store, [1, 2, 3, 4])
    assert store.find("g", [1, 2, 3, 4], 2, 4).tokens == 0
    assert store.find("f", [1, 2, 3, 4], 4, 4).tokens == 0


def test_what_was_used_longest_ago_goes_first() -> None:
    store = PrefixStore(3 * SIZE)
    _add(store, [1, 1])
    _add(store, [2, 2])
    _add(store, [3, 3])
    assert store.find("f", [1, 1], 2, 2).tokens == 2
    _add(store, [4, 4])
    known = [token for token in (1, 2, 3, 4) if store.find("f", [token, token], 2, 2).tokens]
    assert known == [1, 3, 4]
    assert store.bytes == 3 * SIZE


def test_a_block_without_its_beginning_is_not_kept() -> None:
    store = PrefixStore(1000)
    store.add("f", [1, 2, 3, 4], 2, 2, [_block()])
    assert len(store) == 0


def test_where_states_are_needed_only_blocks_with_states_count() -> None:
    store = PrefixStore(1000, needs_states=True)
    store.add("f", [1, 2, 3, 4, 5, 6], 2, 0, [_block(), _block(states=True), _block()])
    assert store.find("f", [1, 2, 3, 4, 5, 6], 2, 6).tokens == 4
    store.add("f", [1, 2, 3, 4, 5, 6], 2, 0, [_block(states=True)])
    assert store.find("f", [1, 2, 9, 9], 2, 4).tokens == 2, "states that come later are taken over"
    assert store.bytes == 3 * SIZE


def test_nothing_is_kept_without_memory() -> None:
    store = PrefixStore(0)
    _add(store, [1, 2])
    assert (store.keeps, len(store), store.bytes) == (False, 0, 0)


@settings(max_examples=150, deadline=None)
@given(st.lists(PROMPTS, min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 12))
def test_memory_is_bounded_and_what_is_found_was_stored(
    prompts: list[list[int]], block: int, room: int
) -> None:
    store, stored = PrefixStore(room * SIZE), set()
    for prompt in prompts:
        match = store.find("f", prompt, block, len(prompt))
        assert match.tokens == len(match.blocks) * block <= len(prompt)
        assert match.tokens == 0 or tuple(prompt[: match.tokens]) in stored
        _add(store, prompt, block)
        stored |= {tuple(prompt[:end]) for end in range(block, len(prompt) + 1, block)}
        assert store.bytes == len(store) * SIZE <= room * SIZE
        if room >= len(prompt) // block:
            assert store.find("f", prompt, block, len(prompt)).tokens == len(prompt) // block * block


@given(PROMPTS, PROMPTS)
def test_common_prefix(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]
