"""From what people write to the one form that is checked: other names, short forms, unknown keys.

The LangChain sample's names mean the same as ours. A model may be a text, a budget a number, a trace `true`.
It checks no values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.config.faults import Place, place_shown, refused
from llama_index.packs.mixture_of_agents.config.plain_data import Table, plain
from llama_index.packs.mixture_of_agents.config.secrecy import refuse_secrets
from llama_index.packs.mixture_of_agents.config.tables import (
    BudgetConfig,
    FinishConfig,
    LimitsConfig,
    ModelConfig,
    PriceConfig,
    ProposerConfig,
    StopConfig,
    TraceConfig,
)

SYNONYMS: Mapping[str, str] = {
    "models_layer": "proposers",
    "model_roles": "role_writer",
    "aggregator_model": "aggregator",
    "layer": "num_layers",
    "layer_strategy": "strategy",
}
"""The names of the LangChain sample, and what we call the same."""


def shaped(given: Mapping[str, Any], fields: Collection[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Bring a configuration into its one form.

    Args:
        given: As written.
        fields: The names of a configuration's fields.

    Returns:
        The values by our names, and for each of our names the one that was written.

    Raises:
        RefusedError: A secret is in it, a key is unknown, one thing is said twice, or it is no plain data.
    """
    data = plain(given)
    refuse_secrets(data)
    _check_keys(data, (*fields, *SYNONYMS), ())
    values, written = _by_our_names(data)
    for name, shape in _SHAPES.items():
        if values.get(name) is not None:
            values[name] = shape(values[name], (written[name],))
    return values, written


def _by_our_names(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    for key, value in data.items():
        name = _meaning(key, value)
        if name in values and values[name] != value:
            raise refused(
                (key,), f" means the same as {written[name]}, and they differ; keep one of the two."
            )
        values.setdefault(name, value)
        written.setdefault(name, key)
    return values, written


def _meaning(key: str, value: object) -> str:
    # A list of models is who proposes; a table of models names them.
    if key == "models" and isinstance(value, (list, str)):
        return "proposers"
    return SYNONYMS.get(key, key)


def _check_keys(data: Mapping[str, Any], valid: Collection[str], place: Place) -> None:
    unknown = next((key for key in data if key not in valid), None)
    if unknown is None:
        return
    close = get_close_matches(unknown.lower().replace("-", "_"), valid, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(sorted(set(valid) - set(SYNONYMS)))
    raise refused((*place, unknown), f" is no key here.{hint} The keys are: {listed}.")


def _table(value: object, table: type[Table], place: Place, or_else: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refused(place, f" must be {or_else}; found {shown(value)}.")
    _check_keys(value, table.model_fields, place)
    lacking = [
        name for name, field in table.model_fields.items() if field.is_required() and name not in value
    ]
    if lacking:
        raise refused(place, f" lacks the key {' and '.join(map(repr, lacking))}; add it to this table.")
    return dict(value)


def _model(value: object, place: Place, table: type[ModelConfig] = ProposerConfig) -> dict[str, Any]:
    if isinstance(value, str):
        if not value.strip():
            raise refused(place, " must name a model; found an empty text.")
        return {"model": value}
    entry = _table(value, table, place, "a model's name, or a table with the key 'model'")
    settings = entry.get("settings")
    if isinstance(settings, dict) and "model" in settings:
        better = place_shown((*place, "model"))
        raise refused((*place, "settings", "model"), f" belongs one level up: write {better}.")
    return entry


def _rounds(value: object, place: Place) -> list[list[dict[str, Any]]]:
    """A list for each round; one list serves them all."""
    given = value if isinstance(value, list) else [value]
    if not any(isinstance(entry, list) for entry in given):
        return [[_model(entry, (*place, n)) for n, entry in enumerate(given)]] if given else []
    mixed = next((n for n, entry in enumerate(given) if not isinstance(entry, list) or not entry), None)
    if mixed is not None:
        raise refused(
            (*place, mixed), " must be a non-empty list: models for all rounds, or a list for each round."
        )
    return [
        [_model(entry, (*place, n, m)) for m, entry in enumerate(models)] for n, models in enumerate(given)
    ]


def _named(value: object, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refused(place, f" must be a table of models by name, or a list of them; found {shown(value)}.")
    return {name: _model(entry, (*place, name), ModelConfig) for name, entry in value.items()}


def _prices(value: object, place: Place) -> dict[str, Any]:
    example = "a table such as {input = 2.5, output = 10}, in USD per million tokens"
    if not isinstance(value, dict):
        raise refused(place, f" must be a table of prices by model; found {shown(value)}.")
    return {name: _table(entry, PriceConfig, (*place, name), example) for name, entry in value.items()}


def _limits(value: object, place: Place) -> dict[str, Any]:
    example = "a table such as {in_flight = 5, requests_per_minute = 60}"
    if not isinstance(value, dict):
        raise refused(place, f" must be a table of limits by class, model or proposer; found {shown(value)}.")
    return {name: _table(entry, LimitsConfig, (*place, name), example) for name, entry in value.items()}


def _kind(table: type[Table], words: str) -> Callable[[object, Place], dict[str, Any]]:
    def shape(value: object, place: Place) -> dict[str, Any]:
        if isinstance(value, str):
            return {"kind": value}
        return _table(value, table, place, words)

    return shape


def _budget(value: object, place: Place) -> dict[str, Any]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"usd": value}
    return _table(value, BudgetConfig, place, "a number of US dollars, or a table of limits")


def _trace(value: object, place: Place) -> dict[str, Any] | None:
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, str):
        return {"path": value}
    return _table(value, TraceConfig, place, "true, a path, or a table")


_SHAPES: Mapping[str, Callable[[Any, Place], Any]] = {
    "models": _named,
    "proposers": _rounds,
    "aggregator": _model,
    "role_writer": _model,
    "finish": _kind(FinishConfig, "a way to finish, or a table with 'kind' and its settings"),
    "stop_early": _kind(StopConfig, "'agreement', or a table with 'kind' and its settings"),
    "budget": _budget,
    "trace": _trace,
    "prices": _prices,
    "limits": _limits,
}
