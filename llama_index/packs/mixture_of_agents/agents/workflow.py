"""The event flow of a crew: a request becomes a plan, tasks run as soon as they may, someone answers.

Steps carry; what they carry out is decided elsewhere (`planning`, `plans`, `working`, `prompts`). There is no
join: each result that comes in begins the tasks it was the last need of, so nobody waits for a whole wave.
"""

from __future__ import annotations

import contextvars
import time
import uuid
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

from llama_index.core.base.llms.types import ChatMessage
from workflows import Context, Workflow, step
from workflows.events import StopEvent
from workflows.handler import WorkflowHandler

from llama_index.packs.mixture_of_agents.agents.answering import answer
from llama_index.packs.mixture_of_agents.agents.assignments import assignment_of
from llama_index.packs.mixture_of_agents.agents.board import Board
from llama_index.packs.mixture_of_agents.agents.clock import RunClock
from llama_index.packs.mixture_of_agents.agents.confirming import ask_for_consent
from llama_index.packs.mixture_of_agents.agents.events import (
    AggregationEvent,
    PlanDecisionEvent,
    PlanEvent,
    PlannedEvent,
    PlanQuestionEvent,
    ReplanEvent,
    RequestEvent,
    ResultEvent,
    TaskEvent,
    WorkedEvent,
    WorkEvent,
    WriteDecisionEvent,
)
from llama_index.packs.mixture_of_agents.agents.live_crew import LiveCrew, begun_in, current_crew
from llama_index.packs.mixture_of_agents.agents.options import CREWS, MOST_TASKS, CrewSetup
from llama_index.packs.mixture_of_agents.agents.planning import Done, Planned
from llama_index.packs.mixture_of_agents.agents.plans import Plan
from llama_index.packs.mixture_of_agents.agents.results import TaskResult
from llama_index.packs.mixture_of_agents.agents.state import CrewState
from llama_index.packs.mixture_of_agents.agents.stepping import at_hand, ending_the_run, put, taken_in, tell
from llama_index.packs.mixture_of_agents.agents.working import carry_out
from llama_index.packs.mixture_of_agents.calls.slots import CallSlots
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import (
    ConfigurationError,
    CrewTimeoutError,
    PlanRejectedError,
)
from llama_index.packs.mixture_of_agents.events import DeadlineEvent

T = TypeVar("T")
_MOST_SENT_BACK = 50
"""Changed plans that cannot work: a program that answers for a person might send one for ever."""
Decided: TypeAlias = PlannedEvent | PlanQuestionEvent | AggregationEvent | None


