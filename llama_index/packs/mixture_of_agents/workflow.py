"""The event flow: a question fans out to proposers, is collected, goes round again, is answered.

Steps carry; what they carry out is decided elsewhere (`mixture`, `rounds`, `prompts`, `synthesis`).
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from typing_extensions import Unpack
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.handler import WorkflowHandler

from llama_index.packs.mixture_of_agents.checkpoint import Checkpoint
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.events import (
    AskEvent, DeltaEvent, ProgressEvent, ProposalEvent, ProposeEvent, SynthesizeEvent,
)
from llama_index.packs.mixture_of_agents.mixture import MixtureOptions, Seat, seat_mixture
from llama_index.packs.mixture_of_agents.prompts import as_reference, proposer_messages
from llama_index.packs.mixture_of_agents.proposers import Call, Outcome, Placing, place
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage
from llama_index.packs.mixture_of_agents.retries import describe
from llama_index.packs.mixture_of_agents.runs import (
    LiveRun, MixtureState, begun_in, conversation, current_run,
)
from llama_index.packs.mixture_of_agents.slots import CallSlots
from llama_index.packs.mixture_of_agents.synthesis import candidates, speak, synthesis_for


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
        self._slots = CallSlots(self.mixture.max_concurrency)
        # The runtime reads num_workers from the class, so each width needs a class of its own.
        self.__class__ = _of_width(type(self), self.mixture.width)
        # The run's own deadline says what was there when it struck; the runtime's would not.
        super().__init__(timeout=None)

    def run(
        self,
        ctx: Context[Any] | None = None,
        start_event: StartEvent | None = None,
        *,
        query_str: str | None = None,
        messages: Sequence[ChatMessage] | None = None,
        checkpoint: str | None = None,
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
        """
        resumes = ctx is not None and ctx.is_running
        if not isinstance(start_event, AskEvent) and not resumes:
            asked = list(messages) if messages is not None else None
            start_event = AskEvent(query_str=query_str, messages=asked, checkpoint=checkpoint)
        policies = self._policies(start_event)
        run = LiveRun(
            mixture=self.mixture,
            placing=Placing(self._slots, policies, self.mixture.max_retries, time.monotonic),
            run_id=kwargs.pop("run_id", None) or uuid.uuid4().hex,
            started=time.monotonic(),
            aggregator_options=aggregator_options or {},
            streams=streams,
        )
        begin = super().run
        return begun_in(run, lambda: begin(ctx=ctx, start_event=start_event, run_id=run.run_id, **kwargs))

    def _policies(self, event: StartEvent | None) -> list[Any]:
        if not isinstance(event, AskEvent):
            return list(self.mixture.policies)
        fingerprint = self.mixture.fingerprint(conversation(event.query_str, event.messages))
        saved = [Checkpoint(event.checkpoint, fingerprint)] if event.checkpoint else []
        return [*saved, *self.mixture.policies]

    @step
    async def begin(self, ctx: Context[MixtureState], ev: AskEvent) -> list[ProposeEvent] | SynthesizeEvent:
        """Take the question in and open the first layer."""
        messages = conversation(ev.query_str, ev.messages)
        await ctx.store.set_state(MixtureState(run_id=current_run().run_id, messages=messages))
        return self._open(ctx, layer=1)

    @step
    async def propose(self, ctx: Context[MixtureState], ev: ProposeEvent) -> ProposalEvent:
        """Ask one proposer, for as long as its round waits."""
        return await self._propose(ctx, ev)

    @step
    async def aggregate(
        self, ctx: Context[MixtureState], events: list[ProposalEvent]
    ) -> list[ProposeEvent] | SynthesizeEvent:
        """Collect a round, in proposer order whatever the order of arrival, and open the next."""
        layer = events[0].layer
        current_run().end_round(layer)
        state = await ctx.store.get_state()
        await ctx.store.set_state(state.with_outcomes(in_proposer_order(events)))
        return self._open(ctx, layer + 1)

    @step
    async def synthesize(self, ctx: Context[MixtureState], ev: SynthesizeEvent) -> StopEvent:
        """Write the answer, and stop."""
        run, state = current_run(), await ctx.store.get_state()
        return StopEvent(result=await run.in_time(self._answer(ctx, run, state)))

    def _open(self, ctx: Context[MixtureState], layer: int) -> list[ProposeEvent] | SynthesizeEvent:
        if layer > len(self.mixture.layers):
            return SynthesizeEvent(layer=layer)
        ctx.write_event_to_stream(ProgressEvent(kind="round", layer=layer))
        return [ProposeEvent(layer=layer, index=index) for index in range(len(self.mixture.layers[layer - 1]))]

    async def _propose(self, ctx: Context[MixtureState], ev: ProposeEvent) -> ProposalEvent:
        run, state = current_run(), await ctx.store.get_state()
        seat = self.mixture.layers[ev.layer - 1][ev.index]
        references, absent = state.references()
        texts = [as_reference(proposal.text) for proposal in references]
        messages = proposer_messages(state.messages, seat.proposer.role, texts, [gone.proposer for gone in absent])
        call = Call(run.run_id, ev.layer, ev.index, seat.name, messages, seat.sampling)
        _tell(ctx, "asked", call)
        outcome = await run.in_time(self._within_round(ctx, run, seat, call))
        return _proposal_event(ctx, run, call, outcome)

    async def _within_round(
        self, ctx: Context[MixtureState], run: LiveRun, seat: Seat, call: Call
    ) -> Outcome:
        async def ask() -> Any:
            return await seat.endpoint.reply(call.messages, {})

        def cut(reason: str) -> Outcome:
            left = "" if seat.endpoint.stoppable else "; it has no async methods, so its thread is abandoned"
            return Outcome(Missing(proposer=call.proposer, layer=call.layer, reason=reason + left))

        this_round = run.round(call.layer)
        placed = place(call, ask, run.placing, _retry_teller(ctx, call), seat.proposer.timeout)
        outcome = await this_round.hold(placed, cut)
        if isinstance(outcome.record, Proposal):
            this_round.count_proposal()
        return outcome

    async def _answer(
        self, ctx: Context[MixtureState], run: LiveRun, state: MixtureState
    ) -> MixtureResponse:
        references, absent = state.references()
        failures: list[Missing] = []
        for attempt, seat in enumerate(candidates(self.mixture, references)):
            task = synthesis_for(seat, state.messages, references, absent)
            outcome = await self._synthesis_by(ctx, run, seat, attempt, task)
            if isinstance(outcome.record, Proposal):
                return _response(run, state, failures, outcome.record, outcome.message)
            failures.append(outcome.record)
        if not references:
            raise nothing_survived([*state.missing, *failures], run.errors)
        first = references[0]
        _write_delta(ctx, run, first.text)
        return _response(run, state, failures, first.model_copy(update={"usage": Usage(prompt_tokens=0, completion_tokens=0)}), None)

    async def _synthesis_by(
        self, ctx: Context[MixtureState], run: LiveRun, seat: Seat, attempt: int, task: Any
    ) -> Outcome:
        call = Call(run.run_id, self.mixture.num_layers, attempt, seat.name, task.prompt(0, ""), seat.sampling)
        _tell(ctx, "synthesis", call)
        run.streamed = ""
        on_delta = functools.partial(_write_delta, ctx, run) if run.streams else None
        options = run.aggregator_options if attempt == 0 else {}

        async def write() -> Any:
            return await speak(seat, task, options, on_delta)

        outcome = await place(call, write, run.placing, _retry_teller(ctx, call), seat.proposer.timeout)
        _note(ctx, run, call, outcome)
        return outcome


