"""Configurations from the command line: begun, checked without any call, and shown with their defaults.

What a configuration may hold is not known here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from llama_index.core.embeddings import MockEmbedding
from llama_index.core.llms.mock import MockLLM

from llama_index.packs.mixture_of_agents.app.board import printable
from llama_index.packs.mixture_of_agents.app.starter import FORMATS, starter
from llama_index.packs.mixture_of_agents.config import (
    NAMES,
    MixtureConfig,
    ModelConfig,
    find_config,
    load_config,
)
from llama_index.packs.mixture_of_agents.config.aliases import resolved
from llama_index.packs.mixture_of_agents.config.building import near
from llama_index.packs.mixture_of_agents.config.embedding import embedding_class
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import (
    key_variable,
    llm_named,
    parse_model,
    provider_of,
    variables,
)
from llama_index.packs.mixture_of_agents.providers.access import access
from llama_index.packs.mixture_of_agents.providers.classes import class_of
from llama_index.packs.mixture_of_agents.providers.variables import StandInKeys, source_of


@dataclass(frozen=True)
class Finding:
    """What is known of a model before it is asked.

    Attributes:
        model: Its name, with the provider.
        places: Where the configuration names it.
        found: How it is reached.
        fault: Why it cannot be asked; empty if it can.
    """

    model: str
    places: tuple[str, ...]
    found: str
    fault: str = ""


def configuration_file(named: Path | None) -> Path:
    """The file that is named, or the one in the current folder.

    Raises:
        ConfigurationError: There is none, or there are several.
    """
    found = named or find_config()
    if found is None:
        raise ConfigurationError(
            f"There is no configuration here ({', '.join(NAMES)}). Name a file, or write one with: "
            "moa config init"
        )
    return found


def begin(path: Path | None, form: str | None, *, force: bool) -> None:
    """Write a configuration to begin with.

    Args:
        path: Where to; by default moa.toml or moa.yaml here.
        form: "toml" or "yaml"; by default what the path's ending says.
        force: Replace a file that is there.

    Raises:
        ConfigurationError: A file is there, or it cannot be written.
    """
    form = _form(path, form)
    target = path or Path(f"moa.{form}")
    try:
        with target.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(starter(form, target.name))
    except FileExistsError as error:
        raise ConfigurationError(f"{target} is there already. --force replaces it.") from error
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror or error}.") from error
    _say(f"{target} is written. Name your models in it, then: moa config check {target}")


def _form(path: Path | None, form: str | None) -> str:
    ending = "" if path is None else path.suffix.lower().removeprefix(".").replace("yml", "yaml")
    form = form or ending or FORMATS[0]
    if form not in FORMATS:
        raise ConfigurationError(f"A configuration is written as {' or '.join(FORMATS)}; found {form!r}.")
    if path is not None and ending != form:
        raise ConfigurationError(
            f"{path} would not be read as {form}: let its name end in .{form}, or leave --format out."
        )
    return form


def check(path: Path | None) -> None:
    """Say whether a configuration could be asked: its values, its models, their packages and keys.

    No call is made, and no model of this machine is loaded.

    Raises:
        ConfigurationError: Something cannot work.
    """
    file = configuration_file(path)
    config = load_config(file)
    local = not config.proposers and config.num_layers > 1
    # Where the embedded model proposes, it does so in three roles.
    _check_options(config.updated(proposers=["local"] * 3) if local else config, file)
    models = _models_of(config)
    findings = [_hinted(finding_of(entry, places), config) for entry, places in models]
    if not (local or any(finding.fault for finding in findings) or any(_loads(m) for m, _ in models)):
        _check_names(config, file)
    if config.stop_early is not None and config.stop_early.embed_model is not None:
        findings.append(_embedding_found(config.stop_early.embed_model))
    if local:
        findings.insert(0, Finding("the embedded local model", ("proposers",), "as none is named"))
    _tell(file, config, findings)
    faults = [finding for finding in findings if finding.fault]
    if faults:
        raise ConfigurationError(
            f"{len(faults)} of {len(findings)} models cannot be asked as things are; see above."
        )


def _check_options(config: MixtureConfig, file: Path) -> None:
    """Build it once of models that say nothing, so that its own refusals are heard."""
    nameless = config.updated(gate=None, limits={})
    _build(nameless, lambda name, *, settings: MockLLM(), file)


def _check_names(config: MixtureConfig, file: Path) -> None:
    """Whether its gate and its limits know those who are asked; no key is needed for that."""
    if config.gate is not None or config.limits:
        _build(config, partial(llm_named, env=StandInKeys(variables())), file)


def _loads(entry: ModelConfig) -> bool:
    """Whether making it reads a model's weights."""
    return provider_of(parse_model(entry.model)).loads_at_once


