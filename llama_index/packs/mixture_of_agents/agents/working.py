"""An agent at a task: it perceives, remembers, reasons, acts, observes, and has a result.

What its tools found is a result even where its model fails: then it is given as it was found, and that is
said. It raises nothing but a cancellation. Plans and other agents are not known here, beyond what is given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from llama_index.packs.mixture_of_agents.agents import prompts
from llama_index.packs.mixture_of_agents.agents.assignments import Assignment, Done
from llama_index.packs.mixture_of_agents.agents.board import Board, told
from llama_index.packs.mixture_of_agents.agents.events import (
    ActEvent,
    CrewEvent,
    ObserveEvent,
    PerceiveEvent,
    ReasonEvent,
)
from llama_index.packs.mixture_of_agents.agents.holding import checked, say_held
from llama_index.packs.mixture_of_agents.agents.injections import suspicions
from llama_index.packs.mixture_of_agents.agents.inner import inner_agent, reached_its_end
from llama_index.packs.mixture_of_agents.agents.results import (
    NOT_WORDED,
    Observation,
    Suspicion,
    TaskMissing,
    TaskResult,
)
from llama_index.packs.mixture_of_agents.agents.speaking import NOTHING_USED, Said, Speaker
from llama_index.packs.mixture_of_agents.agents.toolbox import Toolbox
from llama_index.packs.mixture_of_agents.calls.hearing import Moment, cut, heard_by
from llama_index.packs.mixture_of_agents.calls.retries import describe
from llama_index.packs.mixture_of_agents.calls.tasks import ended
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.results import Usage

_SHOWN = 2_000
"""Characters of a text in an event."""


async def carry_out(
    given: Assignment,
    board: Board,
    tell: Callable[[CrewEvent], None],
    max_retries: int,
    timeout: float | None,
    prices: Prices,
) -> Done:
    """Do a task.

    Args:
        given: The task.
        board: What the agents of the run share.
        tell: Told what is done as it happens.
        max_retries: Tries after the first, for a model's transient failures.
        timeout: Seconds for all of it; None for no limit.
        prices: Know what calls cost.
    """
    work = _Work(given, board, tell, max_retries, prices)
    began = time.monotonic()
    limit = timeout if given.member.timeout is None else given.member.timeout
    task = await ended(work.said(), limit)
    if not task.done() or task.cancelled():
        is_late = limit is not None and time.monotonic() - began > 0.9 * limit
        why = f"no result within its timeout of {limit:g} s" if is_late else "was cancelled from within"
        said = Said(reason=why)
    else:
        error = task.exception()
        said = task.result() if error is None else Said(reason=describe(error), error=error)
    return work.done(said, time.monotonic() - began)


class _Work:
    """One task being done."""

    def __init__(
        self,
        given: Assignment,
        board: Board,
        tell: Callable[[CrewEvent], None],
        max_retries: int,
        prices: Prices,
    ) -> None:
        self._given, self._task, self._member = given, given.task, given.member
        self._board, self._tell, self._max_retries, self._prices = board, tell, max_retries, prices
        self._at: dict[str, Any] = {"task": given.task.id, "agent": given.member.name}
        self._warnings: list[Suspicion] = []
        self._recollection, self._recalled = given.recollection.told_to(tell, self._at), 0
        self._history: list[ChatMessage] = []
        self._cut = ""
        self._usages: list[Usage] = []
        self._running: asyncio.Future[Any] | None = None
        extra = [*board.tools_for(self._member.name), *given.recollection.tools()]
        self._box = Toolbox(
            [*self._member.tools, *(extra if self._member.loops else [])],
            most_calls=self._member.max_tool_calls,
            seconds=self._member.tool_seconds,
            most_characters=self._member.tool_characters,
            acts=lambda tool, arguments: tell(ActEvent(**self._at, tool=tool, arguments=arguments)),
            observes=self._observe,
        )

    async def said(self) -> Said:
        """All of it, to what is said in the end."""
        parts = self._perceived()
        found = await self._looked()
        recalled = await self._recollection.recall(self._task_text())
        self._recalled = recalled.count
        for text in recalled.notes:
            self._suspect(text, f"a memory of {self._member.name}")
        notes = [("notes of earlier runs", "\n".join(recalled.notes))] if recalled.notes else []
        self._history = recalled.history
        said = await self._checked(await self._reason([*parts, *found, *notes]), [*parts, *notes])
        if said.text and not said.reason:
            await self._recollection.keep(self._task_text(), said.text)
        return said

    def done(self, said: Said, took: float) -> Done:
        """The record of what was said, or of what was found where nothing was."""
        observations = self._box.observations
        usage = Usage.total([*self._usages, said.usage])
        about: dict[str, Any] = {**self._at, "observations": observations, "usage": usage}
        found = [one for one in observations if not one.is_error]
        if said.reason and not found:
            missing = TaskMissing(**about, reason=self._cut or said.reason, status=said.status)
            return Done(missing, self._warnings)
        text, stopped = said.text, self._cut
        if said.reason:
            text, stopped = (
                _verbatim(found),
                "; ".join(filter(None, [stopped, f"{NOT_WORDED}: {said.reason}"])),
            )
        elif self._box.refused:
            stopped = stopped or f"all {self._member.max_tool_calls} tool calls were used"
        self._suspect(text, f"the result of {self._task.id} by {self._member.name}")
        record = TaskResult(**about, text=text, recalled=self._recalled, cut=stopped, latency_seconds=took)
        return Done(record, list(dict.fromkeys(self._warnings)))

    def _perceived(self) -> list[tuple[str, str]]:
        """What it is given: results it builds on, and what others wrote to it."""
        notes = self._board.unread(self._member.name)
        for note in notes:
            self._suspect(note.text, f"a note of {note.sender}")
        results = self._given.results
        tools = [use.tool for use in self._member.always]
        self._tell(
            PerceiveEvent(**self._at, results=[one.task for one in results], notes=len(notes), tools=tools)
        )
        parts = [(f"result of {one.task} by {one.agent}", as_reference(one.text)) for one in results]
        return [*parts, *([("notes of others", told(notes))] if notes else [])]

    async def _looked(self) -> list[tuple[str, str]]:
        """What the tools say that are always used first."""
        found = []
        for use in self._member.always:
            try:
                arguments = use.arguments_for(self._task.instructions)
            except Exception as error:
                self._box.note(Observation(tool=use.tool, output=describe(error), is_error=True))
                continue
            seen = await self._box.use(use.tool, arguments)
            failed = "failed: " if seen.is_error else ""
            found.append((f"output of {use.tool}", f"{failed}{seen.output}"))
        return found

    async def _checked(self, said: Said, parts: list[tuple[str, str]]) -> Said:
        """What was said, or why it cannot stand on what was found."""
        check = self._member.check
        seen = self._box.observations
        if check is None or said.reason or not seen:
            return said
        found = [one.output for one in seen if not one.is_error]
        if not found:
            return replace(said, reason=f"its words were set aside: nothing was found ({seen[-1].output})")
        return await checked(check, said, [*found, *(text for _, text in parts), self._task_text()])

    async def _reason(self, parts: list[tuple[str, str]]) -> Said:
        if self._member.loops:
            return await self._tool_loop(parts)
        if self._member.is_llm:
            return await self._worded(parts)
        return await self._of_agent(self._member.proposer, parts)

    async def _worded(self, parts: list[tuple[str, str]], note: str = "") -> Said:
        """What the model says to its task and what it is given, without calling tools."""
        speaker = Speaker(self._member.proposer, self._max_retries, self._prices)
        system = prompts.specialist_text(self._member.name, self._member.skills, self._member.role)
        material = self._material(parts, beside=[system])
        if self._box.observations:
            # What was found stands last: a small model says on from what it read last.
            lead, asked = [system], [self._task.instructions, material, note, prompts.TELL]
        else:
            lead, asked = [system, material], [self._task_text()]
        messages = [
            ChatMessage(role=MessageRole.SYSTEM, content="\n\n".join(filter(None, lead))),
            *self._history,
            _user("\n\n".join(filter(None, asked))),
        ]
        held_to = self._member.held_to
        if held_to is None:
            said = await speaker.say(messages)
        else:
            said = await say_held(speaker, messages, held_to, self._box.observations)
        if said.text:
            self._tell(ReasonEvent(**self._at, text=cut(said.text, _SHOWN)))
        return said

    async def _tool_loop(self, parts: list[tuple[str, str]]) -> Said:
        """What comes of model and tools taking turns; at the last turn the model says what it has."""
        agent = inner_agent(self._member, self._box.tools, prompts.specialist_text)
        said = await self._of_agent(Proposer(agent, name=self._member.name), parts)
        was_ended = said.error is not None and reached_its_end(said.error)
        if self._usages and (said.error is None or was_ended):
            said = replace(said, usage=NOTHING_USED)  # it is counted already, answer by answer
        if not was_ended:
            return said
        self._usages.append(said.usage)
        self._cut = f"stopped after {self._member.max_iterations} turns of model and tools"
        found = [(f"output of {one.tool}", one.output) for one in self._box.observations]
        return await self._worded([*parts, *found], prompts.SPENT)

    async def _of_agent(self, agent: Proposer, parts: list[tuple[str, str]]) -> Said:
        """What an agent says; it is stopped where it calls more tools than there are calls."""
        messages = [*self._history, _user(self._whole_task(parts))]
        with heard_by(self._hear):
            speaker = Speaker(agent, 0, self._prices)
            running = asyncio.ensure_future(speaker.say(messages))
        self._running = running
        try:
            return await running
        except asyncio.CancelledError:
            if not self._cut or not running.cancelled():
                running.cancel()
                raise
            return Said(reason=self._cut)

    def _hear(self, moment: Moment) -> None:
        if moment.kind == "reasons":
            self._tell(ReasonEvent(**self._at, text=cut(moment.text, _SHOWN)))
        elif moment.kind == "spends":
            if self._member.is_llm:
                self._usages.append(self._prices.priced(self._member.proposer.identity, moment.usage))
        elif self._member.is_llm:
            return  # the toolbox tells of its own tools, more exactly
        elif moment.kind == "observes":
            self._box.note(
                Observation(
                    tool=moment.tool,
                    arguments=dict(moment.arguments),
                    output=moment.text,
                    is_error=moment.is_error,
                )
            )
        elif self._box.begin(moment.tool, dict(moment.arguments)) and self._running is not None:
            self._cut = f"stopped after {self._member.max_tool_calls} tool calls"
            self._running.cancel()

    def _observe(self, observation: Observation) -> None:
        where = f"the output of {observation.tool} in {self._task.id}"
        found = self._suspect(observation.output, where)
        shown = observation.model_copy(update={"output": cut(observation.output, _SHOWN)})
        self._tell(ObserveEvent(**self._at, observation=shown, warnings=found))

    def _suspect(self, text: str, where: str) -> list[Suspicion]:
        found = suspicions(text, where)
        self._warnings += found
        return found

    def _material(self, parts: list[tuple[str, str]], beside: Sequence[str] = ()) -> str:
        return prompts.material_text(parts, self._given.absent, self._member.material_characters, beside)

    def _whole_task(self, parts: list[tuple[str, str]]) -> str:
        """The task and what is given with it, in one message: an agent has a system message of its own."""
        task = self._task_text()
        return "\n\n".join(filter(None, [self._material(parts, beside=[task]), task]))

    def _task_text(self) -> str:
        return prompts.task_text(self._task.instructions, self._given.request)


def _verbatim(found: Sequence[Observation]) -> str:
    return "\n\n".join(f"{one.tool}: {one.output}" for one in found)


def _user(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)
