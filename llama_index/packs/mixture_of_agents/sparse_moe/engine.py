"""Token ids in, token ids out, on one worker thread that owns the model.

Requests wait in a bounded queue. The worker decodes those it admitted in turn, one step each, so a
late request starts while others are still decoding, and a request that is cancelled, fails or ends
never touches its neighbours. It knows no text and no LlamaIndex. Batching requests into one forward
is to come; it changes `_Worker._turn`, not what is promised here.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.errors import EngineClosedError, MixtureError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.decoding import DecodingState, finish_reason, next_token
from llama_index.packs.mixture_of_agents.sparse_moe.requests import (
    Ending,
    EngineStats,
    FinishReason,
    GenerationRequest,
    Listener,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_logger = logging.getLogger(__name__)

DEFAULT_MAX_WAITING = 256
_EXIT_PATIENCE_SECONDS = 5.0
_CLOSED = "the engine is closed; make a new SparseMoELLM to load the model again"


class _Ticket:
    """One request on its way through the worker."""

    def __init__(self, request: GenerationRequest, listener: Listener) -> None:
        self.request = request
        self.listener = listener
        self.state: DecodingState | None = None
        self.first_step = 0
        self.last_step = 0
        self.cancelled = threading.Event()
        self.ended = threading.Event()

    def end(self, reason: FinishReason | None, error: Exception | None = None) -> None:
        """Tell the listener; a listener that fails here has nobody left to tell but the log."""
        # Dropped first: the cache is the bulk of a request's memory.
        tokens = self.state.completion_tokens if self.state else 0
        self.state = None
        prompt_tokens = len(self.request.prompt_ids)
        try:
            self.listener.on_end(
                Ending(reason, prompt_tokens, tokens, self.first_step, self.last_step, error)
            )
        except Exception:
            _logger.warning("a listener failed while its request ended", exc_info=True)
        finally:
            self.ended.set()


class RequestHandle:
    """A submitted request, as its owner sees it."""

    def __init__(self, worker: _Worker, ticket: _Ticket) -> None:
        self._worker = worker
        self._ticket = ticket

    def cancel(self) -> None:
        """Stop computing before the next step; harmless when the request is over. Never waits."""
        self._worker.cancel(self._ticket)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the ending was delivered, for `timeout` seconds at most; tell whether it was."""
        return self._ticket.ended.wait(timeout)


