"""What the worker computes next, and for whom: one chunk of one prompt, then one token for every batch.

So a late request is read while others decode, whoever decodes waits for a long prompt no longer than a
chunk, and a request that fails, ends or is cancelled never touches its neighbours. It runs on the worker's
thread and knows neither queues nor text.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.errors import MixtureError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.requests import FinishReason, GenerationRequest
from llama_index.packs.mixture_of_agents.sparse_moe.serving.decoding import (
    DecodingBatch,
    DecodingRow,
    finish_reason,
    take_token,
)
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
from llama_index.packs.mixture_of_agents.sparse_moe.serving.memory import require_memory
from llama_index.packs.mixture_of_agents.sparse_moe.serving.prefill import Prefill
from llama_index.packs.mixture_of_agents.sparse_moe.serving.tickets import Ticket

if TYPE_CHECKING:
    from torch import Tensor

_logger = logging.getLogger(__name__)

# Tokens of a prompt per pass: few while others wait for their next token, more when nobody does.
BUSY_CHUNK = 128
IDLE_CHUNK = 512

Finish = Callable[[Ticket, "FinishReason | None", "Exception | None"], None]


class Schedule:
    """The requests that are being read and decoded.

    Args:
        loaded: The model.
        prefix_bytes: Most memory for prompts' beginnings.
        finish: Called when a request is over.
    """

    def __init__(self, loaded: LoadedModel, prefix_bytes: int, finish: Finish) -> None:
        self.loaded = loaded
        self._finish = finish
        self.prefill = Prefill(loaded, prefix_bytes)
        self._reading: deque[Ticket] = deque()
        self._batches: dict[Hashable, DecodingBatch] = {}
        self._tickets: dict[DecodingRow, Ticket] = {}
        self.steps = 0
        self.widest_step = 0

    def admit(self, ticket: Ticket) -> None:
        """Take a request in; one that cannot be computed ends here."""
        try:
            request = ticket.request
            self._require_memory(request)
            ticket.row = self.prefill.begin(request)
        except Exception as problem:
            self._fail(ticket, problem)
            return
        self._reading.append(ticket)

    def drop(self, ticket: Ticket) -> None:
        """Forget a request, wherever it is."""
        if ticket in self._reading:
            self._reading.remove(ticket)
        row = ticket.row
        if row is not None and self._tickets.pop(row, None) is not None:
            self._leave(self._key(ticket), row)

    def _leave(self, key: Hashable, row: DecodingRow) -> None:
        batch = self._batches[key]
        try:
            batch.leave(row)
        except Exception:
            # There was no memory to copy what the others keep, say; without a cache they are read anew.
            _logger.warning("a batch could not be taken apart; those who stay are read again", exc_info=True)
            self._read_again(batch.dissolve())
        if not batch.rows:
            del self._batches[key]

    def _read_again(self, rows: Iterable[DecodingRow]) -> None:
        for row in rows:
            self.prefill.begin_again(row)
            self._reading.append(self._tickets.pop(row))

    def release(self) -> None:
        """Let go of the model and of everything computed with it; nothing can be asked any more."""
        self._reading.clear()
        self._batches.clear()
        self._tickets.clear()
        self.prefill.clear()
        self.loaded.release()

    def advance(self, waiting: Iterable[GenerationRequest]) -> None:
        """Compute one chunk of the oldest prompt, and one token for each batch.

        Args:
            waiting: Requests that are not admitted yet.
        """
        decoding = list(self._batches)
        if self._reading:
            self._read(self._reading[0], IDLE_CHUNK if not decoding else BUSY_CHUNK, waiting)
        for key in decoding:
            if key in self._batches:
                self._decode(self._batches[key])

    def _read(self, ticket: Ticket, largest: int, waiting: Iterable[GenerationRequest]) -> None:
        row = ticket.row
        if row is None:
            return
        others = [one.request for one in list(self._reading)[1:]]
        try:
            self._count([ticket])
            logits_V = self.prefill.read_chunk(row, largest, [*others, *waiting])
        except Exception as problem:
            self._fail(ticket, problem)
            return
        if logits_V is None:
            return
        self._reading.popleft()
        self._take(ticket, row, logits_V)
        if ticket.ended.is_set():
            return
        try:
            self._join(ticket, row)
        except Exception as problem:
            self._fail(ticket, problem)

    def _join(self, ticket: Ticket, row: DecodingRow) -> None:
        key = self._key(ticket)
        if key not in self._batches:
            self._batches[key] = DecodingBatch(self.loaded, ticket.request.routing)
        self._batches[key].join(row)
        self._tickets[row] = ticket

    def _key(self, ticket: Ticket) -> Hashable:
        """Requests with the same key decode in the same pass."""
        alone = ticket.alone or not self.loaded.can_batch
        return (ticket.request.routing, id(ticket) if alone else None)

    def _decode(self, batch: DecodingBatch) -> None:
        rows = list(batch.rows)
        tickets = [self._tickets[row] for row in rows]
        self._count(tickets)
        try:
            logits_BV = batch.advance()
        except Exception as problem:
            self._part(batch, tickets, problem)
            return
        for ticket, row, logits_V in zip(tickets, rows, logits_BV, strict=True):
            self._take(ticket, row, logits_V)

    def _part(self, batch: DecodingBatch, tickets: list[Ticket], problem: Exception) -> None:
        """After a failed pass each of its requests goes on alone: who fails again, fails alone."""
        if len(tickets) == 1:
            self._fail(tickets[0], problem)
            return
        del self._batches[self._key(tickets[0])]
        self._read_again(batch.dissolve())
        for ticket in tickets:
            ticket.alone = True

    def _take(self, ticket: Ticket, row: DecodingRow, logits_V: Tensor) -> None:
        """Choose and hand out a request's next token; its failure is its own."""
        try:
            token_id = take_token(self.loaded, row, logits_V)
            reason = finish_reason(ticket.request, token_id, row.completion_tokens)
        except Exception as problem:
            self._fail(ticket, problem)
            return
        if token_id not in ticket.request.stop_ids:
            self._hand_out(ticket, token_id, reason)
        elif reason:
            self._end(ticket, reason, None)

    def _hand_out(self, ticket: Ticket, token_id: int, reason: FinishReason | None) -> None:
        try:
            wanted = ticket.tell(token_id)
        except Exception as problem:
            error = SparseMoEError(f"who was to receive the tokens failed: {problem!r}", causes=[problem])
            error.__cause__ = problem
            self._end(ticket, None, error)
            return
        if reason or not wanted:
            self._end(ticket, reason if wanted else "stop", None)

    def _fail(self, ticket: Ticket, problem: Exception) -> None:
        error = problem
        if not isinstance(problem, MixtureError):
            error = SparseMoEError(f"the model failed while decoding: {problem!r}", causes=[problem])
            error.__cause__ = problem
        self._end(ticket, None, error)

    def _end(self, ticket: Ticket, reason: FinishReason | None, error: Exception | None) -> None:
        self.drop(ticket)
        self._finish(ticket, reason, error)

    def _count(self, tickets: Sequence[Ticket]) -> None:
        self.steps += 1
        self.widest_step = max(self.widest_step, len(tickets))
        for ticket in tickets:
            ticket.stepped(self.steps)

    def _require_memory(self, request: GenerationRequest) -> None:
        """Refuse a request whose cache does not fit beside what the others' will have grown to."""
        others = [*self._reading, *self._tickets.values()]
        lengths = [_length(one.request) for one in others]
        tokens = _length(request)
        # In a batch every row is as long as the longest.
        needed = (len(others) + 1) * max([tokens, *lengths])
        held = sum(one.row.computed for one in others if one.row is not None)
        beside = f" beside {len(others)} others" if others else ""
        require_memory(
            f"the cache of a request of {tokens} tokens{beside}",
            (needed - held) * self.loaded.token_bytes,
            self.loaded.model.device,
            "shorten the prompt, lower max_tokens, or send fewer requests at once",
        )


def _length(request: GenerationRequest) -> int:
    """Longest that a request can become, in tokens."""
    return len(request.prompt_ids) + request.max_new_tokens
