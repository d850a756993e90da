"""Asking: one proposer in its round, or the aggregator and those who can stand in for it.

Puts together what others decide: prompts, rounds, candidates, the placing of calls. It knows the run
and its state, and nothing of the workflow's events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.endpoint import Reply
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.layouts import shared_prefix_messages
from llama_index.packs.mixture_of_agents.mixture import Seat
from llama_index.packs.mixture_of_agents.placing import NOTHING_USED, Outcome, place, tell
from llama_index.packs.mixture_of_agents.progress import Progress
from llama_index.packs.mixture_of_agents.prompts import proposer_messages
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage
from llama_index.packs.mixture_of_agents.runs import LiveRun, MixtureState
from llama_index.packs.mixture_of_agents.synthesis import Synthesis, candidates, speak, synthesis_for


async def ask_proposer(
    run: LiveRun, state: MixtureState, layer: int, index: int, progress: Progress
) -> Proposal | Missing:
    """Ask one proposer, for as long as its round waits.

    Args:
        run: The run's live side.
        state: What the run has come to.
        layer: The round, from 1.
        index: The proposer's place in it, from 0.
        progress: Where the run says what it does.
    """
    seat = run.mixture.layers[layer - 1][index]
    call = _proposer_call(run, state, seat, layer, index)
    run.asked[(layer, index)] = call.proposer
    progress.asks(call)
    outcome = await _within_round(run, seat, call, progress)
    await _note(run, call, outcome, progress)
    return outcome.record


def _proposer_call(run: LiveRun, state: MixtureState, seat: Seat, layer: int, index: int) -> Call:
    messages = _proposer_prompt(run, state, seat, layer)
    stoppable = seat.endpoint.stoppable
    return Call(run.run_id, layer, index, seat.name, messages, seat.sampling, stoppable=stoppable)


def _proposer_prompt(run: LiveRun, state: MixtureState, seat: Seat, layer: int) -> list[ChatMessage]:
    references, absent = run.material(state)
    role = seat.proposer.role
    if not seat.shares_prefix:
        return proposer_messages(state.messages, role, references, absent)
    sharers = [other for other in run.mixture.layers[layer - 1] if other.shares_prefix]
    roles = [other.proposer.role or "" for other in sharers]
    return shared_prefix_messages(state.messages, role, references, absent, roles)


async def _within_round(run: LiveRun, seat: Seat, call: Call, progress: Progress) -> Outcome:
    async def ask() -> Reply:
        return await seat.endpoint.reply(call.messages, {})

    placed = place(call, ask, run.placing, progress.retries(call), seat.proposer.timeout)
    this_round = run.round(call.layer)
    outcome = await this_round.hold(placed, lambda reason: Outcome(call.cut(reason)))
    if isinstance(outcome.record, Proposal):
        this_round.count_proposal()
    return outcome


async def ask_aggregator(run: LiveRun, state: MixtureState, progress: Progress) -> MixtureResponse:
    """Have the answer written, by the aggregator or else by a proposer's model.

    When both fail, the first proposal stands as it is.

    Raises:
        MixtureError: Nobody answered; it names every cause.
    """
    proposals, missing = state.references()
    failures: list[Missing] = []
    for attempt, seat in enumerate(candidates(run.mixture, proposals)):
        # A stand-in writes for everyone: the role it proposed in is not the answer's.
        role = seat.proposer.role if seat is run.mixture.aggregator else None
        task = synthesis_for(seat, state.messages, proposals, missing, role)
        outcome = await _synthesis_by(run, seat, attempt, task, progress)
        if isinstance(outcome.record, Proposal):
            return _response(run, state, failures, outcome.record, outcome.message)
        failures.append(outcome.record)
    if not proposals:
        raise nothing_survived([*state.missing, *failures], run.errors())
    verbatim = proposals[0].model_copy(update={"usage": NOTHING_USED})
    progress.answers(run.mixture.num_layers, verbatim.proposer)
    progress.delta(verbatim.text)
    return _response(run, state, failures, verbatim, None)


async def _synthesis_by(
    run: LiveRun, seat: Seat, attempt: int, task: Synthesis, progress: Progress
) -> Outcome:
    call = _synthesis_call(run, seat, attempt, task)
    run.asked[(call.layer, attempt)] = call.proposer
    progress.asks(call, "synthesis")
    run.streamed = ""

    def on_delta(delta: str) -> None:
        run.streamed += delta
        progress.delta(delta)

    async def write() -> Reply:
        options = run.aggregator_options if attempt == 0 else {}
        return await speak(seat, task, options, on_delta if run.streams else None)

    outcome = await place(call, write, run.placing, progress.retries(call), seat.proposer.timeout)
    if isinstance(outcome.record, Proposal) and run.streams and not run.streamed:
        progress.delta(outcome.record.text)  # answered from a store, so nothing was streamed yet
    await _note(run, call, outcome, progress)
    return outcome


def _synthesis_call(run: LiveRun, seat: Seat, attempt: int, task: Synthesis) -> Call:
    return Call(
        run.run_id,
        run.mixture.num_layers,
        attempt,
        seat.name,
        task.prompt(0, ""),
        seat.sampling,
        may_call_tools=True,
        stoppable=seat.endpoint.stoppable,
    )


async def _note(run: LiveRun, call: Call, outcome: Outcome, progress: Progress) -> None:
    """Keep an outcome for the result and for the causes of an error, and say it."""
    # Without the message: a run in progress should not hold every model's whole reply twice.
    run.outcomes[(call.layer, call.index)] = replace(outcome, message=None)
    if not outcome.from_policy:
        await tell(run.placing.policies, call, outcome.record)
    progress.outcome(call, outcome.record)


def nothing_survived(missing: Sequence[Missing], errors: Sequence[BaseException]) -> MixtureError:
    """The error of a run in which nobody answered, naming every cause."""
    lines = "\n".join(f"- {gone}" for gone in missing)
    return MixtureError(f"No model of the mixture answered:\n{lines}", causes=errors)


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
        usage=Usage.total([*(p.usage for p in state.proposals), *run.lost_usage(), answer.usage]),
        latency_seconds=run.elapsed(),
        run_id=run.run_id,
        synthesizer=answer.proposer,
        message=message or ChatMessage(role=MessageRole.ASSISTANT, content=answer.text),
    )
