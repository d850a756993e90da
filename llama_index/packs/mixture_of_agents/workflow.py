"""The event flow: a question fans out to proposers, is collected, goes round again, is answered.

Steps carry; what they carry out is decided elsewhere (`runs`, `prompts`, `finishes`).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from typing_extensions import Unpack
from workflows import Context, Workflow, step
from workflows.errors import WorkflowCancelledByUser
from workflows.events import Event, StartEvent, StopEvent
from workflows.handler import WorkflowHandler

from llama_index.packs.mixture_of_agents.calls.slots import CallSlots
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.events import (
    AskEvent,
    CastEvent,
    CondenseEvent,
    DeadlineEvent,
    GateEvent,
    ProgressEvent,
    ProposalEvent,
    ProposeEvent,
    SynthesizeEvent,
)
from llama_index.packs.mixture_of_agents.nesting import Nesting
from llama_index.packs.mixture_of_agents.results import Proposal
from llama_index.packs.mixture_of_agents.runs.asking import ask_proposer
from llama_index.packs.mixture_of_agents.runs.beginning import live_run
from llama_index.packs.mixture_of_agents.runs.between_rounds import (
    ask_for_roles,
    ask_to_condense,
    stopped_early,
)
from llama_index.packs.mixture_of_agents.runs.checkpoint import checkpoint_path
from llama_index.packs.mixture_of_agents.runs.finishing import answer
from llama_index.packs.mixture_of_agents.runs.gating import route
from llama_index.packs.mixture_of_agents.runs.live_run import (
    LiveRun,
    begun_in,
    conversation,
    current_run,
)
from llama_index.packs.mixture_of_agents.runs.mixture import seat_mixture
from llama_index.packs.mixture_of_agents.runs.options import MixtureOptions
from llama_index.packs.mixture_of_agents.runs.progress import Progress
from llama_index.packs.mixture_of_agents.runs.states import MixtureState

_MIXTURES = Nesting("run", deepest=4)  # each may ask as many times as it has calls: four are thousands
_logger = logging.getLogger(__name__)


class MixtureOfAgentsWorkflow(Workflow):
    """A mixture of agents (arXiv 2406.04692) as a LlamaIndex workflow.

    Args:
        proposers: LLMs, agents or Proposers; one list for all rounds, or one list each.
        aggregator: The LLM or Proposer that writes the answer.
        **options: As for `MixtureOfAgentsPack`.

    Raises:
        ConfigurationError: Anything that cannot work.

    Example:
        handler = MixtureOfAgentsWorkflow([a, b], aggregator).run(query_str="Why is the sky blue?")
        async for event in handler.stream_events(): ...   # ProgressEvent, DeltaEvent
        response = await handler                          # MixtureResponse
    """

    def __init__(self, proposers: Any, aggregator: Any, **options: Unpack[MixtureOptions]) -> None:
        self.mixture = seat_mixture(proposers, aggregator, **options)
        self._made_of = (type(self), proposers, aggregator, options)
        self._slots = CallSlots(self.mixture.max_concurrency)
        # The runtime reads num_workers from the class, so each width needs a class of its own.
        self.__class__ = _of_width(type(self), self.mixture.width)
        # The run's own deadline says what was there when it struck; the runtime's would not.
        super().__init__(timeout=None)

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle is made anew: slots and connections belong to one process.
        return _made_again, self._made_of

    def __deepcopy__(self, memo: dict[int, Any]) -> MixtureOfAgentsWorkflow:
        """A mixture of its own, with slots of its own, over the same models."""
        return _made_again(*self._made_of)

    def run(
        self,
        ctx: Context[Any] | None = None,
        start_event: StartEvent | None = None,
        *,
        query_str: str | None = None,
        messages: Sequence[ChatMessage] | None = None,
        checkpoint: str | Path | None = None,
        streams: bool = True,
        aggregator_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> WorkflowHandler:
        """Start a run.

        Args:
            ctx: A context to resume, as any workflow takes it.
            start_event: An AskEvent, instead of the next three.
            query_str: The question.
            messages: A conversation, instead of a question.
            checkpoint: A file to save to, and to resume from when it holds this run's beginning.
            streams: Whether the answer is written to the stream as it is produced.
            aggregator_options: Keyword arguments for the aggregator's call alone (tools).
            **kwargs: What any workflow takes, such as `run_id`.

        Returns:
            A handler; awaiting it gives the MixtureResponse.

        Raises:
            ConfigurationError: The question is empty, or the checkpoint belongs to another.
            MixtureError: Too many mixtures ask inside each other.
        """
        resumes = ctx is not None and ctx.is_running
        if not isinstance(start_event, AskEvent) and not resumes:
            asked = list(messages) if messages is not None else None
            start_event = AskEvent(
                query_str=query_str,
                messages=asked,
                checkpoint=checkpoint_path(checkpoint),
            )
        run_id, begin = kwargs.pop("run_id", None) or uuid.uuid4().hex, super().run

        @_MIXTURES.one_more(_too_deep)
        def begun() -> WorkflowHandler:
            run = live_run(self.mixture, self._slots, start_event, run_id)
            run.streams, run.aggregator_options = streams, aggregator_options or {}
            try:
                handler = begun_in(
                    run, lambda: begin(ctx=ctx, start_event=start_event, run_id=run_id, **kwargs)
                )
            except BaseException as error:
                run.give_up(error)
                raise
            self._arm_deadline(run, handler)
            run.watch = asyncio.ensure_future(_end_with(run, handler))
            return handler

        # A context of its own: what takes part in a run may set variables for all of it, and no one else.
        return contextvars.copy_context().run(begun)

    def _arm_deadline(self, run: LiveRun, handler: WorkflowHandler) -> None:
        if self.mixture.timeout is None:
            return

        def strike() -> None:
            if not handler.is_done():
                handler.ctx.send_event(DeadlineEvent())

        run.deadline = asyncio.get_running_loop().call_later(self.mixture.timeout, strike)

    @step
    async def begin(
        self, ctx: Context[MixtureState], ev: AskEvent
    ) -> list[ProposeEvent] | CastEvent | GateEvent | SynthesizeEvent | DeadlineEvent:
        """Take the question in and open the first layer; the deadline's event comes from its timer."""
        messages = conversation(ev.query_str, ev.messages)
        await ctx.store.set_state(MixtureState(run_id=current_run().run_id, messages=messages))
        return self._open(ctx, layer=1)

    @step
    async def cast(self, ctx: Context[MixtureState], ev: CastEvent) -> list[ProposeEvent] | GateEvent:
        """Have roles written for the question, then open the layer they are for."""
        run = current_run()
        with run.work():
            state = await ask_for_roles(run, await ctx.store.get_state(), ev.layer, _progress(ctx, run))
        await _keep(ctx, run, state)
        return self._fan_out(ev.layer)

    @step
    async def gate(
        self, ctx: Context[MixtureState], ev: GateEvent
    ) -> list[ProposeEvent] | CastEvent | CondenseEvent | GateEvent | SynthesizeEvent:
        """Ask those whom the gate names, or close the layer when it has enough."""
        run = current_run()
        with run.work():
            state, chosen = await route(run, await ctx.store.get_state(), ev.layer, _progress(ctx, run))
            if chosen:
                run.open_round(ev.layer)
                await _keep(ctx, run, state)
                return [ProposeEvent(layer=ev.layer, index=index) for index in chosen]
            return await self._close(ctx, run, state, ev.layer)

    @step
    async def propose(self, ctx: Context[MixtureState], ev: ProposeEvent) -> ProposalEvent:
        """Ask one proposer, for as long as its round waits."""
        run, state = current_run(), await ctx.store.get_state()
        with run.work():
            record = await ask_proposer(run, state, ev.layer, ev.index, _progress(ctx, run))
        if isinstance(record, Proposal):
            return ProposalEvent(layer=ev.layer, index=ev.index, proposal=record)
        return ProposalEvent(layer=ev.layer, index=ev.index, missing=record)

    @step
    async def aggregate(
        self, ctx: Context[MixtureState], events: list[ProposalEvent]
    ) -> list[ProposeEvent] | CastEvent | CondenseEvent | GateEvent | SynthesizeEvent:
        """Collect a round, in proposer order whatever the order of arrival, and go on."""
        layer, run = events[0].layer, current_run()
        run.end_round(layer)
        state = (await ctx.store.get_state()).with_stage(events)
        if self.mixture.gate is not None:
            await _keep(ctx, run, state)
            return GateEvent(layer=layer)
        with run.work():
            return await self._close(ctx, run, state, layer)

    async def _close(
        self, ctx: Context[MixtureState], run: LiveRun, state: MixtureState, layer: int
    ) -> list[ProposeEvent] | CastEvent | CondenseEvent | GateEvent | SynthesizeEvent:
        """A layer has all its answers: stop early, condense, or open the next."""
        state = await stopped_early(run, state.closed(), layer, _progress(ctx, run))
        await _keep(ctx, run, state)
        if state.stopped_after is not None:
            return SynthesizeEvent(layer=self.mixture.num_layers)
        has_more = layer < len(self.mixture.layers)
        if self.mixture.condenses and has_more and any(p.layer == layer for p in state.proposals):
            return CondenseEvent(layer=layer)
        return self._open(ctx, layer + 1)

    @step
    async def condense(
        self, ctx: Context[MixtureState], ev: CondenseEvent
    ) -> list[ProposeEvent] | CastEvent | GateEvent | SynthesizeEvent:
        """Put a round's proposals into one text, then open the next."""
        run = current_run()
        with run.work():
            state = await ask_to_condense(run, await ctx.store.get_state(), ev.layer, _progress(ctx, run))
        await _keep(ctx, run, state)
        return self._open(ctx, ev.layer + 1)

    @step
    async def synthesize(self, ctx: Context[MixtureState], ev: SynthesizeEvent) -> StopEvent:
        """Finish, and stop."""
        run, state = current_run(), await ctx.store.get_state()
        with run.work(), closing(run):
            try:
                response = await answer(run, state, _progress(ctx, run))
            except Exception as error:
                run.ended(error)
                raise
            run.ended(response)
            return StopEvent(result=response)

    @step
    async def expire(self, ctx: Context[MixtureState], ev: DeadlineEvent) -> StopEvent:
        """The run's time is up: fail it, which cancels every call in flight."""
        with closing(current_run()) as run:
            error = run.timeout_error()
            run.ended(error)
            raise error

    def _open(
        self, ctx: Context[MixtureState], layer: int
    ) -> list[ProposeEvent] | CastEvent | GateEvent | SynthesizeEvent:
        if layer > len(self.mixture.layers):
            return SynthesizeEvent(layer=layer)
        _progress(ctx, current_run()).round(layer)
        if self.mixture.role_writer is not None and self.mixture.facts.roles_to_write(layer):
            return CastEvent(layer=layer)
        return self._fan_out(layer)

    def _fan_out(self, layer: int) -> list[ProposeEvent] | GateEvent:
        if self.mixture.gate is not None:
            return GateEvent(layer=layer)
        return [ProposeEvent(layer=layer, index=i) for i in range(len(self.mixture.layers[layer - 1]))]


