"""From what a caller ordered to a crew over some data: data, analysis and charts. It asks no model.

A database has no table files, so its crew does without the analyst: SQL is asked instead. The embedded model
is too small to choose tools; its specialists look where `looking` says, and word what they found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from llama_index.core.llms.mock import MockLLM

from llama_index.packs.mixture_of_agents.agents import Crew, Member, Plan, ToolUse
from llama_index.packs.mixture_of_agents.agents.grounding import grounded
from llama_index.packs.mixture_of_agents.agents.memory_notebook import Notebook
from llama_index.packs.mixture_of_agents.agents.specialists import (
    Specialist,
    analysis_specialist,
    data_specialist,
    visualisation_specialist,
)
from llama_index.packs.mixture_of_agents.agents.tools import cleaning, csv_tables
from llama_index.packs.mixture_of_agents.agents.tools.consent import Confirm
from llama_index.packs.mixture_of_agents.agents.tools.database import CsvFolder, Source, SqliteFile, select
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.frames import ENDINGS, polars
from llama_index.packs.mixture_of_agents.agents.tools.rows import Limits
from llama_index.packs.mixture_of_agents.app.looking import Look, astray, look_for, one_for_each
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.providers import llm_named

MOST_TASKS = 12
"""Of a plan; more is sent back to the planner."""
_SECONDS = 600.0
"""For a run, unless it is said."""
_SECONDS_A_TASK = 180.0
_LIMITS = Limits()


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
    progress: bool | None = None


@dataclass(frozen=True)
class Data:
    """What a crew looks at.

    Attributes:
        source: To be asked in SQL; None where no file is of that kind.
        folder: Of its table files; a database has none.
    """

    source: Source | None
    folder: DataFolder

    @property
    def files(self) -> list[str]:
        """Its table files."""
        return self.folder.files(ENDINGS)


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
    looks = looks_at(data, question, out)

    def crew(llm: Any) -> Crew:
        return _crew_of_small(order, specialists, looks, llm, notebook, consent)

    # One that says nothing stands in, so that all is checked before anything is fetched.
    _checked(crew(MockLLM()), plan)
    return crew(local())


def _checked(crew: Crew, plan: Plan | None) -> Crew:
    if plan is not None:
        crew.workflow.setup.check_plan(plan)
    return crew


def data_at(path: Path) -> Data:
    """The data somebody named.

    Raises:
        ConfigurationError: There is none, or it is of another kind.
    """
    path = path.expanduser().resolve()
    if path.is_dir():
        return _table_files(DataFolder(path), path)
    if path.suffix.lower() in ENDINGS and path.is_file():
        # Only the file that was named: its neighbours are none of the agents' business.
        return _table_files(DataFolder(path.parent, only=[path.name]), path)
    try:
        return Data(SqliteFile(path), DataFolder(path.parent, only=()))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"--data cannot be used: {error}. It takes a table file ({', '.join(ENDINGS)}), a folder of "
            "such, or a SQLite file."
        ) from error


def _table_files(folder: DataFolder, path: Path) -> Data:
    if not folder.files(ENDINGS, most=1):
        raise ConfigurationError(f"--data {path.name} holds no table file: {', '.join(ENDINGS)}.")
    polars()
    return Data(CsvFolder(folder) if folder.files(csv_tables.ENDINGS, most=1) else None, folder)


def _folder_made(path: Path) -> DataFolder:
    try:
        path.expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--out {path} cannot be made a folder: {error.strerror}.") from error
    return DataFolder(path)


def specialists_over(data: Data, out: DataFolder | None, confirm: Confirm | None) -> list[Specialist]:
    """Who can work on data: those of the three for whom there is something."""
    there: list[Specialist] = []
    if data.source is not None:
        there.append(data_specialist(data.source, folder=out, confirm=confirm))
    if data.files:
        there.append(analysis_specialist(data.folder))
    artist = visualisation_specialist(data.folder, confirm=confirm, out=out)
    if out is None:
        kept = [tool for tool in artist.tools if tool.metadata.name != "save_chart"]
        artist = replace(artist, tools=tuple(kept))
    return [*there, artist]


def looks_at(data: Data, question: str, out: DataFolder | None) -> dict[str, list[ToolUse]]:
    """What each specialist looks at before it says a word, where its model cannot choose; the data is read.

    Raises:
        ConfigurationError: The data cannot be read.
    """
    looks: dict[str, list[ToolUse]] = {}
    if data.source is not None:
        try:
            names = cleaning.tables(data.source, _LIMITS)
            look = look_for(question, {name: cleaning.columns(data.source, name, _LIMITS) for name in names})
            if look is not None:
                looks["data"] = [ToolUse("list_tables"), ToolUse("query", {"sql": look.sql})]
                looks |= _chart_of(look, data.source, out)
        except ToolError as error:
            raise ConfigurationError(f"--data cannot be read: {error}.") from error
    if data.files:
        looks["analysis"] = [ToolUse("describe", {"file": data.files[0]})]
    return looks


def _chart_of(look: Look, source: Source, out: DataFolder | None) -> dict[str, list[ToolUse]]:
    if look.along is None:
        return {}
    found = select(source, look.sql, _LIMITS)
    chart = {
        "kind": "bar",
        "x": look.along,
        "y": look.name,
        "title": f"{look.name} by {look.along}",
        "rows": [dict(zip(found.columns, row, strict=True)) for row in found.rows],
    }
    if out is None:
        return {"visualisation": [ToolUse("make_chart", {"chart": chart})]}
    return {"visualisation": [ToolUse("save_chart", {"chart": chart, "save_as": _free_name(out)})]}


def _free_name(out: DataFolder) -> str:
    ending = ".json" if find_spec("matplotlib") is None else ".png"
    names = (f"chart{'' if number == 1 else f'-{number}'}{ending}" for number in count(1))
    return next(name for name in names if not (out.path / name).exists())


def _crew_of_named(
    order: CrewOrder, specialists: Sequence[Specialist], notebook: Notebook | None, consent: Consent
) -> Crew:
    llms = [llm_named(name) for name in order.models]
    members = [
        Member.of(one, llms[number % len(llms)], memory=notebook) for number, one in enumerate(specialists)
    ]
    return Crew(
        members,
        _named(order.planner) or llms[0],
        _named(order.aggregator),
        max_tasks=MOST_TASKS,
        confirm=_asking(consent, members),
        timeout=_SECONDS if order.timeout is None else order.timeout,
        # Whoever is asked before a file is written may take a while.
        task_timeout=_SECONDS_A_TASK if consent.plan is None else None,
    )


def _named(model: str | None) -> Any:
    return None if model is None else llm_named(model)


def _crew_of_small(
    order: CrewOrder,
    specialists: Sequence[Specialist],
    looks: Mapping[str, list[ToolUse]],
    llm: Any,
    notebook: Notebook | None,
    consent: Consent,
) -> Crew:
    def speaking(most: int) -> Proposer:
        return Proposer(llm, temperature=0.0, seed=1, max_tokens=most)

    members = [
        Member.of(
            one,
            speaking(90),
            always=looks[one.name],
            memory=notebook,
            check=_grounded,
            material_characters=700,
        )
        for one in specialists
        if one.name in looks
    ]
    asking, skills = _asking(consent, members), {member.name: member.skills for member in members}

    def confirm(plan: Plan) -> Plan | bool:
        made = plan if plan.source == "given" else one_for_each(plan, skills)
        return made if asking is None else asking(made)

    return Crew(
        members,
        _named(order.planner) or speaking(200),
        _named(order.aggregator),
        max_tasks=MOST_TASKS,
        confirm=confirm,
        check=_grounded,
        material_characters=1_200,
        # On one's own machine a run may take its time.
        timeout=order.timeout,
        task_timeout=None,
    )


def _asking(consent: Consent, members: Sequence[Member]) -> Callable[[Plan], Plan | bool] | None:
    decide, names = consent.plan, [member.name for member in members]
    return None if decide is None else lambda plan: decide(plan, names)


def _grounded(text: str, sources: Sequence[str]) -> str:
    return grounded(text, sources) or astray(text, sources)
