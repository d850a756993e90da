"""Asking a crew once from the command line: its plan, what it does, its answer.

It knows the crew's events and the streams they are told to; what a crew is made of, `mustering` knows.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TextIO

from workflows.events import Event

from llama_index.packs.mixture_of_agents.agents import Crew, CrewResponse, Plan
from llama_index.packs.mixture_of_agents.agents.events import AnswerEvent, PlanEvent, ReasonEvent
from llama_index.packs.mixture_of_agents.agents.narration import told
from llama_index.packs.mixture_of_agents.app.asking import document
from llama_index.packs.mixture_of_agents.app.board import count, degraded_note, printable, summary
from llama_index.packs.mixture_of_agents.app.choosing import kind_here, view_for
from llama_index.packs.mixture_of_agents.app.consenting import Asker, in_editor, line_from_terminal, plan_in
from llama_index.packs.mixture_of_agents.app.mustering import (
    MOST_TASKS,
    SECONDS,
    Consent,
    CrewOrder,
    crew_for,
    usual_plan,
)
from llama_index.packs.mixture_of_agents.app.ordering import local_model
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.errors import (
    ConfigurationError,
    CrewTimeoutError,
    MixtureError,
    PlanRejectedError,
)
from llama_index.packs.mixture_of_agents.runs.live_run import conversation


def ask(question: str, order: CrewOrder) -> None:
    """Ask, show, and print the answer, or the plan where only that is wanted.

    Raises:
        ConfigurationError: Something cannot work; no model was called.
        PlanRejectedError: Whoever was shown the plan said no.
        MixtureError: Nobody had an answer.
    """
    conversation(question, None)
    plan = None if order.plan is None else _plan_at(order.plan)
    asker = _asker(order)
    if order.plan_only:
        made = _planned(question, order, plan)
        _write(document(made.model_dump()) if order.as_json else made.as_text())
        return
    consent = _consent(order, asker)
    crew = _ready(question, order, plan, consent)
    plan = plan or usual_plan(order, question, crew)
    if order.out is not None and consent.write is None:
        note("Nothing is saved where nobody can be asked; --yes saves.")
    # Thoughts come word by word, and whoever is asked sees the plan with the question.
    hidden = (AnswerEvent, ReasonEvent, *(() if asker is None else (PlanEvent,)))
    shown = _stream(order)
    try:
        response = asyncio.run(_followed(crew, question, plan, shown, hidden))
    except CrewTimeoutError as error:
        raise MixtureError(
            f"There was no answer after {order.timeout or SECONDS:g} s. Give it more with --timeout; "
            "`moa trace show` tells how far it came."
        ) from error
    text = printable(response.text) if sys.stdout.isatty() else response.text
    # Among lines of progress, the answer stands apart; in a pipe it stands alone.
    apart = "\n" if shown is sys.stdout else ""
    _write(document(response.to_dict()) if order.as_json else f"{apart}{text}{apart}")
    _tell(shown, summary(response, len(response.results), "task"))
    _say_what_is_amiss(response)


def _ready(question: str, order: CrewOrder, plan: Plan | None, consent: Consent) -> Crew:
    """The crew, the embedded model made ready under a view's eyes where it is wanted."""
    view = view_for(as_json=order.as_json, progress=order.progress)

    try:
        crew = crew_for(order, question, plan, consent, lambda: local_model(view, words_facts=True))
        view.begin(0)  # which ticks preparations off
        return crew
    finally:
        view.close()


def _asker(order: CrewOrder) -> Asker | None:
    """Whoever sits at the terminal, where someone does and is to be asked."""
    asks = not (order.yes or order.as_json or order.plan_only)
    if not (asks and sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return Asker(MOST_TASKS, sys.stdout, line_from_terminal, in_editor)


def _consent(order: CrewOrder, asker: Asker | None) -> Consent:
    if order.yes:
        return Consent(write=lambda what: True)
    return Consent() if asker is None else Consent(asker.decide, asker.allow)


def _stream(order: CrewOrder) -> TextIO | None:
    """Where the crew's work is told: never among what a pipe is to get."""
    kind = kind_here(as_json=order.as_json, progress=order.progress)
    return {"screen": sys.stdout, "lines": sys.stderr}.get(kind)


def _planned(question: str, order: CrewOrder, plan: Plan | None) -> Plan:
    """The plan that would be carried out; this crew's confirmation keeps it and says no."""
    kept: list[Plan] = []

    def keep(made: Plan, agents: Sequence[str]) -> bool:
        kept.append(made)
        return False

    crew = _ready(question, order, plan, Consent(keep))
    with suppress(PlanRejectedError):
        asyncio.run(crew.arun(question, plan=plan or usual_plan(order, question, crew)))
    return kept[0]


async def _followed(
    crew: Crew, question: str, plan: Plan | None, out: TextIO | None, hidden: tuple[type[Event], ...]
) -> CrewResponse:
    async with aclosing(crew.astream(question, plan=plan)) as items:
        async for item in items:
            if isinstance(item, CrewResponse):
                return item
            if not isinstance(item, hidden):
                _tell(out, told(item))
    raise MixtureError("The run ended without an answer.")


def _tell(out: TextIO | None, line: str) -> None:
    if out is not None and line:
        out.write(f"{line}\n")
        out.flush()


def _plan_at(path: Path) -> Plan:
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"--plan {path} cannot be read ({error}); `moa crew ... --plan-only --json` prints a plan."
        ) from error
    return plan_in(text, f"--plan {path}")


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _say_what_is_amiss(response: CrewResponse) -> None:
    if response.missing:
        note(degraded_note(response.missing))
    cut = [f"{one.agent}, {one.task}: {printable(one.cut)}" for one in response.results if one.cut]
    if cut:
        note(f"Not all that was wanted: {'; '.join(cut)}")
    if response.warnings:
        found = count(len(response.warnings), "text")
        note(f"{found} looked like orders to a model, such as {printable(str(response.warnings[0]))}")