def in_proposer_order(events: Sequence[ProposalEvent]) -> list[Proposal | Missing]:
    """A round's outcomes by the proposers' places, whatever the order they came in."""
    ordered = sorted(events, key=lambda event: event.index)
    return [outcome for event in ordered if (outcome := event.proposal or event.missing) is not None]


def nothing_survived(missing: Sequence[Missing], errors: Sequence[BaseException]) -> MixtureError:
    """The error of a run in which nobody answered, naming every cause."""
    lines = "\n".join(f"- {gone}" for gone in missing)
    return MixtureError(f"No model of the mixture answered:\n{lines}", causes=errors)


@functools.lru_cache(maxsize=256)
def _of_width(cls: type[MixtureOfAgentsWorkflow], width: int) -> type[MixtureOfAgentsWorkflow]:
    async def propose(
        self: MixtureOfAgentsWorkflow, ctx: Context[MixtureState], ev: ProposeEvent
    ) -> ProposalEvent:
        return await self._propose(ctx, ev)

    propose.__doc__ = cls.propose.__doc__
    propose.__qualname__ = f"{cls.__qualname__}.propose"
    body = {"propose": step(num_workers=width)(propose), "__module__": cls.__module__, "__doc__": cls.__doc__}
    sized = type(cls.__name__, (cls,), body)
    sized.__qualname__ = cls.__qualname__
    return sized


def _proposal_event(
    ctx: Context[MixtureState], run: LiveRun, call: Call, outcome: Outcome
) -> ProposalEvent:
    _note(ctx, run, call, outcome)
    record = outcome.record
    if isinstance(record, Proposal):
        return ProposalEvent(layer=call.layer, index=call.index, proposal=record)
    return ProposalEvent(layer=call.layer, index=call.index, missing=record)


def _note(ctx: Context[MixtureState], run: LiveRun, call: Call, outcome: Outcome) -> None:
    """Keep the outcome for a partial result and for the causes of an error, and tell the stream."""
    run.outcomes[(call.layer, call.index)] = outcome.record
    if outcome.error is not None:
        run.errors.append(outcome.error)
    if isinstance(outcome.record, Missing):
        _tell(ctx, "missing", call, reason=str(outcome.record.reason))
    else:
        _tell(ctx, "answered", call, seconds=outcome.record.latency_seconds, usage=outcome.record.usage)


def _tell(ctx: Context[MixtureState], kind: Any, call: Call, **details: Any) -> None:
    ctx.write_event_to_stream(ProgressEvent(kind=kind, layer=call.layer, proposer=call.proposer, **details))


def _retry_teller(ctx: Context[MixtureState], call: Call) -> Callable[[BaseException, float], None]:
    return lambda error, wait: _tell(ctx, "retry", call, seconds=wait, reason=describe(error))


def _write_delta(ctx: Context[MixtureState], run: LiveRun, delta: str) -> None:
    run.streamed += delta
    if run.streams:
        ctx.write_event_to_stream(DeltaEvent(delta=delta))


def _response(
    run: LiveRun,
    state: MixtureState,
    failures: Sequence[Missing],
    answer: Proposal,
    message: ChatMessage | None,
) -> MixtureResponse:
    return MixtureResponse(
        text=answer.text,
        proposals=state.proposals,
        missing=[*state.missing, *failures],
        usage=Usage.total([*(proposal.usage for proposal in state.proposals), answer.usage]),
        latency_seconds=run.elapsed(),
        run_id=run.run_id,
        synthesizer=answer.proposer,
        message=message or ChatMessage(role=MessageRole.ASSISTANT, content=answer.text),
    )
