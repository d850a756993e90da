"""Token ids in, token ids out, on one worker thread that owns the model.

Requests wait in a bounded queue; those that arrive while the model runs join between steps and leave when
they are done. What is computed next, `schedule` decides; how, `prefill` and `decoding`. The engine knows no
text and no LlamaIndex.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from llama_index.packs.mixture_of_agents.errors import (
    DeadlineExceededError,
    EngineClosedError,
    MixtureError,
    QueueFullError,
    SparseMoEError,
)
from llama_index.packs.mixture_of_agents.sparse_moe.interrupting import interrupt_at_exit, is_done
from llama_index.packs.mixture_of_agents.sparse_moe.requests import (
    EngineStats,
    FinishReason,
    GenerationRequest,
    Listener,
)
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
from llama_index.packs.mixture_of_agents.sparse_moe.serving.schedule import Schedule
from llama_index.packs.mixture_of_agents.sparse_moe.serving.tickets import RequestHandle, Ticket

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_MAX_WAITING = 256
DEFAULT_PREFIX_BYTES = 512_000_000
_CLOSED = "the engine is closed; make a new SparseMoELLM to load the model again"


class _Worker:
    """The thread's side. It never refers to its `Engine`, so that one can be collected and stop this."""

    def __init__(
        self,
        load: Callable[[], PreTrainedModel],
        max_waiting: int,
        prefix_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._load = load
        self._max_waiting = max_waiting
        self._prefix_bytes = prefix_bytes
        self._clock = clock
        self._schedule: Schedule | None = None
        self._loading = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._wanted: list[Future[LoadedModel]] = []
        self._active: list[Ticket] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self._peak_active = self._loads = 0

    def submit(self, request: GenerationRequest, listener: Listener) -> Ticket:
        ticket = Ticket(request, listener, self._clock())
        with self._changed:
            self._require_room()
            # First the thread: a request that was refused must not wait for one.
            self._ensure_thread()
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def _require_room(self) -> None:
        if self._closed:
            raise EngineClosedError(_CLOSED)
        if len(self._waiting) >= self._max_waiting:
            raise QueueFullError(
                f"the queue is full: {len(self._waiting)} requests are waiting and at most "
                f"{self._max_waiting} may. Wait for some to finish, or send fewer at once "
                "(the mixture's max_concurrency)"
            )

    def _ensure_thread(self) -> None:
        # A forked child inherits the object but not the thread; is_alive() is False there.
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self.run, name="sparse-moe-engine", daemon=True)
            thread.start()
            self._thread = thread
            interrupt_at_exit(thread, self.close)

    def cancel(self, ticket: Ticket) -> None:
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

    def close_and_wait(self) -> None:
        self.close()
        if self._thread is None:
            self._abandon_all()
        elif self._thread is not threading.current_thread():
            self._thread.join()

    def stats(self) -> EngineStats:
        with self._changed:
            schedule, active, waiting = self._schedule, len(self._active), len(self._waiting)
            counts = (self._peak_active, self._loads)
        if schedule is None:
            return EngineStats(0, active, waiting, *counts)
        prefill = schedule.prefill
        computed = (prefill.read_tokens, prefill.shared_tokens, prefill.held_bytes, schedule.widest_step)
        return EngineStats(schedule.steps, active, waiting, *counts, *computed)

    @property
    def closed(self) -> bool:
        return self._closed

    def run(self) -> None:
        """Serve steps until closed; whatever happens, nobody is left waiting for an answer."""
        try:
            while self._has_work():
                self._step()
        finally:
            self._abandon_all()
            is_done(threading.current_thread())

    def _has_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._active or self._waiting or self._wanted)
            return not self._closed

    def _step(self) -> None:
        with self._changed:
            wanted, self._wanted = self._wanted, []
        try:
            schedule = self.loaded()
        except Exception as problem:
            for one in wanted:
                one.set_exception(problem)
            if not wanted:
                self._fail_next(problem)
            return
        for one in wanted:
            one.set_result(schedule.loaded)
        self._end_unwanted(schedule)
        for ticket in self._admitted():
            schedule.admit(ticket)
        with self._changed:
            waiting = [ticket.request for ticket in self._waiting]
        schedule.advance(waiting)

    def _admitted(self) -> list[Ticket]:
        """Take from the queue, in order, who fits beside those that are active."""
        taken = []
        with self._changed:
            while self._waiting and len(self._active) < self._waiting[0].request.batch_limit:
                taken.append(self._waiting.popleft())
                self._active.append(taken[-1])
            self._peak_active = max(self._peak_active, len(self._active))
        return taken

    def _end_unwanted(self, schedule: Schedule) -> None:
        now = self._clock()
        with self._changed:
            late = [ticket for ticket in self._waiting if ticket.is_late(now)]
            self._waiting = deque(ticket for ticket in self._waiting if ticket not in late)
            active = list(self._active)
        for ticket in late:
            ticket.end(None, _too_late(ticket.request))
        for ticket in active:
            if ticket.cancelled.is_set():
                schedule.drop(ticket)
                self._finish(ticket, "cancelled", None)
            elif ticket.is_late(now):
                schedule.drop(ticket)
                self._finish(ticket, None, _too_late(ticket.request))

    def _finish(self, ticket: Ticket, reason: FinishReason | None, error: Exception | None) -> None:
        with self._changed:
            self._active.remove(ticket)
        ticket.end(reason, error)

    def _fail_next(self, problem: Exception) -> None:
        """The model could not be loaded: tell the first in the queue; the next one tries again."""
        with self._changed:
            ticket = self._waiting.popleft() if self._waiting else None
        if ticket is not None:
            ticket.end(None, problem)

    def load_and_wait(self) -> LoadedModel:
        # Not here: torch keeps a pool of threads for each thread that ever computed, and they get in each
        # other's way (decoding took half as long again on two cores).
        if self._thread is threading.current_thread():
            return self.loaded().loaded
        wanted: Future[LoadedModel] = Future()
        with self._changed:
            if self._closed:
                raise EngineClosedError(_CLOSED)
            self._ensure_thread()
            self._wanted.append(wanted)
            self._changed.notify()
        return wanted.result()

    def loaded(self) -> Schedule:
        with self._loading:
            if self._closed:
                raise EngineClosedError(_CLOSED)
            if self._schedule is None:
                self._loads += 1
                self._schedule = Schedule(_ready(self._load), self._prefix_bytes, self._finish)
            return self._schedule

    def _abandon_all(self) -> None:
        with self._changed:
            self._closed = True
            left, wanted = [*self._active, *self._waiting], self._wanted
            self._wanted = []
            self._active.clear()
            self._waiting.clear()
        with self._loading:
            schedule, self._schedule = self._schedule, None
            self._load = _no_model
        for one in wanted:
            one.set_exception(EngineClosedError("the engine was closed before the model was loaded"))
        for ticket in left:
            ticket.end(None, EngineClosedError("the engine was closed while the request was running"))
        if schedule is not None:
            schedule.release()