async def _end_with(run: LiveRun, handler: WorkflowHandler) -> None:
    """End the live side when the run does.

    Also when who awaits the handler is cancelled: that takes the runtime's loop down, but not always
    its tasks.
    """
    try:
        # Its error is for whoever awaits the handler, and for whoever watches the run.
        (outcome,) = await asyncio.gather(handler.stop_event_result(), return_exceptions=True)
        if isinstance(outcome, BaseException) and not isinstance(outcome, WorkflowCancelledByUser):
            run.ended(outcome)
    finally:
        run.end()


async def _keep(ctx: Context[MixtureState], run: LiveRun, state: MixtureState) -> None:
    """What the run has come to, for the next step and for a deadline that strikes."""
    run.state = state
    await ctx.store.set_state(state)


def _progress(ctx: Context[MixtureState], run: LiveRun) -> Progress:
    """The run's voice: to its stream where that is wanted, and to everyone who watches."""
    stream = ctx.write_event_to_stream if run.streams else None
    if not run.watches:
        return Progress(stream)

    def write(event: Event) -> None:
        if isinstance(event, ProgressEvent):
            run.watch_all(lambda watch: watch.happened(event))
        if stream is not None:
            stream(event)

    return Progress(write)


@functools.lru_cache(maxsize=256)
def _of_width(cls: type[MixtureOfAgentsWorkflow], width: int) -> type[MixtureOfAgentsWorkflow]:
    """The class, its `propose` step run so many times at once (the runtime's default is 4)."""
    own = cls.propose

    @functools.wraps(own)
    async def propose(*args: Any, **kwargs: Any) -> Any:
        return await own(*args, **kwargs)

    body = {"propose": step(num_workers=width)(propose), "__module__": cls.__module__, "__doc__": cls.__doc__}
    sized = type(cls.__name__, (cls,), body)
    sized.__qualname__ = cls.__qualname__
    return sized


def _too_deep(depth: int) -> MixtureError:
    return MixtureError(
        f"A mixture was not run: {depth} are at work inside each other, and no more may be; one of them "
        "seems to ask itself, through a tool perhaps."
    )


def _made_again(
    cls: type[MixtureOfAgentsWorkflow], proposers: Any, aggregator: Any, options: MixtureOptions
) -> MixtureOfAgentsWorkflow:
    return cls(proposers, aggregator, **options)
