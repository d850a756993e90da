"""Caches whose rows come and go: what several requests remember, side by side in one batch.

Rows of different lengths stand right-aligned; what is missing on the left is padding that the attention
mask hides. Attention layers grow by chunks instead of being copied at every token. Linear-attention
states have no length and are simply stacked. It knows transformers' cache layers, but neither requests
nor models.

Shapes: B rows, H key-value heads, L length in tokens, W at most a sliding window, Q head width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    Cache,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROOM = 64


class GrowingLayer(DynamicLayer):
    """An attention layer's keys and values in buffers with room at the end.

    transformers' own layer copies everything it holds at every token; here a token is written in place and
    the whole is copied only when the room is used up.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values (B, H, L, Q) and return all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self._length + key_states.shape[-2]
        pair = self._with_room(end, key_states, value_states)
        for buffer, states in zip(pair, (key_states, value_states), strict=True):
            buffer[..., self._length : end, :] = states
        self._show(pair, end)
        return pair[0][..., :end, :], pair[1][..., :end, :]

    def _with_room(self, end: int, *states: Tensor) -> tuple[Tensor, Tensor]:
        if self._buffers is not None and self._buffers[0].shape[-2] >= end:
            return self._buffers
        room = end + max(_ROOM, end // 4)
        keys, values = (one.new_empty((*one.shape[:-2], room, one.shape[-1])) for one in states)
        if self._buffers is not None:
            for new, old in zip((keys, values), self._buffers, strict=True):
                new[..., : self._length, :] = old[..., : self._length, :]
        return keys, values

    def _show(self, pair: tuple[Tensor, Tensor], end: int) -> None:
        self._buffers, self._length = pair, end
        self.keys, self.values = pair[0][..., :end, :], pair[1][..., :end, :]

    def get_seq_length(self) -> int:
        """Length in tokens."""
        return self._length

    def fill(self, keys: Tensor, values: Tensor) -> None:
        """Take over keys and values (B, H, L, Q) as they are, in place of whatever was there."""
        self._buffers, self._length = None, 0
        self.is_initialized = False
        self.update(keys, values)


# Layers whose rows can be taken apart and put together. Others (indexers, a model's own kinds) keep
# states that this file knows nothing of.
_KNOWN = (GrowingLayer, DynamicSlidingWindowLayer, LinearAttentionLayer, DummyLayer)


def new_cache(model: PreTrainedModel) -> Cache:
    """Make an empty cache for one request, of the kinds of layers that the model's config asks for."""
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def can_batch(cache: Cache) -> bool:
    """Tell whether rows of such caches can share a forward pass."""
    return all(type(layer) in _KNOWN for layer in cache.layers)


def keeps_every_position(cache: Cache) -> bool:
    """Tell whether any earlier point can be cut out of such a cache: attention over everything, no states."""
    return all(type(layer) in (GrowingLayer, DummyLayer) for layer in cache.layers)


def token_bytes(cache: Cache) -> int:
    """What a further token adds to a cache that has been used, in bytes."""
    growing = (layer for layer in cache.layers if isinstance(layer, GrowingLayer))
    return sum(_bytes(tensor[..., -1:, :]) for layer in growing for tensor in _tensors(layer))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(layer: Any) -> list[Tensor]:
    held = [getattr(layer, "keys", None), getattr(layer, "values", None)]
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        held += [*layer.conv_states.values(), *layer.recurrent_states.values()]
    return [tensor for tensor in held if isinstance(tensor, Tensor)]


def join_rows(left: Cache, left_length: int, right: Cache, right_length: int) -> Cache:
    """Put the rows of two caches into one.

    Args:
        left: The first rows.
        left_length: Their length in tokens, padding included.
        right: The further rows.
        right_length: Their length in tokens, padding included.

    Returns:
        A new cache, as long as the longer of the two.
    """
    length = max(left_length, right_length)
    layers = [_joined(a, b, length) for a, b in zip(left.layers, right.layers, strict=True)]
    return Cache(layers=layers)


def keep_rows(cache: Cache, rows: Sequence[int], length: int) -> Cache:
    """Keep some rows of a cache, and their last `length` positions.

    Args:
        cache: Any number of rows.
        rows: Which to keep, in their new order.
        length: Longest of the kept rows; what is further left is padding for all of them.

    Returns:
        A new cache.
    """
    index_B = torch.tensor(list(rows), dtype=torch.long)
    return Cache(layers=[_kept(layer, index_B, length) for layer in cache.layers])


def _joined(a: Any, b: Any, length: int) -> Any:
    if isinstance(a, LinearAttentionLayer):
        return _linear_from(a, lambda x, y: torch.cat([x, y]), b)
    if isinstance(a, DummyLayer) or not a.is_initialized:
        return copy.copy(a)
    width = _width(a, length)
    keys, values = (
        torch.cat([right_aligned(x, width), right_aligned(y, width)])
        for x, y in ((a.keys, b.keys), (a.values, b.values))
    )
    return _attention_from(a, keys, values, length)


def _kept(layer: Any, index_B: Tensor, length: int) -> Any:
    if isinstance(layer, LinearAttentionLayer):
        return _linear_from(layer, lambda x, _: x[index_B.to(x.device)], layer)
    if isinstance(layer, DummyLayer) or not layer.is_initialized:
        return copy.copy(layer)
    index_B, width = index_B.to(layer.keys.device), _width(layer, length)
    return _attention_from(layer, layer.keys[index_B, :, -width:], layer.values[index_B, :, -width:], length)


def _width(layer: Any, length: int) -> int:
    """How many of `length` positions a layer holds: all, or what its window still needs."""
    sliding = isinstance(layer, DynamicSlidingWindowLayer)
    return min(length, layer.sliding_window - 1) if sliding else length


def right_aligned(states_BHLQ: Tensor, width: int) -> Tensor:
    """Cut or pad on the left to `width` positions."""
    missing = width - states_BHLQ.shape[-2]
    if missing <= 0:
        return states_BHLQ[..., -width:, :]
    return torch.nn.functional.pad(states_BHLQ, (0, 0, missing, 0))


def _attention_from(layer: Any, keys: Tensor, values: Tensor, length: int) -> Any:
    if isinstance(layer, DynamicSlidingWindowLayer):
        made = DynamicSlidingWindowLayer(sliding_window=layer.sliding_window)
        made.lazy_initialization(keys, values)
        made.keys, made.values, made.cumulative_length = keys, values, length
        return made
    grown = GrowingLayer()
    grown.fill(keys, values)
    return grown


def _linear_from(a: LinearAttentionLayer, put_together: Any, b: LinearAttentionLayer) -> LinearAttentionLayer:
    made = copy.copy(a)
    for name in ("conv_states", "recurrent_states"):
        ours, theirs = getattr(a, name), getattr(b, name)
        states = {i: None if x is None else put_together(x, theirs[i]) for i, x in ours.items()}
        setattr(made, name, states)
    for name in ("is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state"):
        setattr(made, name, dict(getattr(a, name)))
    made.conv_kernel_size = dict(a.conv_kernel_size)
    return made


@dataclass(frozen=True)
class CachePiece:
    """What a stretch of positions leaves in a cache of one row.

    Args:
        pairs: Keys and values (1, H, L, Q) of the stretch, one pair per layer that keeps every position.
        states: The other layers, as they are at the stretch's end; None where nobody took them.
        size: In bytes.
    """

    pairs: tuple[tuple[Tensor, Tensor], ...]
    states: tuple[Any, ...] | None
    size: int


def cut_piece(cache: Cache, start: int, end: int, *, with_states: bool) -> CachePiece:
    """Copy a stretch out of a cache of one row.

    Args:
        cache: One row.
        start: First position.
        end: Behind the last position.
        with_states: Whether the cache stands at `end`, so that its states belong to the piece.

    Returns:
        Copies that share no memory with the cache.
    """
    growing = [_tensors(layer) for layer in cache.layers if isinstance(layer, GrowingLayer)]
    pairs = tuple(
        (keys[..., start:end, :].clone(), values[..., start:end, :].clone()) for keys, values in growing
    )
    states = tuple(_copied(layer) for layer in _stateful(cache)) if with_states else None
    tensors = [tensor for pair in pairs for tensor in pair]
    tensors += [tensor for layer in states or () for tensor in _tensors(layer)]
    return CachePiece(pairs, states, sum(map(_bytes, tensors)))


def _stateful(cache: Cache) -> list[Any]:
    return [layer for layer in cache.layers if not isinstance(layer, GrowingLayer | DummyLayer)]


def _copied(layer: Any) -> Any:
    if isinstance(layer, LinearAttentionLayer):
        return _linear_from(layer, lambda x, _: x.clone(), layer)
    made = copy.copy(layer)
    if layer.is_initialized:
        made.keys, made.values = layer.keys.clone(), layer.values.clone()
    return made


def restore(cache: Cache, pieces: Sequence[CachePiece]) -> None:
    """Fill an empty cache of one row with consecutive pieces, the first of them at position 0.

    Args:
        cache: As `new_cache` made it.
        pieces: At least one; the last one has states if the model has layers that need them.
    """
    growing = [layer for layer in cache.layers if isinstance(layer, GrowingLayer)]
    for index, layer in enumerate(growing):
        keys, values = (torch.cat([piece.pairs[index][side] for piece in pieces], dim=-2) for side in (0, 1))
        layer.fill(keys, values)
    states = iter(_copied(layer) for layer in pieces[-1].states or ())
    cache.layers = [
        layer if isinstance(layer, GrowingLayer | DummyLayer) else next(states) for layer in cache.layers
    ]
