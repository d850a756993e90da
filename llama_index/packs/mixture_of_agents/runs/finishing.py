"""Finishing a run: the desk that a finish works at, who stands in when it fails, and the response.

It knows the run and the finish's protocol, and nothing of what a particular finish does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.calls.endpoint import Reply
from llama_index.packs.mixture_of_agents.calls.retries import describe
from llama_index.packs.mixture_of_agents.calls.sampling import split_options
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.finishes import Finish, Finished, Request, Synthesize
from llama_index.packs.mixture_of_agents.prompts import without_tool_turns
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage
from llama_index.packs.mixture_of_agents.runs.asking import begin, call_of, changed, end, speaking
from llama_index.packs.mixture_of_agents.runs.live_run import LiveRun
from llama_index.packs.mixture_of_agents.runs.progress import Progress
from llama_index.packs.mixture_of_agents.runs.states import MixtureState
from llama_index.packs.mixture_of_agents.seats.placing import Outcome, Speak, place
from llama_index.packs.mixture_of_agents.seats.seat import Seat
from llama_index.packs.mixture_of_agents.synthesis import candidates, speak


async def answer(run: LiveRun, state: MixtureState, progress: Progress) -> MixtureResponse:
    """Finish: by the mixture's way, else with the first proposal as it is.

    Raises:
        MixtureError: Nobody answered; it names every cause.
    """
    desk = RunDesk(run, state, progress)
    # Without a proposal there is nothing to choose from: the aggregator answers alone.
    finish = run.mixture.finish if desk.proposals else Synthesize()
    finished = await _finished(finish, desk)
    if finished is None:
        if not desk.proposals:
            raise nothing_survived([*state.all_missing(), *desk.failures], run.errors())
        finished = Finished(desk.proposals[0])
    if not desk.has_written(finished.answer):
        progress.answers(run.mixture.num_layers, finished.answer.proposer)
        progress.delta(finished.answer.text)
    return _response(run, state, desk.failures, finished, finish.name)


async def _finished(finish: Finish, desk: RunDesk) -> Finished | None:
    """What the finish came to.

    Raises:
        MixtureError: It failed, or gave something else: one of the caller's own may.
    """
    try:
        finished: object = await finish.finish(desk)
    except MixtureError:
        raise
    except Exception as error:
        raise MixtureError(f"The finish {finish.name!r} failed: {describe(error)}", causes=[error]) from error
    if finished is None or (isinstance(finished, Finished) and isinstance(finished.answer, Proposal)):
        return finished
    raise MixtureError(
        f"The finish {finish.name!r} gave {shown(finished)}; it must give a Finished that holds a Proposal, "
        "or None."
    )


class RunDesk:
    """The desk of one run; `finishes.Desk` describes it.

    Args:
        run: The run's live side.
        state: What it has come to.
        progress: Where the run says what it does.
    """

    def __init__(self, run: LiveRun, state: MixtureState, progress: Progress) -> None:
        self._run, self._progress = run, progress
        self.messages: Sequence[ChatMessage] = state.messages
        proposals, missing = state.references()
        self.proposals: Sequence[Proposal] = proposals
        self.missing: Sequence[Missing] = missing
        self.gate = run.mixture.gate
        self.writers: Sequence[Seat] = candidates(run.mixture.aggregator, run.mixture.layers, proposals)
        self.failures: list[Missing] = []
        self._written: Proposal | None = None

    async def ask(self, request: Request) -> tuple[Proposal | Missing, ChatMessage | None]:
        """Place a call; what came of it, with the whole message where there is one."""
        run, seat = self._run, self.writers[request.attempt]
        call = self._call(request, seat)
        if call.place in run.asked:
            raise MixtureError(
                f"The finish {run.mixture.finish.name!r} asks {seat.name} twice in turn {request.turn}; give "
                "each Request a turn of its own."
            )
        begin(run, call, self._progress, "synthesis" if request.is_answer else "asked")
        if request.is_answer:
            run.streamed = ""
        way = self._answering(seat, request) if request.is_answer else speaking(seat, request.options)
        outcome = await place(call, way, run.placing, self._progress.retries(call), seat.proposer.timeout)
        self._keep(outcome, request)
        await end(run, outcome, self._progress)
        return outcome.record, outcome.message

    def _call(self, request: Request, seat: Seat) -> Call:
        where = (self._run.mixture.num_layers, request.attempt, request.turn)
        # Only an answer may be offered the caller's tools, without which some APIs refuse tool turns.
        messages = request.messages if request.is_answer else without_tool_turns(request.messages)
        call = call_of(self._run, seat, where, request.task, messages, may_call_tools=request.is_answer)
        # Policies see what the caller asks for with the call: a budget checks it, a cache tells it apart.
        options = self._options(request)
        asked, _ = split_options(options)
        return replace(call, sampling=asked.over(call.sampling), tools=tool_names(options))

    def _answering(self, seat: Seat, request: Request) -> Speak:
        run, options = self._run, self._options(request)

        def on_delta(delta: str) -> None:
            run.streamed += delta
            self._progress.delta(delta)

        async def write(call: Call) -> Reply:
            given = {**options, **changed(seat, call)}
            return await speak(seat, call.messages, given, on_delta if run.streams else None)

        return write

    def _options(self, request: Request) -> dict[str, Any]:
        """The caller's options go with the answer, and to the aggregator alone: a stand-in has no tools."""
        is_aggregators = request.is_answer and request.attempt == 0
        return {**request.options, **(self._run.aggregator_options if is_aggregators else {})}

    def _keep(self, outcome: Outcome, request: Request) -> None:
        if isinstance(outcome.record, Missing):
            self.failures.append(outcome.record)
        elif request.is_answer:
            self._written = outcome.record
            if self._run.streams and not self._run.streamed:
                self._progress.delta(outcome.record.text)  # from a store, so nothing was streamed yet

    def has_written(self, record: Proposal) -> bool:
        """Whether these words were written as the answer, and so were streamed."""
        return record is self._written

    def give_up(self, attempt: int, reason: str) -> None:
        """A writer answered, but not so that it could be used: it counts as missing."""
        layer = self._run.mixture.num_layers
        self.failures.append(Missing(proposer=self.writers[attempt].name, layer=layer, reason=reason))