def _build(config: MixtureConfig, llm_for: Any, file: Path) -> None:
    try:
        config.pack(llm_for, embed_for=lambda name: MockEmbedding(embed_dim=2))
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def _models_of(config: MixtureConfig) -> list[tuple[ModelConfig, tuple[str, ...]]]:
    """Every model a run would ask, once, and where it is named."""
    rounds = config.proposers
    named: list[tuple[str, ModelConfig]] = []
    for number, entries in enumerate(rounds):
        before = "proposers" if len(rounds) == 1 else f"proposers[{number}]"
        named += [(f"{before}[{index}]", entry) for index, entry in enumerate(entries)]
    named += [
        (place, entry)
        for place, entry in (("aggregator", config.aggregator), ("role_writer", config.role_writer))
        if entry is not None
    ]
    found: dict[str, tuple[ModelConfig, tuple[str, ...]]] = {}
    for place, entry in named:
        model = resolved(ModelConfig(model=entry.model, settings=entry.settings), config.models)
        key = json.dumps([model.model, model.settings], sort_keys=True)
        found[key] = (model, (*found.get(key, (model, ()))[1], place))
    return list(found.values())


def finding_of(entry: ModelConfig, places: tuple[str, ...]) -> Finding:
    """What is known of a model without asking it."""
    try:
        model = parse_model(entry.model)
        provider = provider_of(model)
        env = variables()
        access(model, provider, env)
        class_name = getattr(class_of(model, provider), "__name__", model.provider)
        if not provider.loads_at_once:
            llm_named(entry.model, settings=entry.settings, env=env)
    except ConfigurationError as error:
        return Finding(entry.model, places, "", str(error))
    key = key_variable(model, provider, env)
    held = f", key {key} from {source_of(key, env)}" if key else ", no key needed"
    return Finding(str(model), places, f"{model.provider}: {class_name}{held}")


def _hinted(finding: Finding, config: MixtureConfig) -> Finding:
    """A fault may be a slip in a name of the caller's own."""
    close = near(finding.model, config.models) if finding.fault else None
    if close is None:
        return finding
    return replace(finding, fault=f"{finding.fault} Or did you mean {close!r}, which is in models?")


def _embedding_found(name: str) -> Finding:
    places = ("stop_early.embed_model",)
    try:
        return Finding(name, places, embedding_class(name).__name__)
    except ConfigurationError as error:
        return Finding(name, places, "", str(error))


def _tell(file: Path, config: MixtureConfig, findings: list[Finding]) -> None:
    state = "not ready" if any(finding.fault for finding in findings) else "ok"
    rounds = config.num_layers - 1
    counted = f"{rounds} round{'' if rounds == 1 else 's'} of proposers"
    _say(f"{file}: {state}. {counted}, strategy {config.strategy}, finish {config.finish.kind}.")
    rows = [
        (
            "missing" if finding.fault else "ready",
            finding.model,
            ", ".join(finding.places),
            finding.fault or finding.found,
        )
        for finding in findings
    ]
    _columns(("", "model", "as", "how"), rows, strong=[finding.fault != "" for finding in findings])


def show(path: Path | None, *, as_json: bool) -> None:
    """Show every value in force, and which of them the file sets.

    Raises:
        ConfigurationError: Something in it cannot work.
    """
    file = configuration_file(path)
    config = load_config(file)
    values = config.described(full=True)
    if as_json:
        shown = {"file": str(file), "values": values, "set": sorted(config.was_set)}
        _say(json.dumps(shown, indent=2, ensure_ascii=True))
        return
    rows = [
        (key, _value(value), "set" if key in config.was_set else "default") for key, value in values.items()
    ]
    _columns(("key", "value", "from"), rows, strong=[key in config.was_set for key in values])


def _value(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], strong: Sequence[bool]) -> None:
    """Rows in columns: drawn on a terminal, in plain text for a pipe."""
    if sys.stdout.isatty():
        _draw(head, rows, strong)
        return
    widths = [max(len(row[n]) for row in rows) for n in range(len(head) - 1)] if rows else []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        _say("  ".join([*cells, row[-1]]).rstrip())


def _draw(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], strong: Sequence[bool]) -> None:
    # Not at the top: a pipe needs no Rich.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, header_style="dim")
    for row, stands_out in zip(rows, strong, strict=True):
        # As Text, so that brackets in a role are not taken for markup.
        table.add_row(*(Text(printable(cell)) for cell in row), style="bold" if stands_out else "dim")
    Console(highlight=False).print(table)


def _say(text: str) -> None:
    sys.stdout.write(f"{printable(text) if sys.stdout.isatty() else text}\n")
    sys.stdout.flush()
