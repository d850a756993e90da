"""From what a caller ordered to a crew over some data: data, analysis and charts. It asks no model.

The embedded model is too small to choose tools; its specialists look where `looking` says, and word what they
found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.llms.mock import MockLLM

from llama_index.packs.mixture_of_agents.agents import Crew, Member, Plan
from llama_index.packs.mixture_of_agents.agents.grounding import unfounded
from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
from llama_index.packs.mixture_of_agents.agents.specialists import (
    Specialist,
)
from llama_index.packs.mixture_of_agents.agents.tools.consent import Confirm
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.app.looking import astray, plan_for_each
from llama_index.packs.mixture_of_agents.app.sources import Looks, data_at, looks_at, specialists_over
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.providers import llm_named
from llama_index.packs.mixture_of_agents.records.trace import FOLDER, Trace

MOST_TASKS = 12
"""Of a plan; more is sent back to the planner."""
SECONDS = 600.0
_SECONDS_A_TASK = 180.0
_ANSWER_TOKENS, _WORD_TOKENS = 160, 60
_SMALL_ROLE = "Answer in one or two sentences, with the numbers that were found, the largest first."


@dataclass(frozen=True)
class CrewOrder:
    """What the caller wants of a crew.

    Attributes:
        data: A table file, a folder of such, or a SQLite file.
        models: Of the specialists, dealt in turn; empty for the embedded default.
        planner: Who plans; None for the first of the models.
        aggregator: Who answers; None for the planner.
        out: Where charts may be saved; None for nowhere.
        memory: The notebook that agents keep between runs; None for none.
        plan: A plan to carry out.
        plan_only: Make the plan and carry out nothing.
        yes: Ask nobody: plans are carried out, charts saved.
        timeout: Seconds for the run.
        as_json: Print one JSON document.
        trace: Write down what is done.
        trace_dir: Where to; None for the usual folder.
        redact: Without texts.
        progress: Show what goes on; None leaves it to the terminals.
    """

    data: Path
    models: tuple[str, ...] = ()
    planner: str | None = None
    aggregator: str | None = None
    out: Path | None = None
    memory: Path | None = None
    plan: Path | None = None
    plan_only: bool = False
    yes: bool = False
    timeout: float | None = None
    as_json: bool = False
    trace: bool = False
    trace_dir: Path | None = None
    redact: bool = False
    progress: bool | None = None


@dataclass(frozen=True)
class Consent:
    """Who is asked on the way; None for nobody.

    Attributes:
        plan: Before a plan is carried out: the plan, and who can be given tasks.
        write: Before a file is written.
    """

    plan: Callable[[Plan, Sequence[str]], Plan | bool] | None = None
    write: Confirm | None = None


def crew_for(
    order: CrewOrder, question: str, plan: Plan | None, consent: Consent, local: Callable[[], Any]
) -> Crew:
    """The crew the caller ordered; whatever cannot work is refused before a model is fetched or called.

    Args:
        order: What is wanted.
        question: What will be asked.
        plan: What will be carried out; None where the crew makes a plan.
        consent: Who is asked on the way.
        local: Makes the embedded default ready; called where no models are named.

    Raises:
        ConfigurationError: Something cannot work.
    """
    data = data_at(order.data)
    notebook = None if order.memory is None else Notebook(order.memory)
    out = None if order.out is None else _folder_made(order.out)
    specialists = specialists_over(data, out, consent.write)
    if order.models:
        return _checked(_crew_of_named(order, specialists, notebook, consent), plan)
    # What nobody can allow is not tried: the chart is looked at, and not saved.
    where = None if consent.write is None else out
    everyone = order.planner is not None or out is not None or plan is not None
    looks = looks_at(data, question, where, everyone=everyone)

    def crew(llm: Any) -> Crew:
        there = [one for one in specialists if one.name in looks.uses]
        members = [_small_member(one, llm, looks, notebook) for one in there]
        return _crew_of_small(order, members, llm, looks, consent)

    # One that says nothing stands in, so that all is checked before anything is fetched.
    _checked(crew(MockLLM()), plan)
    return crew(local())


def usual_plan(order: CrewOrder, question: str, crew: Crew) -> Plan | None:
    """The plan where the embedded model would have to make it; None where a planner can."""
    if order.models or order.planner is not None:
        return None
    return plan_for_each(question, list(crew.members))


def _checked(crew: Crew, plan: Plan | None) -> Crew:
    if plan is not None:
        crew.workflow.setup.check_plan(plan)
    return crew


def _folder_made(path: Path) -> DataFolder:
    try:
        path.expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--out {path} cannot be made a folder: {error.strerror}.") from error
    return DataFolder(path)


def _crew_of_named(
    order: CrewOrder, specialists: Sequence[Specialist], notebook: Notebook | None, consent: Consent
) -> Crew:
    llms = [llm_named(name) for name in order.models]
    # A person who is asked may take a while, and can end a run by hand.
    seconds = None if consent.plan is not None else SECONDS
    members = [
        Member.of(one, llms[number % len(llms)], memory=notebook) for number, one in enumerate(specialists)
    ]
    return Crew(
        members,
        _named(order.planner) or llms[0],
        _named(order.aggregator),
        max_tasks=MOST_TASKS,
        confirm=_asking(consent, members),
        timeout=seconds if order.timeout is None else order.timeout,
        task_timeout=None if consent.plan is not None else _SECONDS_A_TASK,
        trace=_trace(order),
    )


def _trace(order: CrewOrder) -> Trace | None:
    if order.plan_only or not order.trace:
        return None
    return Trace(folder=order.trace_dir or FOLDER, redact=order.redact)


def _named(model: str | None) -> Any:
    return None if model is None else llm_named(model)


def _crew_of_small(
    order: CrewOrder, members: Sequence[Member], llm: Any, looks: Looks, consent: Consent
) -> Crew:
    answers_itself = order.planner is None and order.aggregator is None
    return Crew(
        members,
        _named(order.planner) or _speaking(llm, _ANSWER_TOKENS),
        _named(order.aggregator),
        max_tasks=MOST_TASKS,
        confirm=_asking(consent, members),
        check=_true_to_what_was_found,
        held_to=_held_to(looks.sentences) if answers_itself else None,
        material_characters=1_200,
        # On one's own machine a run may take its time.
        timeout=order.timeout,
        task_timeout=None,
        trace=_trace(order),
    )


def _small_member(one: Specialist, llm: Any, looks: Looks, notebook: Notebook | None) -> Member:
    held_to = _held_to(looks.sentences) if one.name == "data" else None
    settings = {
        "held_to": held_to,
        "memory": notebook,
        "check": _true_to_what_was_found,
        "material_characters": 700,
        "role": _SMALL_ROLE,
    }
    longest = _ANSWER_TOKENS if held_to is not None else _WORD_TOKENS
    return Member.of(one, _speaking(llm, longest), always=looks.uses[one.name], **settings)


def _held_to(told: str | None) -> Callable[[Any], dict[str, str]] | None:
    """So small a model finds other words for what it was told, and other facts with them."""
    return None if told is None else lambda found: {"regex": told}


def _speaking(llm: Any, most: int) -> Proposer:
    """The likeliest words, and few: a small model that runs on repeats itself."""
    return Proposer(llm, temperature=0.0, seed=1, max_tokens=most)


def _asking(consent: Consent, members: Sequence[Member]) -> Callable[[Plan], Plan | bool] | None:
    decide, names = consent.plan, [member.name for member in members]
    return None if decide is None else lambda plan: decide(plan, names)


def _true_to_what_was_found(text: str, sources: Sequence[str]) -> str:
    strangers = unfounded(text, sources)
    return f"it names {strangers[0]}, which was not found" if strangers else astray(text, sources)
