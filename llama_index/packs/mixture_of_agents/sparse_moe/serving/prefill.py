"""Reading a prompt: in chunks, from the longest beginning that someone else has read already.

Chunks end where blocks end, so that the plan for the experts is the same whether a prompt is read in one
pass, in chunks, or from a shared beginning. It knows neither threads nor text.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.requests import GenerationRequest
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving import row_caches
from llama_index.packs.mixture_of_agents.sparse_moe.serving.decoding import (
    DecodingRow,
    Observed,
    by_block,
    observed_plan,
)
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
from llama_index.packs.mixture_of_agents.sparse_moe.serving.prefixes import Block, PrefixStore, common_prefix
from llama_index.packs.mixture_of_agents.sparse_moe.stats import RoutingStats

if TYPE_CHECKING:
    from torch import Tensor

# Where no capacity ties tokens together, a block is only how finely prompts are compared.
_FREE_BLOCK = 32


def block_size(settings: RoutingSettings) -> int:
    """Tokens that must be read in one pass, or not at all."""
    tied = settings.limited and settings.capacity_scope == "sequence"
    return settings.capacity_block if tied else _FREE_BLOCK


def chunk_end(start: int, tokens: int, block: int, largest: int, stops: Iterable[int] = ()) -> int:
    """Decide where a chunk ends.

    Args:
        start: Where it begins, a multiple of `block`.
        tokens: Length of the prompt.
        block: Every chunk but the last is a multiple of it.
        largest: Most tokens in a chunk, unless a block is larger.
        stops: Multiples of `block` where a chunk should end, because others go on from there.

    Returns:
        Position behind the chunk's last token.
    """
    end = min(tokens, start + max(block, largest // block * block))
    return min((stop for stop in stops if start < stop < end), default=end)


class Prefill:
    """Reads prompts, and keeps their beginnings.

    Args:
        loaded: The model.
        prefix_bytes: Most memory for beginnings that may be shared.
    """

    def __init__(self, loaded: LoadedModel, prefix_bytes: int) -> None:
        self._loaded = loaded
        self._store = PrefixStore(prefix_bytes, needs_states=not loaded.keeps_every_position)
        self.read_tokens = 0
        self.shared_tokens = 0

    @property
    def held_bytes(self) -> int:
        """Memory held for beginnings of prompts."""
        return self._store.bytes

    def clear(self) -> None:
        """Forget all beginnings of prompts."""
        self._store.clear()

    def begin(self, request: GenerationRequest) -> DecodingRow:
        """Make a row for a request; nothing is computed yet.

        Raises:
            ConfigurationError: The model cannot route as the request wants.
            SparseMoEError: The prompt has tokens that the model does not know.
        """
        self._loaded.check(request.routing)
        vocabulary = self._loaded.vocabulary
        unknown = [token for token in request.prompt_ids if not 0 <= token < vocabulary]
        if unknown:
            # On a GPU the pass would take every request down with it.
            raise SparseMoEError(
                f"the prompt has token {unknown[0]}, and the model knows {vocabulary} tokens; use "
                "the model's own tokenizer"
            )
        row = DecodingRow(request, row_caches.new_cache(self._loaded.model))
        row.not_shared_because = self._obstacle(request.routing)
        return row

    def _obstacle(self, settings: RoutingSettings) -> str | None:
        if settings.limited and settings.capacity_scope == "batch":
            return "capacity_scope='batch': what a beginning computes depends on who else is in the pass"
        if not self._loaded.can_batch:
            return "the model keeps states of a kind that cannot be copied"
        if not self._loaded.can_continue:
            return "the model cannot go on from a cache with several tokens at once"
        return None if self._store.keeps else "no memory is set aside for beginnings of prompts"

    def begin_again(self, row: DecodingRow) -> None:
        """Make a row read everything anew, what it generated included."""
        row.begin_again(row_caches.new_cache(self._loaded.model))

    def read_chunk(
        self, row: DecodingRow, largest: int, waiting: Iterable[GenerationRequest] = ()
    ) -> Tensor | None:
        """Read the next chunk of a row's tokens.

        Args:
            row: Its tokens are the prompt, and what it generated before it had to begin again.
            largest: Most tokens in the chunk.
            waiting: Requests that may go on from the same beginning.

        Returns:
            Logits of the next token (V) if the row is read, else None.
        """
        if row.computed == 0:
            self._take_shared(row)
        start, end = row.computed, self._end(row, largest, waiting)
        block = block_size(row.request.routing)
        observed = self._plan(row, start, end, block)
        if row.cache is None:
            raise SparseMoEError("the row is in a batch, not being read")
        positions = [list(range(start, end))]
        logits_BV = self._loaded.run([row.token_ids[start:end]], positions, row.cache, None, observed.plan)
        row.computed = end
        self.read_tokens += end - start
        routing = self._observed(row, observed, start, end, block)
        self._keep(row, start, block, routing)
        return logits_BV[0] if end == len(row.token_ids) else None

    def _take_shared(self, row: DecodingRow) -> None:
        request = row.request
        if row.not_shared_because or row.cache is None:
            return
        # One token at least is read, for its logits.
        limit = len(request.prompt_ids) - 1
        match = self._store.find(_family(request), request.prompt_ids, block_size(request.routing), limit)
        if match.tokens:
            row_caches.restore(row.cache, [block.piece for block in match.blocks])
            row.computed = row.shared = match.tokens
            self.shared_tokens += match.tokens
        for block in match.blocks:
            if block.routing is not None:
                row.observe(block.routing)

    def _end(self, row: DecodingRow, largest: int, waiting: Iterable[GenerationRequest]) -> int:
        if not self._loaded.can_continue:
            return len(row.token_ids)
        block = block_size(row.request.routing)
        stops = () if self._loaded.keeps_every_position else self._stops(row.request, block, waiting)
        # Generated tokens are read in one go: they are no part of anyone's prompt.
        prompt = len(row.request.prompt_ids)
        end = chunk_end(row.computed, prompt, block, largest, stops)
        return len(row.token_ids) if end == prompt else end

    def _stops(
        self, request: GenerationRequest, block: int, waiting: Iterable[GenerationRequest]
    ) -> list[int]:
        alike = [one.prompt_ids for one in waiting if _family(one) == _family(request)]
        # One token at least is read by everyone, for its logits.
        return [common_prefix(ids[:-1], request.prompt_ids) // block * block for ids in alike]

    def _plan(self, row: DecodingRow, start: int, end: int, block: int) -> Observed:
        request = row.request
        observed = observed_plan(
            self._loaded, [range(start, end)], [len(request.prompt_ids)], request.routing, request.observe
        )
        if observed.plan is None or observed.recorder is None:
            return observed
        return Observed(by_block(observed.plan, start, block), observed.recorder)

    def _observed(
        self, row: DecodingRow, observed: Observed, start: int, end: int, block: int
    ) -> list[RoutingStats | None]:
        blocks = -(-end // block) - start // block
        if observed.recorder is None:
            return [None] * blocks
        routing = observed.recorder.collect(blocks)
        for one in routing:
            row.observe(one)
        return list(routing)

    def _keep(self, row: DecodingRow, start: int, block: int, routing: list[RoutingStats | None]) -> None:
        request, cache = row.request, row.cache
        end = min(row.computed, len(request.prompt_ids)) // block * block
        if cache is None or row.not_shared_because or end <= start:
            return
        ends = range(start + block, end + 1, block)
        blocks = [
            Block(row_caches.cut_piece(cache, at - block, at, with_states=at == row.computed), counted)
            for at, counted in zip(ends, routing, strict=False)
        ]
        self._store.add(_family(request), request.prompt_ids, block, start, blocks)


def _family(request: GenerationRequest) -> Hashable:
    """Prompts that may share: the same routing, and the same wish to count it."""
    return (request.routing, request.observe)
