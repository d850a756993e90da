"""A provider's class: imported on use, found by name where the table does not say it, and its arguments.

What is missing is said with the pip command. It makes no objects.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from llama_index.core.llms.llm import LLM
from pydantic import BaseModel

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers.names import ModelName
from llama_index.packs.mixture_of_agents.providers.table import Provider

_MODEL_ARGUMENTS = ("model", "model_name", "model_id", "model_path")
"""How LLM classes call the model's name, the usual one first."""


def class_of(model: ModelName, provider: Provider) -> Callable[..., Any]:
    """The class that serves a model, imported now.

    Raises:
        ConfigurationError: Its package is not installed, or holds no class that must be it.
    """
    module = _module_of(model, provider)
    if provider.class_name:
        found: Callable[..., Any] = getattr(module, provider.class_name)
        return found
    return _the_one(model, _llm_classes(module), module.__name__)


def _module_of(model: ModelName, provider: Provider) -> ModuleType:
    if not provider.package:
        return import_module(provider.module)
    try:
        return import_module(provider.module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{model} needs the package {provider.package} ({error}). Run: pip install {provider.package}"
        ) from error
    except Exception as error:  # half an installation fails in any way
        raise ConfigurationError(
            f"{model} needs the package {provider.package}, which cannot be imported ({error}). "
            f"Run: pip install --upgrade {provider.package}"
        ) from error


def _llm_classes(module: ModuleType) -> dict[str, type[LLM]]:
    """The LLM classes that are the module's own, not what it imports from another integration."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, LLM)
        and not name.startswith("_")
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
    }


def _the_one(model: ModelName, classes: dict[str, type[LLM]], module: str) -> type[LLM]:
    if len(classes) == 1:
        return next(iter(classes.values()))
    wanted = _letters(model.provider)
    for spelling in (wanted, f"{wanted}llm"):
        matching = [cls for name, cls in classes.items() if _letters(name) == spelling]
        if len(matching) == 1:
            return matching[0]
    found = f"several LLM classes: {', '.join(sorted(classes))}" if classes else "no LLM class"
    raise ConfigurationError(
        f"{model} cannot be used by its name: {module} holds {found}, none of them called like the provider. "
        "Make the object in Python and pass it to the pack."
    )


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def model_arguments(model: ModelName, provider: Provider, made_by: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that take the model's name.

    Raises:
        ConfigurationError: The class has none.
    """
    if provider.model_arguments:
        return provider.model_arguments
    accepted = arguments_of(made_by)
    if accepted is None:
        return ("model",)
    for name in _MODEL_ARGUMENTS:
        if name in accepted:
            return (name,)
    raise ConfigurationError(
        f"{model} cannot be used by its name: {getattr(made_by, '__name__', made_by)} takes no model's name. "
        "Make the object in Python and pass it to the pack."
    )


def arguments_of(made_by: Callable[..., Any]) -> frozenset[str] | None:
    """Names a class or function takes as arguments; None where it takes any.

    A constructor that hands on what it does not know takes what its ancestors take, at last the fields.
    """
    if not isinstance(made_by, type):
        named, takes_more = _named_parameters(made_by)
        return None if takes_more else named
    accepted: frozenset[str] = frozenset()
    for ancestor in made_by.__mro__:
        if ancestor is BaseModel:
            return accepted | frozenset(getattr(made_by, "model_fields", {}))
        if "__init__" not in vars(ancestor):
            continue
        named, takes_more = _named_parameters(vars(ancestor)["__init__"])
        accepted |= named - {"self"}
        if not takes_more:
            return accepted
    return accepted


def _named_parameters(function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """The names of a function's parameters, and whether it takes any others."""
    parameters = inspect.signature(function).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = frozenset(parameter.name for parameter in parameters if parameter.kind not in several)
    return named, any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