class CrewWorkflow(Workflow):
    """A crew as a LlamaIndex workflow; a mixture takes it as a proposer, too.

    Args:
        setup: Who is in it, and its limits; `Crew` makes one.

    Example:
        handler = Crew(members, planner).workflow.run(request="Is this lateral movement?")
        async for event in handler.stream_events(): ...   # PlanEvent, TaskEvent, ActEvent, ...
        response = await handler                          # CrewResponse
    """

    def __init__(self, setup: CrewSetup) -> None:
        self.setup = setup
        self.name = setup.name
        self._slots = CallSlots(setup.max_concurrency)
        # The run's own deadline says what was there when it struck; the runtime's would not.
        super().__init__(timeout=None)

    def run(
        self,
        ctx: Context[Any] | None = None,
        start_event: Any = None,
        *,
        request: str | None = None,
        history: Sequence[ChatMessage] = (),
        plan: Plan | None = None,
        user_msg: ChatMessage | str | None = None,
        chat_history: Sequence[ChatMessage] | None = None,
        attended: bool | None = None,
        **kwargs: Any,
    ) -> WorkflowHandler:
        """Start a run.

        Args:
            ctx: A context to resume: of a run that waits for a plan to be confirmed.
            start_event: A RequestEvent, instead of the next ones.
            request: What is asked.
            history: The conversation before it.
            plan: A plan of the caller's; no planner is asked then.
            user_msg: The request, as agents are given theirs.
            chat_history: The conversation before it, likewise.
            attended: Whether someone reads the stream and answers what tools ask there; None for yes, unless
                it is run as an agent is.
            **kwargs: What any workflow takes, such as `run_id`.

        Returns:
            A handler; awaiting it gives the CrewResponse.

        Raises:
            ConfigurationError: There is no request, or the plan cannot be carried out.
        """
        if ctx is None and start_event is None:
            said = user_msg.content if isinstance(user_msg, ChatMessage) else user_msg
            start_event = _request(request or said or "", chat_history or history, plan)
        if isinstance(start_event, RequestEvent) and start_event.plan is not None:
            self.setup.check_plan(start_event.plan)
        run_id, begin = kwargs.pop("run_id", None) or uuid.uuid4().hex, super().run

        @CREWS.one_more(self.setup.too_deep)
        def begun() -> WorkflowHandler:
            live = LiveCrew(run_id, Board(list(self.setup.members)), RunClock(time.monotonic))
            live.attended = user_msg is None if attended is None else attended
            handler = begun_in(live, lambda: begin(ctx=ctx, start_event=start_event, run_id=run_id, **kwargs))
            live.go_with(handler, self.setup.timeout)
            if start_event is None:  # taken up again where a person was waited for, or goes on at once
                live.show_plan()
            return handler

        return contextvars.copy_context().run(begun)

    @step
    @ending_the_run
    async def plan(
        self, ctx: Context[CrewState], ev: RequestEvent
    ) -> PlannedEvent | PlanQuestionEvent | DeadlineEvent:
        """Have a plan made; the deadline's event comes from its timer."""
        live = current_crew()
        state = CrewState(run_id=live.run_id, request=ev.request, history=ev.history, plan=ev.plan)
        taken_in(live, state, self.setup)
        planned = Planned(ev.plan)
        if ev.plan is None and self.setup.planning is None:
            planned = Planned(self.setup.only_task(ev.request))
        elif ev.plan is None:
            with live.work():
                planned = await _sure(self.setup.planning).plan(ev.request, ev.history)
        missing = [] if planned.missing is None else [planned.missing]
        state = state.changed(plan=planned.plan, missing=missing, spent=planned.usages, plans_made=1)
        await put(ctx, state)
        tell(ctx, PlanEvent(plan=_sure(state.plan), faults=planned.faults))
        return await self._confirmed(ctx, state)

    @step(num_workers=1)
    @ending_the_run
    async def decide(self, ctx: Context[CrewState], ev: PlanDecisionEvent) -> Decided:
        """Take in what someone says to the plan; the first word counts, later ones find the plan at work."""
        _, state = await at_hand(ctx, self.setup)
        if not state.asked:
            return None
        if not ev.approved:
            raise PlanRejectedError(f"the plan was rejected{f': {ev.reason}' if ev.reason else ''}")
        plan = _sure(state.plan) if ev.plan is None else ev.plan.model_copy(update={"source": "edited"})
        wrong = self.setup.faults_of(plan, state.done, state.gone)
        if wrong and state.sent_back < _MOST_SENT_BACK:
            await put(ctx, state.changed(sent_back=state.sent_back + 1))
            return PlanQuestionEvent(plan=plan, drawn=plan.as_text(), faults=wrong)
        self.setup.check_plan(plan, state.done, state.gone)
        current_crew().plan_seen()
        await put(ctx, state.changed(plan=plan, asked=False))
        return PlannedEvent()

    @step
    @ending_the_run
    async def begin(
        self, ctx: Context[CrewState], ev: PlannedEvent
    ) -> WorkEvent | ReplanEvent | AggregationEvent | None:
        """Begin the plan: every task that needs nothing."""
        _, state = await at_hand(ctx, self.setup)
        again = state.first_plan is not None
        tell(ctx, PlanEvent(plan=_sure(state.plan), state="again" if again else "confirmed"))
        return await self._go_on(ctx, state)

    @step(num_workers=MOST_TASKS)
    @ending_the_run
    async def work(self, ctx: Context[CrewState], ev: WorkEvent) -> WorkedEvent:
        """Do one task, when it is its turn among those that may be done at once."""
        live, state = await at_hand(ctx, self.setup)
        if live.attended:
            live.questions.go_to(ctx.write_event_to_stream)
        task = _sure(state.plan).task(ev.task)
        with live.work():
            async with self._slots.hold():
                given = assignment_of(task, self.setup.members[task.agent], state, live)
                tell(ctx, TaskEvent(task=task, absent=list(given.absent)))
                done = await carry_out(
                    given,
                    live.board,
                    lambda event: tell(ctx, event),
                    self.setup.max_retries,
                    self.setup.task_timeout,
                    self.setup.prices,
                )
        record = done.record
        kept: dict[str, Any] = {"result" if isinstance(record, TaskResult) else "missing": record}
        tell(ctx, ResultEvent(**kept, warnings=done.warnings))
        return WorkedEvent(task=task.id, **kept, warnings=done.warnings)

    @step
    async def permit(self, ctx: Context[CrewState], ev: WriteDecisionEvent) -> None:
        """Pass on what someone says to a tool that wants to write."""
        current_crew().questions.answer(ev)

    @step(num_workers=1)
    @ending_the_run
    async def settle(
        self, ctx: Context[CrewState], ev: WorkedEvent
    ) -> WorkEvent | ReplanEvent | AggregationEvent | None:
        """Take in one outcome, and begin what it was waited for by."""
        _, state = await at_hand(ctx, self.setup)
        return await self._go_on(ctx, state.settled(ev.result, ev.missing, ev.warnings))

    @step
    @ending_the_run
    async def plan_again(
        self, ctx: Context[CrewState], ev: ReplanEvent
    ) -> PlannedEvent | PlanQuestionEvent | WorkEvent | ReplanEvent | AggregationEvent | None:
        """Have a second plan made for what failed, and what waits for it."""
        live, state = await at_hand(ctx, self.setup)
        with live.work():
            done = Done(state.results, state.failed)
            planned = await _sure(self.setup.planning).plan_again(state.request, state.history, done)
        state = state.changed(spent=[*state.spent, *planned.usages], plans_made=state.plans_made + 1)
        if planned.plan is None:
            gone = [planned.missing] if planned.missing is not None else []
            return await self._go_on(ctx, state.changed(missing=[*state.missing, *gone]))
        state = state.planned_again(planned.plan)
        await put(ctx, state)
        tell(ctx, PlanEvent(plan=_sure(state.plan), faults=planned.faults))
        return await self._confirmed(ctx, state)

    @step
    @ending_the_run
    async def aggregate(self, ctx: Context[CrewState], ev: AggregationEvent) -> StopEvent:
        """Answer, and stop."""
        live, state = await at_hand(ctx, self.setup)
        # Here, and not when the run is wound up: a loop that stops with the run would cut that short.
        await live.close_memories()
        with live.work():
            response = await answer(self.setup, state, live, lambda event: tell(ctx, event))
        live.ended(response)
        return StopEvent(result=response)

    @step
    @ending_the_run
    async def expire(self, ctx: Context[CrewState], ev: DeadlineEvent) -> StopEvent:
        """The run's time is up: fail it, which cancels every call in flight."""
        live, state = await at_hand(ctx, self.setup)
        raise CrewTimeoutError(
            f"The crew had no answer after its timeout of {self.setup.timeout:g} s. Raise `timeout`, or set "
            "`task_timeout` so that slow tasks are not waited for. What was there is in `.partial`.",
            partial=state.response(live),
        )

    async def _confirmed(self, ctx: Context[CrewState], state: CrewState) -> PlannedEvent | PlanQuestionEvent:
        """The plan, once whoever is to be asked agrees to it."""
        live, plan = current_crew(), _sure(state.plan)
        if self.setup.confirm is None:
            return PlannedEvent()
        live.show_plan()
        if self.setup.confirm == "events":
            await put(ctx, state.changed(asked=True))
            return PlanQuestionEvent(plan=plan, drawn=plan.as_text())
        changed = await ask_for_consent(self.setup.confirm, plan)
        live.plan_seen()
        if changed is not plan:
            self.setup.check_plan(changed, state.done, state.gone)
            await put(ctx, state.changed(plan=changed))
        return PlannedEvent()

    async def _go_on(
        self, ctx: Context[CrewState], state: CrewState
    ) -> WorkEvent | ReplanEvent | AggregationEvent | None:
        """Begin every task that may; with none, and none in work, see what is left to do."""
        turn = state.turn(self.setup.replans)
        for missing in turn.lost:
            tell(ctx, ResultEvent(missing=missing))
        await put(ctx, state.taken(turn))
        for task in turn.begin:
            ctx.send_event(WorkEvent(task=task.id))
        if turn.then == "plan again":
            return ReplanEvent()
        return AggregationEvent() if turn.then == "answer" else None


def _request(request: Any, history: Sequence[ChatMessage], plan: Plan | None) -> RequestEvent:
    if not isinstance(request, str):
        raise ConfigurationError(f"A request must be a text; found {shown(request)}. Pass its content.")
    if not request.strip():
        raise ConfigurationError("The request is empty; say what the crew is to do.")
    return RequestEvent(request=request, history=list(history), plan=plan)


def _sure(value: T | None) -> T:
    if value is None:
        raise RuntimeError("a run has come to a step without what the steps before should have made")
    return value
