"""Sampling settings, and the form in which each LLM class takes them.

Settings travel with the call and never change the caller's LLM object. Classes differ in how: some
honour keyword arguments of the call, some only their own fields (then a copy carries them), some nest
them. The table below is that knowledge; tests hold it against each class. This module makes no calls.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from llama_index.core.llms import CustomLLM
from llama_index.core.llms.llm import LLM

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """How to sample; None leaves what the level below says, at last the LLM's own.

    Attributes:
        temperature: Softmax temperature, >= 0.
        max_tokens: Longest answer, in tokens.
        seed: Seed of the sampler, where the model has one.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    def over(self, below: Sampling) -> Sampling:
        """These settings, and those of `below` where these say nothing."""
        return Sampling(
            temperature=below.temperature if self.temperature is None else self.temperature,
            max_tokens=below.max_tokens if self.max_tokens is None else self.max_tokens,
            seed=below.seed if self.seed is None else self.seed,
        )

    def given(self) -> dict[str, Any]:
        """The settings that say something."""
        return {name: value for name, value in vars(self).items() if value is not None}


def split_options(options: Mapping[str, Any]) -> tuple[Sampling, dict[str, Any]]:
    """The settings among the keyword arguments of a call, and the other arguments."""
    names = [field.name for field in fields(Sampling)]
    others = {name: value for name, value in options.items() if name not in names}
    return Sampling(**{name: options.get(name) for name in names}), others


@dataclass(frozen=True)
class ByKeyword:
    """A keyword argument of the call."""

    name: str


@dataclass(frozen=True)
class ByField:
    """A field of the LLM, set on a copy; or its other name, where `additional_kwargs` has that."""

    name: str
    other_name: str = ""


@dataclass(frozen=True)
class ByEntry:
    """An entry of the LLM's dictionary field, set on a copy."""

    name: str
    field: str = "additional_kwargs"


@dataclass(frozen=True)
class ByArgument:
    """An entry of a dictionary passed with the call."""

    name: str
    argument: str


Way = ByKeyword | ByField | ByEntry | ByArgument
Form = Mapping[str, Way]

FORMS: Mapping[str, Form] = {
    "OpenAI": {
        "temperature": ByField("temperature"),
        "max_tokens": ByField("max_tokens", other_name="max_completion_tokens"),
        "seed": ByEntry("seed"),
    },
    "OpenAIResponses": {"temperature": ByField("temperature"), "max_tokens": ByField("max_output_tokens")},
    "MistralAI": {
        "temperature": ByKeyword("temperature"),
        "max_tokens": ByKeyword("max_tokens"),
        "seed": ByKeyword("random_seed"),
    },
    "Anthropic": {"temperature": ByKeyword("temperature"), "max_tokens": ByKeyword("max_tokens")},
    "Ollama": {
        "temperature": ByField("temperature"),
        "max_tokens": ByEntry("num_predict"),
        "seed": ByEntry("seed"),
    },
    "GoogleGenAI": {
        "temperature": ByArgument("temperature", "generation_config"),
        "max_tokens": ByArgument("max_output_tokens", "generation_config"),
        "seed": ByArgument("seed", "generation_config"),
    },
    "HuggingFaceLLM": {
        "temperature": ByEntry("temperature", "generate_kwargs"),
        "max_tokens": ByField("max_new_tokens"),
    },
}
"""Name of an integration's class (searched along the class's ancestry) -> setting -> where it goes. No
entry for a setting: the class has no place for it, and it is left out."""

_ANY_KEYWORD: Form = {name: ByKeyword(name) for name in ("temperature", "max_tokens", "seed")}


def form_of(llm: LLM) -> Form:
    """The form an LLM takes its settings in; unknown classes by what their methods accept.

    A class whose methods take no keywords and that has the field gets it set on a copy, as the caller's
    object must stay as it is. So what such a class keeps track of in plain fields while it is called (a
    counter, say) the caller's object does not see; methods that take `**kwargs` are called on it.
    """
    for ancestor in integration_classes(llm):
        if ancestor in FORMS:
            return _without_refused(llm, FORMS[ancestor])
    if accepts_keywords(llm):
        return _ANY_KEYWORD
    return {name: ByField(name) for name in _ANY_KEYWORD if name in type(llm).model_fields}