def _no_model() -> PreTrainedModel:
    """Stand in for the loader, which may hold a model that its owner wants to be rid of."""
    raise EngineClosedError(_CLOSED)


def _ready(load: Callable[[], PreTrainedModel]) -> LoadedModel:
    try:
        return LoadedModel(load())
    except MixtureError:
        raise
    except Exception as problem:
        raise SparseMoEError(f"the model could not be made ready: {problem!r}", causes=[problem]) from problem


def _too_late(request: GenerationRequest) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"the request was not done within its timeout of {request.timeout:g} s; give it more time, ask for "
        "fewer tokens, or send fewer requests at once"
    )


class Engine:
    """Decodes requests on one model, in a thread of its own.

    The model is loaded by the worker thread when the first request needs it. The engine closes itself
    when nothing refers to it any more, and at interpreter exit.

    Args:
        load: Returns the model, in eval mode. Called in the worker thread, again if it failed.
        max_waiting: Most requests that may wait to start.
        prefix_bytes: Most memory for beginnings of prompts that others may share; 0 shares nothing.
        clock: Tells the time in seconds, for deadlines.
    """

    def __init__(
        self,
        load: Callable[[], PreTrainedModel],
        *,
        max_waiting: int = DEFAULT_MAX_WAITING,
        prefix_bytes: int = DEFAULT_PREFIX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = _Worker(load, max_waiting, prefix_bytes, clock)
        # Not at exit: there the worker's thread is also waited for.
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
            QueueFullError: Too many requests are waiting already.
        """
        return RequestHandle(self._worker.submit(request, listener), self._worker.cancel)

    def stats(self) -> EngineStats:
        """Counters since the start, and what is held now."""
        return self._worker.stats()

    def load(self) -> LoadedModel:
        """Load the model now, unless it is there already, and wait for it.

        Returns:
            The model and what it can do. `LoadedModel.run` waits for a pass that is under way.

        Raises:
            EngineClosedError: The engine was closed.
            SparseMoEError: It cannot be loaded.
        """
        return self._worker.load_and_wait()

    @property
    def closed(self) -> bool:
        """Whether the engine takes no more requests."""
        return self._worker.closed

    def close(self) -> None:
        """Stop after the step under way, fail all open requests, release the model. Waits for that step."""
        self._worker.close_and_wait()
