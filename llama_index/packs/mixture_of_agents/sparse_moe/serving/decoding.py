"""Requests while they are computed: a prompt read in chunks, then rows of a batch that advance together.

A request's tokens depend on its own prompt, settings and random generator alone; who decodes beside it
changes sums in the last bits only. This file knows neither threads nor text.

Shapes: B rows of a batch, L length with padding, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.plans import ForwardPlan, plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.recording import RoutingRecorder
from llama_index.packs.mixture_of_agents.sparse_moe.requests import FinishReason, GenerationRequest
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving import row_caches
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel, nan_error
from llama_index.packs.mixture_of_agents.sparse_moe.serving.sampling import choose_token
from llama_index.packs.mixture_of_agents.sparse_moe.stats import RoutingStats

if TYPE_CHECKING:
    from transformers.cache_utils import Cache


class DecodingRow:
    """What one request carries from step to step.

    Args:
        request: What was asked.
        cache: Empty, of the model's kind.

    Attributes:
        computed: Tokens that are in the cache.
        shared: Tokens of those that came from another prompt.
        not_shared_because: Why none can; None if some can.
        routing: How its tokens went to experts so far.
    """

    def __init__(self, request: GenerationRequest, cache: Cache) -> None:
        self.request = request
        self.token_ids = list(request.prompt_ids)
        self.cache: Cache | None = cache
        self.generator = seeded_generator(request.sampling.seed)
        self.computed = 0
        self.shared = 0
        self.not_shared_because: str | None = None
        self.routing: RoutingStats | None = None

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - len(self.request.prompt_ids)

    def begin_again(self, cache: Cache) -> None:
        """Forget what was computed, keep what was generated."""
        self.cache, self.computed, self.shared, self.routing = cache, 0, 0, None

    def observe(self, routing: RoutingStats) -> None:
        """Count how further tokens went to experts."""
        self.routing = routing if self.routing is None else self.routing + routing


def seeded_generator(seed: int | None) -> torch.Generator:
    """Make a CPU generator of its own, with the given seed or a fresh one; the global one is untouched."""
    generator = torch.Generator(device="cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def take_token(loaded: LoadedModel, row: DecodingRow, logits_V: Tensor) -> int:
    """Choose a row's next token and write it down.

    Returns:
        The chosen token id.

    Raises:
        SparseMoEError: The scores are NaN; names the layer.
    """
    scores_V = logits_V.detach().to(device="cpu", dtype=torch.float32)
    if bool(torch.isnan(scores_V).any()):
        positions, prompt_length = [range(len(row.token_ids))], len(row.request.prompt_ids)
        plan = observed_plan(loaded, positions, [prompt_length], row.request.routing, False).plan
        raise nan_error(loaded, row.token_ids, plan)
    constraint = row.request.constraint
    if constraint is not None:
        scores_V = constraint.mask(scores_V)
    token_id = choose_token(scores_V, row.token_ids, row.request.sampling, row.generator)
    if constraint is not None:
        constraint.accept(token_id)
    row.token_ids.append(token_id)
    return token_id


def finish_reason(request: GenerationRequest, token_id: int, completion_tokens: int) -> FinishReason | None:
    """Tell whether the answer ends with this token, and why; None means go on."""
    if token_id in request.stop_ids or (request.constraint is not None and request.constraint.finished):
        return "stop"
    return "length" if completion_tokens >= request.max_new_tokens else None


@dataclass(frozen=True)
class Observed:
    """A plan, and the recorder it reports to if anyone wants to know."""

    plan: ForwardPlan | None
    recorder: RoutingRecorder | None


def observed_plan(
    loaded: LoadedModel,
    positions: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    settings: RoutingSettings,
    observe: bool,
) -> Observed:
    """Plan a pass for the experts; without layers that take a plan there is none."""
    if not loaded.layers:
        return Observed(None, None)
    recorder = RoutingRecorder(loaded.layers) if observe else None
    plan = plan_sequences(positions, prompt_lengths, settings, loaded.model.device, recorder)
    return Observed(plan, recorder)


class DecodingBatch:
    """Rows that advance by one token per pass.

    Args:
        loaded: The model.
        settings: How all of them are routed.
    """

    def __init__(self, loaded: LoadedModel, settings: RoutingSettings) -> None:
        self._loaded = loaded
        self._settings = settings
        self._cache: Cache | None = None
        self._length = 0
        self.rows: list[DecodingRow] = []

    def join(self, row: DecodingRow) -> None:
        """Take in a row whose prompt was read; its own cache becomes part of the batch's."""
        cache, row.cache = row.cache, None
        if cache is None:
            raise SparseMoEError("the row is in a batch already")
        if self._cache is None:
            self._cache, self._length = cache, row.computed
        else:
            self._cache = row_caches.join_rows(self._cache, self._length, cache, row.computed)
            self._length = max(self._length, row.computed)
        self.rows.append(row)

    def leave(self, row: DecodingRow) -> None:
        """Drop a row and what only it needed."""
        kept = [index for index, one in enumerate(self.rows) if one is not row]
        self.rows = [self.rows[index] for index in kept]
        if not kept or self._cache is None:
            self._cache, self._length = None, 0
            return
        self._length = max(one.computed for one in self.rows)
        self._cache = row_caches.keep_rows(self._cache, kept, self._length)

    def dissolve(self) -> list[DecodingRow]:
        """Drop all rows, and the cache that a failed pass may have left half-written."""
        rows, self.rows, self._cache, self._length = self.rows, [], None, 0
        return rows

    def advance(self) -> Tensor:
        """Feed each row's last token.

        Returns:
            Logits of the next tokens (B, V), in the order of `rows`.
        """
        if self._cache is None:
            raise SparseMoEError("the batch is empty")
        positions = [[row.computed] for row in self.rows]
        lengths = [len(row.request.prompt_ids) for row in self.rows]
        observe = any(row.request.observe for row in self.rows)
        observed = observed_plan(self._loaded, positions, lengths, self._settings, observe)
        ids = [[row.token_ids[row.computed]] for row in self.rows]
        logits_BV = self._loaded.run(ids, positions, self._cache, self._mask(), observed.plan)
        self._length += 1
        for row in self.rows:
            row.computed += 1
        if observed.recorder is not None:
            for row, routing in zip(self.rows, observed.recorder.collect(len(self.rows)), strict=True):
                if row.request.observe:
                    row.observe(routing)
        return logits_BV

    def _mask(self) -> Tensor | None:
        """What is no padding: the last `computed + 1` positions of each row."""
        length = self._length + 1
        real_B = [row.computed + 1 for row in self.rows]
        if all(real == length for real in real_B):
            return None
        device = self._loaded.model.device
        first_B = length - torch.tensor(real_B, device=device)
        return (torch.arange(length, device=device)[None, :] >= first_B[:, None]).long()


def by_block(plan: ForwardPlan, start: int, block: int) -> ForwardPlan:
    """Report a chunk of one prompt block by block, as if its blocks were rows.

    Args:
        plan: Of one row.
        start: Position of the chunk's first token, a multiple of `block`.
        block: Tokens per block.
    """
    tokens = plan.rows_T.numel()
    rows_T = torch.arange(start, start + tokens, device=plan.rows_T.device) // block - start // block
    return replace(plan, rows_T=rows_T)
