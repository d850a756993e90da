"""A request on its way through the engine, as its owner and as the worker see it.

It knows neither models nor batches.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable

from llama_index.packs.mixture_of_agents.sparse_moe.requests import (
    Ending,
    FinishReason,
    GenerationRequest,
    Listener,
)
from llama_index.packs.mixture_of_agents.sparse_moe.serving.decoding import DecodingRow

_logger = logging.getLogger(__name__)


class Ticket:
    """One request, from `submit` to its ending.

    Args:
        request: What was asked.
        listener: Hears of each token and of the ending.
        now: Time of submission, in seconds.

    Attributes:
        row: What it computes with; None before it starts and when it is over.
        first_step: Number of its first forward pass, 0 before that.
        last_step: Number of its latest.
        alone: Whether it shares no pass with others, because a shared one failed.
    """

    def __init__(self, request: GenerationRequest, listener: Listener, now: float) -> None:
        self.request = request
        self.row: DecodingRow | None = None
        self.first_step = 0
        self.last_step = 0
        self.alone = False
        self.cancelled = threading.Event()
        self.ended = threading.Event()
        self._listener = listener
        self._deadline = None if request.timeout is None else now + request.timeout

    def is_late(self, now: float) -> bool:
        """Tell whether its time is up."""
        return self._deadline is not None and now >= self._deadline

    def stepped(self, step: int) -> None:
        """Note a forward pass it took part in."""
        self.first_step = self.first_step or step
        self.last_step = step

    def tell(self, token_id: int) -> bool:
        """Hand a token out; tell whether more are wanted."""
        return self._listener.on_token(token_id)

    def end(self, reason: FinishReason | None, error: Exception | None = None) -> None:
        """Tell the listener; one that fails here has nobody left to tell but the log."""
        # Dropped first: the cache is the bulk of a request's memory, and errors hold on to rows.
        row, self.row = self.row, None
        ending = Ending(
            reason,
            len(self.request.prompt_ids),
            row.completion_tokens if row else 0,
            self.first_step,
            self.last_step,
            error,
            row.shared if row else 0,
            row.routing if row else None,
            row.not_shared_because if row else None,
        )
        if row is not None:
            row.cache = None
        del row
        _clear_frames(error)
        try:
            self._listener.on_end(ending)
        except Exception:
            _logger.warning("a listener failed while its request ended", exc_info=True)
        finally:
            self.ended.set()


def _clear_frames(error: BaseException | None) -> None:
    """Whoever keeps an error would keep what its frames held: a model half loaded, caches."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class RequestHandle:
    """A submitted request, as its owner sees it.

    Args:
        ticket: The request.
        cancel: Takes it out of the queue or the batch.
    """

    def __init__(self, ticket: Ticket, cancel: Callable[[Ticket], None]) -> None:
        self._ticket = ticket
        self._cancel = cancel

    def cancel(self) -> None:
        """Stop computing before the next step; harmless when the request is over. Never waits."""
        self._cancel(self._ticket)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the ending was delivered, for `timeout` seconds at most; tell whether it was."""
        return self._ticket.ended.wait(timeout)
