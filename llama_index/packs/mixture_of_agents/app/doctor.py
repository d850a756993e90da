"""`moa doctor`: what is installed, which keys are set, and whether each model answers one token.

It asks all models at once, each within a time limit, and prints what `diagnosis` says of it. No key is ever
printed, nor passed on to anyone but its own provider.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents import providers
from llama_index.packs.mixture_of_agents.app import default_model
from llama_index.packs.mixture_of_agents.app.board import printable
from llama_index.packs.mixture_of_agents.app.choosing import view_for
from llama_index.packs.mixture_of_agents.app.diagnosis import (
    Diagnosis,
    Examination,
    Machine,
    document,
    explained,
    keys_without_model,
    lines,
    machine_lines,
)
from llama_index.packs.mixture_of_agents.calls.endpoint import LLMEndpoint
from llama_index.packs.mixture_of_agents.calls.retries import describe, is_transient, status_of
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.calls.threads import run_blocking
from llama_index.packs.mixture_of_agents.checks import seconds
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers.access import access
from llama_index.packs.mixture_of_agents.providers.integrations import INTEGRATIONS, has_module
from llama_index.packs.mixture_of_agents.providers.secrecy import without

_PACKAGES = (
    "llama-index-packs-mixture-of-agents",
    "llama-index-core",
    "llama-index-workflows",
    "torch",
    "transformers",
)
_QUESTION = "Say yes."
_CUT_TOO_SHORT = "output limit was reached"
"""What OpenAI's API answers, with a 400, when a reasoning model's thoughts alone pass the limit."""


@dataclass(frozen=True)
class Visit:
    """What the caller wants looked at.

    Attributes:
        models: Names of models; empty for one of each provider whose key is set.
        offline: Ask no model.
        timeout: Seconds for each answer.
        as_json: Print one JSON document.
    """

    models: tuple[str, ...] = ()
    offline: bool = False
    timeout: float = 20.0
    as_json: bool = False


def check_up(visit: Visit) -> bool:
    """Look, print what was found, and say whether all is well.

    Raises:
        ConfigurationError: A name is none, or the `.env` file cannot be read; nobody was asked.
    """
    seconds("timeout", visit.timeout)
    names = [providers.parse_model(name) for name in visit.models]
    view = view_for(as_json=visit.as_json)
    try:
        if not visit.offline:
            view.stage("Asking each model for one token")
        found = diagnosed(visit, names, providers.variables(), time.monotonic)
        view.begin(0)  # which ticks the stage off
    finally:
        view.close()
    _print(found, visit)
    return found.is_well


def diagnosed(
    visit: Visit,
    names: Sequence[providers.ModelName],
    env: providers.Variables,
    clock: Callable[[], float],
) -> Diagnosis:
    """Look at this machine and at the models.

    Args:
        visit: What the caller wants.
        names: The models; empty for one of each provider whose key is set.
        env: Variables that hold the keys.
        clock: Monotonic seconds.
    """
    chosen = list(names) or usual_models(env)
    prepared = [_prepared(name, env, visit.offline) for name in chosen]
    examined = run_blocking(_asked(prepared, env, visit.timeout, clock))
    notes = [] if names else _notes(chosen, env)
    return Diagnosis(_machine(env), tuple(examined), tuple(notes))


def usual_models(env: Mapping[str, str]) -> list[providers.ModelName]:
    """A small model of each provider whose key is set."""
    return [
        providers.ModelName(name, row.probe)
        for name, row in providers.PROVIDERS.items()
        if row.probe and any(env.get(variable, "").strip() for variable in row.keys)
    ]


def _notes(chosen: Sequence[providers.ModelName], env: Mapping[str, str]) -> list[str]:
    others = [
        (variable, name)
        for name in INTEGRATIONS
        if (variable := f"{name.upper().replace('-', '_')}_API_KEY") in env
    ]
    if chosen or others:
        return keys_without_model(others)
    looked_for = [variable for row in providers.PROVIDERS.values() for variable in row.keys]
    return [
        f"No key is set ({', '.join(looked_for)}). Set one, write it into a .env file here, or name a model: "
        "moa doctor ollama:MODEL"
    ]


def _prepared(
    model: providers.ModelName, env: providers.Variables, offline: bool
) -> tuple[Examination, LLM | None]:
    """What can be said of a model before it is asked, and the model, if it is to be."""
    row = providers.provider_of(model)
    key = providers.key_variable(model, row, env)
    seen = Examination(
        model=str(model),
        package=row.package,
        version=_version(row.package),
        key=key,
        key_source=env.source(key),
    )
    if row.package and not has_module(row.module):
        missing = replace(seen, version=None, problem=f"not installed. Run: pip install {row.package}")
        return missing, None
    try:
        access(model, row, env)
        # Classes nobody here knows, and those that read weights, may call somebody when they are made.
        if offline and (row.loads_at_once or model.provider not in providers.PROVIDERS):
            return seen, None
        llm = providers.llm_named(str(model), env=env)
    except ConfigurationError as error:
        return replace(seen, problem=str(error)), None
    return seen, None if offline else llm


async def _asked(
    prepared: Sequence[tuple[Examination, LLM | None]],
    env: Mapping[str, str],
    timeout: float,
    clock: Callable[[], float],
) -> list[Examination]:
    """Ask all of them at once."""

    async def one(seen: Examination, llm: LLM | None) -> Examination:
        return seen if llm is None else await _answered(seen, llm, env, timeout, clock)

    return list(await asyncio.gather(*(one(seen, llm) for seen, llm in prepared)))


async def _answered(
    seen: Examination, llm: LLM, env: Mapping[str, str], timeout: float, clock: Callable[[], float]
) -> Examination:
    began = clock()
    try:
        endpoint = LLMEndpoint(llm, Sampling(max_tokens=1))
        await asyncio.wait_for(endpoint.reply([ChatMessage(content=_QUESTION)], {}), timeout)
    except asyncio.TimeoutError:
        return replace(seen, problem=f"no answer within {timeout:g} s; check its address, or raise --timeout")
    except Exception as error:  # a client of anyone's, with errors of its own
        problem = _problem(error, seen, env)
        if problem:
            return replace(seen, problem=problem)
    return replace(seen, seconds=clock() - began)


def _problem(error: Exception, seen: Examination, env: Mapping[str, str]) -> str:
    """What an error means; empty where the model is well all the same."""
    said = describe(error)
    if _CUT_TOO_SHORT in said:
        return ""
    if seen.key:
        said = without(said, {seen.key: env[seen.key]})
    status = status_of(error)
    return explained(status, said, seen.key, is_unreachable=status is None and is_transient(error))


def _machine(env: providers.Variables) -> Machine:
    is_there, words = _default_model()
    return Machine(
        python=platform.python_version(),
        packages={name: _version(name) for name in _PACKAGES},
        default_model=words,
        has_default_model=is_there,
        dotenv=str(env.path) if env.path else "",
    )


def _default_model() -> tuple[bool, str]:
    """Whether the embedded default model is there, and in words."""
    try:
        default_model.require_libraries()
    except ConfigurationError as error:
        return False, str(error)
    release = default_model.SMOLLM2
    directory: Path = default_model.cache_folder() / release.folder / release.model_name
    if directory.is_dir() and default_model.is_whole(directory):
        return True, f"ready in {directory}"
    return False, "not made yet; the first moa demo or moa ask makes it (93 MB to fetch, 1.5 GB on disk)"


def _version(package: str) -> str | None:
    try:
        return version(package) if package else None
    except PackageNotFoundError:
        return None


def _print(found: Diagnosis, visit: Visit) -> None:
    if visit.as_json:
        sys.stdout.write(json.dumps(document(found), indent=2) + "\n")
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        sys.stdout.write("".join(f"{_one_line(line)}\n" for line in lines(found)))
    sys.stdout.flush()


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


def _print_table(found: Diagnosis) -> None:
    # Not at the top: JSON and plain lines need no Rich.
    from rich.console import Console
    from rich.text import Text

    from llama_index.packs.mixture_of_agents.app.diagnosis_table import table_of

    console = Console(highlight=False)
    for line in machine_lines(found.machine):
        console.print(Text(_one_line(line), style="dim"), soft_wrap=True)
    if found.models:
        console.print(table_of(found.models, is_unicode=console.encoding.startswith("utf")))
    # Whole lines: a command in them is there to be copied.
    for one in found.models:
        if one.problem:
            said = _one_line(one.problem)
            console.print(Text(f"{one.model}: ", style="bold").append(said, style="red"), soft_wrap=True)
    for note in found.notes:
        console.print(Text(_one_line(note)), soft_wrap=True)
