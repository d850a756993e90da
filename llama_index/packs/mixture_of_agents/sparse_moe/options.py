"""What a caller may set, checked before anything is computed.

Per-call options override the model's own. Plain values in, plain values out: no torch, no LlamaIndex.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ContextOverflowError
from llama_index.packs.mixture_of_agents.sparse_moe.checks import (
    is_number,
    require,
    require_count,
    require_one_of,
)
from llama_index.packs.mixture_of_agents.sparse_moe.requests import SamplingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

QUANTIZATIONS = (None, "int8")

DEVICE_DTYPES = ("auto", "float32", "bfloat16", "float16")

_SAMPLING_NAMES = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k_sampling": "top_k",
    "repetition_penalty": "repetition_penalty",
    "seed": "seed",
}
_LENGTH_NAMES = ("max_tokens", "max_new_tokens")
_GRAMMAR_NAMES = ("json_schema", "regex")
CALL_OPTIONS = (*_SAMPLING_NAMES, *_LENGTH_NAMES, "stop", "timeout", *_GRAMMAR_NAMES)
# LlamaIndex passes these along by itself; they ask for nothing as long as they are empty.
_EMPTY_PASSENGERS = ("tools", "tool_choice", "formatted")


@dataclass(frozen=True)
class CallSettings:
    """Everything one call needs beside its prompt.

    Args:
        sampling: How tokens are chosen.
        max_new_tokens: At most so many tokens are generated.
        batch_limit: The call starts only while fewer than so many others are being decoded.
        stops: Texts that end the answer and are not part of it.
        timeout: Seconds until the call is given up; None for no limit.
        json_schema: The answer is JSON of this schema; None for any text.
        regex: The answer matches this; None for any text.
        routing: How tokens go to experts.
        observe: Whether to count how they went.
    """

    sampling: SamplingSettings
    max_new_tokens: int
    batch_limit: int = 8
    stops: tuple[str, ...] = ()
    timeout: float | None = None
    json_schema: Mapping[str, Any] | None = None
    regex: str | None = None
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    observe: bool = True


def check_defaults(values: Mapping[str, Any]) -> None:
    """Check a model's own settings as if a call with them were made.

    Raises:
        ConfigurationError: One of them is not valid.
    """
    require_count("max_new_tokens", values["max_new_tokens"])
    require_count("max_batch_size", values["max_batch_size"])
    timeout = values["timeout"]
    valid = timeout is None or (is_number(timeout) and timeout > 0)
    require(valid, "timeout", timeout, "None or a number of seconds above 0")
    sampling_settings(values)
    stop_strings(values["stop"])
    check_quantization(values["quantize"])
    routing_settings(values)


def refuse_unknown(owner: str, settings: Mapping[str, object], valid: Collection[str]) -> None:
    """Refuse names that `owner` does not take.

    Raises:
        ConfigurationError: Lists them, and what is valid.
    """
    unknown = sorted(set(settings) - set(valid))
    if unknown:
        raise ConfigurationError(
            f"{owner} has no option {', '.join(unknown)}; beside its own it takes {', '.join(sorted(valid))}"
        )


def check_quantization(scheme: object) -> None:
    """Refuse what the weights cannot be brought to.

    Raises:
        ConfigurationError: int4, with the reason, or an unknown name.
    """
    if scheme == "int4":
        raise ConfigurationError(
            "quantize='int4' is not available yet: rounding to 16 steps in plain torch would be slower than "
            "int8 and visibly worse; it comes with kernels of its own. Use quantize='int8', or None"
        )
    require_one_of("quantize", scheme, QUANTIZATIONS)


def sampling_settings(values: Mapping[str, Any]) -> SamplingSettings:
    """Read the sampling options among a model's own.

    Raises:
        ConfigurationError: One of them is not valid.
    """
    own = ("temperature", "repetition_penalty", "seed")
    return SamplingSettings(**{name: values[name] for name in own})


def routing_settings(values: Mapping[str, Any]) -> RoutingSettings:
    """Read the routing options among a model's own.

    Without a capacity factor the other limits mean nothing, and are left at their defaults: who routes alike
    is then equal.

    Raises:
        ConfigurationError: One of them is not valid.
    """
    settings = RoutingSettings(**{field.name: values[field.name] for field in fields(RoutingSettings)})
    return settings if settings.limited else RoutingSettings(top_k=settings.top_k)


def resolve_call(defaults: CallSettings, overrides: Mapping[str, Any]) -> CallSettings:
    """Lay a call's keyword arguments over the model's own settings.

    Args:
        defaults: The model's own.
        overrides: The call's; None leaves what is below.

    Returns:
        The settings that hold for this call.

    Raises:
        ConfigurationError: An unknown name, or a value that is not valid.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    _refuse_unknown(given)
    sampling = {field: given[name] for name, field in _SAMPLING_NAMES.items() if name in given}
    _check_grammar(given)
    return replace(
        defaults,
        sampling=replace(defaults.sampling, **sampling),
        max_new_tokens=_answer_length(given, defaults.max_new_tokens),
        stops=defaults.stops + stop_strings(given.get("stop")),
        timeout=given.get("timeout", defaults.timeout),
        **{name: given[name] for name in _GRAMMAR_NAMES if name in given},
    )


