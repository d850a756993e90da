"""Rows put together and taken apart hold what they held alone, in every kind of layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from llama_index.packs.mixture_of_agents.sparse_moe.serving import row_caches
from llama_index.packs.mixture_of_agents.sparse_moe.serving.row_caches import GrowingLayer
from tests.sparse_moe.tiny_models import state_kinds, tiny_mixtral

KINDS = state_kinds()


def _read(model: PreTrainedModel, cache: Cache, ids: list[int], start: int = 0) -> Tensor:
    with torch.no_grad():
        positions = torch.arange(start, start + len(ids))[None]
        output = model(
            input_ids=torch.tensor([ids]), position_ids=positions, past_key_values=cache, use_cache=True
        )
    logits: Tensor = output.logits[0, -1]
    return logits


def _step(model: PreTrainedModel, cache: Cache, lengths: list[int], ids: list[int]) -> Tensor:
    longest = max(lengths) + 1
    mask = torch.tensor([[0] * (longest - length - 1) + [1] * (length + 1) for length in lengths])
    with torch.no_grad():
        output = model(
            input_ids=torch.tensor([[one] for one in ids]),
            position_ids=torch.tensor([[length] for length in lengths]),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
    logits: Tensor = output.logits[:, -1]
    return logits


def _prompt(length: int, seed: int) -> list[int]:
    return torch.randint(3, 259, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("lengths", [[5, 9], [30, 3, 17], [20, 20]])
def test_rows_side_by_side_score_as_alone(kind: str, lengths: list[int]) -> None:
    model = KINDS[kind]()
    batch, length, alone = None, 0, []
    for row, tokens in enumerate(lengths):
        cache = row_caches.new_cache(model)
        assert row_caches.can_batch(cache)
        _read(model, cache, _prompt(tokens, row))
        reference = DynamicCache(config=model.config)
        _read(model, reference, _prompt(tokens, row))
        alone.append(_read(model, reference, [40 + row], tokens))
        batch = cache if batch is None else row_caches.join_rows(batch, length, cache, tokens)
        length = max(length, tokens)
    assert batch is not None
    together = _step(model, batch, lengths, [40 + row for row in range(len(lengths))])
    assert torch.allclose(together, torch.stack(alone), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_who_stays_scores_as_if_nobody_had_been_there(kind: str) -> None:
    model = KINDS[kind]()
    short, long = row_caches.new_cache(model), row_caches.new_cache(model)
    _read(model, short, _prompt(6, 1))
    _read(model, long, _prompt(33, 2))
    both = row_caches.join_rows(long, 33, short, 6)
    _step(model, both, [33, 6], [11, 12])
    left = row_caches.keep_rows(both, [1], 7)
    alone = DynamicCache(config=model.config)
    _read(model, alone, _prompt(6, 1))
    _read(model, alone, [12], 6)
    expected = _read(model, alone, [13], 7)
    assert torch.allclose(_step(model, left, [7], [13])[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_pieces_restore_the_cache_they_were_cut_from(kind: str) -> None:
    model, ids = KINDS[kind](), _prompt(24, 3)
    cache = row_caches.new_cache(model)
    _read(model, cache, ids[:16])
    keeps = row_caches.keeps_every_position(cache)
    pieces = [
        row_caches.cut_piece(cache, 0, 8, with_states=False),
        row_caches.cut_piece(cache, 8, 16, with_states=True),
    ]
    assert keeps or pieces[1].states
    restored = row_caches.new_cache(model)
    row_caches.restore(restored, pieces)
    # What happens to one later must not reach the other.
    _read(model, cache, [99], 16)
    fresh = row_caches.new_cache(model)
    _read(model, fresh, ids[:16])
    assert torch.allclose(
        _read(model, restored, ids[16:17], 16), _read(model, fresh, ids[16:17], 16), rtol=1e-5, atol=1e-4
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=12))
def test_a_growing_layer_holds_what_was_appended(lengths: list[int]) -> None:
    layer, parts = GrowingLayer(), []
    for length in lengths:
        parts.append(torch.randn(2, 3, length, 4))
        keys, values = layer.update(parts[-1], -parts[-1])
        whole = torch.cat(parts, dim=-2)
        assert torch.equal(keys, whole)
        assert torch.equal(values, -whole)
    assert layer.get_seq_length() == sum(lengths)
    assert layer.get_mask_sizes(5) == (sum(lengths) + 5, 0)


def test_sizes_are_of_what_is_held() -> None:
    model = tiny_mixtral()
    cache = row_caches.new_cache(model)
    assert row_caches.token_bytes(cache) == 0
    _read(model, cache, _prompt(10, 0))
    # Two layers, keys and values, two heads of width 8, four bytes.
    assert row_caches.token_bytes(cache) == 2 * 2 * 2 * 8 * 4
    assert row_caches.cut_piece(cache, 0, 10, with_states=True).size == 2 * 2 * 10 * 2 * 8 * 4
    assert row_caches.cut_piece(cache, 2, 7, with_states=True).size == 2 * 2 * 5 * 2 * 8 * 4