def integration_classes(llm: LLM) -> list[str]:
    """The class's ancestry as far as it is LlamaIndex's own; anyone may name a class of theirs OpenAI."""
    return [cls.__name__ for cls in type(llm).__mro__ if cls.__module__.startswith("llama_index.llms.")]


def _without_refused(llm: LLM, form: Form) -> Form:
    return {name: way for name, way in form.items() if name != "temperature" or not refuses_temperature(llm)}


def refuses_temperature(llm: LLM) -> bool:
    """True for reasoning models whose API answers 400 to a temperature."""
    model = str(getattr(llm, "model", ""))
    lineage = integration_classes(llm)
    if {"OpenAI", "OpenAIResponses"}.intersection(lineage):
        from llama_index.llms.openai.utils import O1_MODELS

        return model in O1_MODELS
    if "Anthropic" in lineage:
        modules = (cls.__module__ for cls in type(llm).__mro__ if cls.__name__ == "Anthropic")
        module = sys.modules[next(name for name in modules if name.startswith("llama_index.llms."))]
        return any(name in model for name in getattr(module, "ANTHROPIC_NO_TEMP_MODELS", ()))
    return False


def accepts_keywords(llm: LLM) -> bool:
    """Whether keyword arguments of a chat call reach a method that takes any."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(llm).values())


def refused_keywords(llm: LLM, names: Iterable[str]) -> list[str]:
    """Those of the names that are no keyword argument of a chat call to this class."""
    if accepts_keywords(llm):
        return []
    return [name for name in names if name not in _parameters(llm)]


def _parameters(llm: LLM) -> Mapping[str, inspect.Parameter]:
    # CustomLLM.chat takes any keyword, but hands them on to the subclass's complete().
    method = type(llm).complete if definer(llm, "chat") is CustomLLM else type(llm).chat
    return inspect.signature(inspect.unwrap(method)).parameters


def definer(llm: LLM, method: str) -> type:
    """The class that a method comes from.

    Methods can't be compared for this: LlamaIndex wraps them, in a new object at each access.
    """
    return next(ancestor for ancestor in type(llm).__mro__ if method in vars(ancestor))


def settle(llm: LLM, sampling: Sampling) -> tuple[LLM, dict[str, Any]]:
    """Put the settings in the form this LLM takes.

    Args:
        llm: The caller's LLM; it is not changed.
        sampling: What to set.

    Returns:
        The LLM to call (itself, or a copy that carries fields: see `form_of`) and the call's keyword
        arguments.
        Settings the class has no place for are left out, with a warning in the log.
    """
    form = form_of(llm)
    updates: dict[str, Any] = {}
    call: dict[str, Any] = {}
    for setting, value in sampling.given().items():
        if setting in form:
            _place(llm, form[setting], value, updates, call)
        else:
            _logger.warning("%s takes no %s: left out", type(llm).__name__, setting)
    return (llm.model_copy(update=updates) if updates else llm), call


def _place(llm: LLM, way: Way, value: Any, updates: dict[str, Any], call: dict[str, Any]) -> None:
    if isinstance(way, ByKeyword):
        call[way.name] = value
    elif isinstance(way, ByArgument):
        call.setdefault(way.argument, {})[way.name] = value
    elif isinstance(way, ByEntry):
        held = updates.get(way.field, getattr(llm, way.field, None) or {})
        updates[way.field] = {**held, way.name: value}
    else:
        _place_field(llm, way, value, updates)


def _place_field(llm: LLM, way: ByField, value: Any, updates: dict[str, Any]) -> None:
    held = updates.get("additional_kwargs", getattr(llm, "additional_kwargs", None) or {})
    if way.other_name in held:
        updates[way.name] = None
        updates["additional_kwargs"] = {**held, way.other_name: value}
        return
    updates[way.name] = value
    if way.name in held:  # additional_kwargs win inside the class, so the old value has to go
        updates["additional_kwargs"] = {k: v for k, v in held.items() if k != way.name}
