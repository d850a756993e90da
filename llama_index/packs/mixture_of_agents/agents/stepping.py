"""What every step of a crew's run does: takes what there is, tells of what it does, says so where it fails.

What steps there are is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from workflows import Context
from workflows.events import Event

from llama_index.packs.mixture_of_agents.agents.events import CrewEvent
from llama_index.packs.mixture_of_agents.agents.live_crew import LiveCrew, current_crew
from llama_index.packs.mixture_of_agents.agents.options import CrewSetup
from llama_index.packs.mixture_of_agents.agents.state import CrewState

P = ParamSpec("P")
T = TypeVar("T")


def ending_the_run(step: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A step whose error ends the run: the trace says so before whoever awaits the run hears of it."""

    @wraps(step)
    async def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await step(*args, **kwargs)
        except Exception as error:
            current_crew().ended(error)
            raise

    return told


async def at_hand(ctx: Context[CrewState], setup: CrewSetup) -> tuple[LiveCrew, CrewState]:
    """The run's live side, and what it has come to."""
    live, state = current_crew(), await ctx.store.get_state()
    taken_in(live, state, setup)  # of a run that was put away, and has been taken up again
    return live, state


async def put(ctx: Context[CrewState], state: CrewState) -> None:
    """The run has come to this."""
    live = current_crew()
    live.so_far = lambda: state.response(live)
    await ctx.store.set_state(state)


def taken_in(live: LiveCrew, state: CrewState, setup: CrewSetup) -> None:
    """Have the run's trace know what it has come to; it begins here, where none has begun."""
    live.so_far = lambda: state.response(live)
    live.begin_trace(setup, state.run_id, state.conversation)


def tell(ctx: Context[CrewState], event: Event) -> None:
    """Write an event to the run's stream and its trace, with which run it is and when."""
    live = current_crew()
    when = {"run_id": live.run_id, "seconds": round(live.clock.elapsed(), 6)}
    dated = event.model_copy(update=when) if isinstance(event, CrewEvent) else event
    ctx.write_event_to_stream(dated)
    live.happened(dated)