class _Worker:
    """The thread's side. It never refers to its `Engine`, so that one can be collected and stop this."""

    def __init__(self, load: Callable[[], PreTrainedModel], max_waiting: int) -> None:
        self._load = load
        self._max_waiting = max_waiting
        self._model: PreTrainedModel | None = None
        self._loading = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: deque[_Ticket] = deque()
        self._active: deque[_Ticket] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._steps = self._peak_active = self._loads = 0

    def submit(self, ticket: _Ticket) -> None:
        with self._changed:
            self._require_room()
            self._waiting.append(ticket)
            self._ensure_thread()
            self._changed.notify()

    def _require_room(self) -> None:
        if self._closed:
            raise EngineClosedError(_CLOSED)
        if len(self._waiting) >= self._max_waiting:
            raise SparseMoEError(
                f"the queue is full: {len(self._waiting)} requests are waiting and at most "
                f"{self._max_waiting} may. Wait for some to finish, or send fewer at once "
                "(the mixture's max_concurrency)"
            )

    def _ensure_thread(self) -> None:
        # A forked child inherits the object but not the thread; is_alive() is False there.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self.run, name="sparse-moe-engine", daemon=True)
            # A daemon thread inside torch while the interpreter is torn down can crash the process.
            atexit.register(self.close_at_exit)
            self._thread.start()

    def cancel(self, ticket: _Ticket) -> None:
        ticket.cancelled.set()
        with self._changed:
            waits = ticket in self._waiting
            if waits:
                self._waiting.remove(ticket)
        if waits:
            ticket.end("cancelled")

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def close_and_wait(self, timeout: float | None = None) -> None:
        self.close()
        if self._thread is None:
            self._abandon_all()
        elif self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def close_at_exit(self) -> None:
        # A prefill of minutes must not hold up the end of the process.
        self.close_and_wait(_EXIT_PATIENCE_SECONDS)

    def stats(self) -> EngineStats:
        with self._changed:
            return EngineStats(
                self._steps, len(self._active), len(self._waiting), self._peak_active, self._loads
            )

    @property
    def closed(self) -> bool:
        return self._closed

    def run(self) -> None:
        """Serve turns until closed; whatever happens, nobody is left waiting for an answer."""
        try:
            while (ticket := self._next_ticket()) is not None:
                self._turn(ticket)
        finally:
            self._abandon_all()
            atexit.unregister(self.close_at_exit)

    def _next_ticket(self) -> _Ticket | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._active or self._waiting)
            if self._closed:
                return None
            while self._waiting and len(self._active) < self._waiting[0].request.batch_limit:
                self._active.append(self._waiting.popleft())
            self._peak_active = max(self._peak_active, len(self._active))
            # First to last: everyone gets one step before anyone gets the next.
            self._active.rotate(-1)
            return self._active[-1]

    def _turn(self, ticket: _Ticket) -> None:
        """One step of one request; its failure is its own."""
        reason: FinishReason | None = None
        error: Exception | None = None
        try:
            reason = "cancelled" if ticket.cancelled.is_set() else self._step(ticket)
        except MixtureError as problem:
            error = problem
        except Exception as problem:
            error = SparseMoEError(f"the model failed while decoding: {problem!r}", causes=[problem])
            error.__cause__ = problem
        if reason or error:
            with self._changed:
                self._active.remove(ticket)
            ticket.end(reason, error)

    def _step(self, ticket: _Ticket) -> FinishReason | None:
        model = self.loaded_model()
        if ticket.state is None:
            ticket.state = DecodingState(ticket.request, model)
            ticket.first_step = self._steps + 1
        self._steps += 1
        token_id = next_token(model, ticket.state)
        ticket.last_step = self._steps
        reason = finish_reason(ticket.request, token_id, ticket.state.completion_tokens)
        wants_more = True if reason == "stop" else ticket.listener.on_token(token_id)
        return reason if wants_more else "stop"

    def loaded_model(self) -> PreTrainedModel:
        with self._loading:
            if self._closed:
                raise EngineClosedError(_CLOSED)
            if self._model is None:
                self._loads += 1
                self._model = self._load()
            return self._model

    def _abandon_all(self) -> None:
        with self._changed:
            self._closed = True
            left = [*self._active, *self._waiting]
            self._active.clear()
            self._waiting.clear()
        with self._loading:
            self._model = None
        for ticket in left:
            ticket.end(None, EngineClosedError("the engine was closed while the request was running"))


class Engine:
    """Decodes requests on one model, in a thread of its own.

    The model is loaded by the worker thread when the first request needs it. The engine closes itself
    when nothing refers to it any more, and at interpreter exit.

    Args:
        load: Returns the model, in eval mode. Called in the worker thread, again if it failed.
        max_waiting: Most requests that may wait to start.
    """

    def __init__(
        self, load: Callable[[], PreTrainedModel], *, max_waiting: int = DEFAULT_MAX_WAITING
    ) -> None:
        self._worker = _Worker(load, max_waiting)
        # Not at exit: there the worker's own hook also waits for the step under way.
        weakref.finalize(self, self._worker.close).atexit = False

    def submit(self, request: GenerationRequest, listener: Listener) -> RequestHandle:
        """Queue a request. Returns at once.

        Args:
            request: What to continue, and how.
            listener: Gets each token and the ending on the worker's thread (the ending of a request
                cancelled while it waited: on the canceller's).

        Returns:
            A handle to cancel it with.

        Raises:
            EngineClosedError: The engine was closed.
            SparseMoEError: The queue is full.
        """
        ticket = _Ticket(request, listener)
        self._worker.submit(ticket)
        return RequestHandle(self._worker, ticket)

    def stats(self) -> EngineStats:
        """Counters since the start, and what is held now."""
        return self._worker.stats()

    def load(self) -> None:
        """Load the model now, in this thread, unless it is there already.

        Raises:
            EngineClosedError: The engine was closed.
            SparseMoEError: It cannot be loaded.
        """
        self._worker.loaded_model()

    @property
    def closed(self) -> bool:
        """Whether the engine takes no more requests."""
        return self._worker.closed

    def close(self) -> None:
        """Stop after the step under way, fail all open requests, release the model. Waits for that step."""
        self._worker.close_and_wait()