def tool_names(options: Mapping[str, Any]) -> list[str]:
    """The names of the tools among a call's options, in whatever form its class takes them."""
    tools = options.get("tools") or ()
    return [_name_of(tool) for tool in tools] if isinstance(tools, (list, tuple)) else ["tools"]


def _name_of(tool: Any) -> str:
    holder = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    name = holder.get("name") if isinstance(holder, Mapping) else getattr(holder, "name", None)
    return str(name or "a tool")


def nothing_survived(missing: Sequence[Missing], errors: Sequence[BaseException]) -> MixtureError:
    """The error of a run in which nobody answered, naming every cause."""
    lines = "\n".join(f"- {gone}" for gone in missing)
    return MixtureError(f"No model of the mixture answered:\n{lines}", causes=errors)


def _response(
    run: LiveRun, state: MixtureState, failures: Sequence[Missing], finished: Finished, finish: str
) -> MixtureResponse:
    answered = finished.answer
    return MixtureResponse(
        text=answered.text,
        proposals=state.proposals,
        missing=[*state.all_missing(), *failures],
        usage=Usage.total([*state.usages(), *run.other_usage()]),
        calls=run.calls(),
        latency_seconds=run.elapsed(),
        run_id=run.run_id,
        synthesizer=answered.proposer,
        finish=finish,
        decision=finished.decision,
        roles=state.roles,
        condensed=state.condensed,
        stopped_after=state.stopped_after,
        routed=state.routed,
        message=finished.message or ChatMessage(role=MessageRole.ASSISTANT, content=answered.text),
    )
