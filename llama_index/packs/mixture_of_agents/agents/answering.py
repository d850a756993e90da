"""The answer of a crew: an aggregator puts the results together; where it fails, others stand in.

Last of all the results are given as they are. It knows no plans beyond whose results it has.
"""

from __future__ import annotations

from collections.abc import Callable

from workflows.events import Event

from llama_index.packs.mixture_of_agents.agents.events import AggregateEvent, AnswerEvent
from llama_index.packs.mixture_of_agents.agents.holding import checked, say_held
from llama_index.packs.mixture_of_agents.agents.live_crew import LiveCrew
from llama_index.packs.mixture_of_agents.agents.options import CrewSetup
from llama_index.packs.mixture_of_agents.agents.prompts import aggregator_messages
from llama_index.packs.mixture_of_agents.agents.results import CrewResponse, TaskMissing
from llama_index.packs.mixture_of_agents.agents.speaking import Said, Speaker
from llama_index.packs.mixture_of_agents.agents.state import CrewState
from llama_index.packs.mixture_of_agents.errors import MixtureError
from llama_index.packs.mixture_of_agents.events import DeltaEvent
from llama_index.packs.mixture_of_agents.prompts import as_reference

Tell = Callable[[Event], None]


async def answer(setup: CrewSetup, state: CrewState, live: LiveCrew, tell: Tell) -> CrewResponse:
    """Write the answer.

    Args:
        setup: Who writes.
        state: What the run has come to.
        live: Its live side.
        tell: Writes an event to the run's stream.

    Raises:
        MixtureError: There are no results, and nobody could answer without.
    """
    failures: list[Said] = []
    # Without results nothing could be checked that is said.
    for writer in setup.writers if state.results or setup.check is None else ():
        said = await _written(writer, setup, state, tell)
        state = state.changed(spent=[*state.spent, said.usage])
        if not said.reason:
            return _response(state, live, said.text, writer.name, tell)
        failures.append(said)
        gone = TaskMissing(task="answer", agent=writer.name, reason=said.reason, status=said.status)
        state = state.changed(missing=[*state.missing, gone])
    if not state.results:
        reasons = "; ".join(str(gone) for gone in state.missing)
        causes = [said.error for said in failures if said.error is not None]
        raise MixtureError(f"Nobody of the crew had an answer. {reasons}", causes=causes)
    if len(state.results) == 1 and not failures:
        (only,) = state.results
        return _response(state, live, as_reference(only.text), only.agent, tell)
    results = state.ordered_results()
    worded = [one for one in results if one.is_worded]  # what a tool said word by word is no answer
    text = "\n\n".join(f"{one.agent} ({one.task}):\n{as_reference(one.text)}" for one in worded or results)
    return _response(state, live, text, "", tell)


async def _written(writer: Speaker, setup: CrewSetup, state: CrewState, tell: Tell) -> Said:
    failed = state.failed
    messages = aggregator_messages(
        state.request,
        state.history,
        state.plan,
        state.ordered_results(),
        failed,
        state.warnings,
        setup.material_characters,
    )
    tell(
        AggregateEvent(
            agent=writer.name,
            results=state.done,
            missing=[gone.task for gone in failed],
            warnings=len(state.warnings),
        )
    )
    if setup.check is None and setup.held_to is None:
        return await writer.stream(messages, lambda piece: tell(DeltaEvent(delta=piece)))
    if setup.held_to is None:
        said = await writer.say(messages)
    else:
        said = await say_held(writer, messages, setup.held_to, state.ordered_results())
    if said.reason or setup.check is None:
        return said
    return await checked(setup.check, said, _sources(state))


def _sources(state: CrewState) -> list[str]:
    """What an answer rests on."""
    results = (
        text for one in state.results for text in (one.text, *(seen.output for seen in one.observations))
    )
    return [*results, state.request]


def _response(state: CrewState, live: LiveCrew, text: str, writer: str, tell: Tell) -> CrewResponse:
    response = state.response(live, text=text, answered_by=writer)
    tell(AnswerEvent(text=text, agent=writer, usage=response.usage))
    return response