def _check_grammar(given: Mapping[str, Any]) -> None:
    if all(name in given for name in _GRAMMAR_NAMES):
        raise ConfigurationError("json_schema and regex cannot both shape an answer; pass one of them")


# Where a schema holds further schemas: by name, in a list, or one.
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED_SCHEMAS = ("anyOf", "oneOf", "prefixItems")
_SINGLE_SCHEMAS = ("items", "additionalProperties", "contains")


def closed_schema(schema: Any) -> Any:
    """Forbid properties that a schema does not name, in all its objects that say nothing of others.

    JSON Schema allows them where nothing is said, and a small model goes on inventing some until its tokens
    are used up. Branches of an `allOf` are left open: closed, each would forbid what the others name.

    Args:
        schema: A JSON schema; left as it is.

    Returns:
        The closed schema.
    """
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for name in _NAMED_SCHEMAS:
        if isinstance(schema.get(name), dict):
            closed[name] = {key: closed_schema(value) for key, value in schema[name].items()}
    for name in _LISTED_SCHEMAS:
        if isinstance(schema.get(name), list):
            closed[name] = [closed_schema(item) for item in schema[name]]
    for name in _SINGLE_SCHEMAS:
        if name in schema:
            closed[name] = closed_schema(schema[name])
    if "properties" in schema and "allOf" not in schema:
        closed.setdefault("additionalProperties", False)
    return closed


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in CALL_OPTIONS or (name in _EMPTY_PASSENGERS and not value):
            continue
        if name == "top_k":
            raise ConfigurationError(
                "top_k is the number of experts per token and belongs to the constructor; "
                "for sampling from the most likely tokens pass top_k_sampling"
            )
        raise ConfigurationError(
            f"{name}={value!r} is not an option of a call to SparseMoELLM; valid: {', '.join(CALL_OPTIONS)}"
        )


def _answer_length(given: Mapping[str, Any], default: int) -> int:
    values = {given[name] for name in _LENGTH_NAMES if name in given}
    if len(values) > 1:
        raise ConfigurationError(
            f"max_tokens={given['max_tokens']!r} and max_new_tokens={given['max_new_tokens']!r} mean the "
            "same and disagree; pass one of them"
        )
    value: int = values.pop() if values else default
    require_count("max_new_tokens", value)
    return value


def stop_strings(stop: object) -> tuple[str, ...]:
    """Read `stop`: None, one text, or a list of texts.

    Raises:
        ConfigurationError: Anything else, or an empty text (which would stop every answer at once).
    """
    if stop is None:
        return ()
    stops = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, list | tuple) or not all(isinstance(item, str) and item for item in stops):
        raise ConfigurationError(
            f"stop={stop!r} is not valid; it must be a text or a list of texts, none empty"
        )
    return tuple(stops)


def check_room(prompt_tokens: int, max_new_tokens: int, context_window: int) -> None:
    """Refuse a prompt that leaves no room for its answer.

    Raises:
        ContextOverflowError: Says by how many tokens, and what would fit.
    """
    excess = prompt_tokens + max_new_tokens - context_window
    if excess <= 0:
        return
    room = context_window - prompt_tokens
    remedy = f"set max_tokens to at most {room}, or shorten the prompt" if room > 0 else "shorten the prompt"
    raise ContextOverflowError(
        f"{prompt_tokens} prompt tokens and an answer of {max_new_tokens} exceed the context window of "
        f"{context_window} by {excess} tokens; {remedy}"
    )
