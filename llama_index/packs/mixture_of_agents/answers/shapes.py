"""Asking a model for an answer in a shape, and reading it back however it came.

A model that calls functions gets the shape as a tool, through LlamaIndex's own preparation; one that holds
its text to a JSON schema gets the schema; any other gets nothing but what the prompt says. What comes back is
read from the tool call, or tolerantly from the text. What a shape is for is not known here.
"""

from __future__ import annotations

import ast
import inspect
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, get_args, get_origin

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms.function_calling import FunctionCallingLLM
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from llama_index.packs.mixture_of_agents.prompts import as_reference, tool_calls_of

Shape = TypeVar("Shape", bound=BaseModel)
_logger = logging.getLogger(__name__)

_LONGEST = 50_000
"""Characters of a text that are read: a shape is small, and a hostile text must not take long."""
_MOST_BEGINNINGS = 50

_STRING = r'"(?:[^"\\]|\\.)*(?:"|\Z)'
_OPENING = re.compile(r"[\[{]")
_BRACKET = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_REPAIRABLE = re.compile(rf"(?P<string>{_STRING})|,(?=\s*[\]}}])", re.DOTALL)


def shaped_request(
    model: Any, messages: Sequence[ChatMessage], shape: type[BaseModel]
) -> tuple[list[ChatMessage], dict[str, Any]]:
    """What to send for an answer in that shape: the messages, and the call's options.

    Args:
        model: An LLM, or anything else, which gets the messages as they are.
        messages: The request; it should say in words what it wants, as JSON.
        shape: The class of the answer.
    """
    if isinstance(model, FunctionCallingLLM) and model.metadata.is_function_calling_model:
        return _with_tool(model, messages, shape)
    if getattr(model, "takes_json_schema", False) is True:
        return list(messages), {"json_schema": strict_schema(shape.model_json_schema())}
    return list(messages), {}


def read_shape(model: Any, message: ChatMessage, shape: type[Shape]) -> Shape | None:
    """The answer in that shape, from a tool call or from the text; None where there is none.

    Args:
        model: Who answered.
        message: Its answer.
        shape: The class of the answer.
    """
    return _from_values(_called_with(model, message), shape) or shape_in_text(message.content or "", shape)


def shape_in_text(text: str, shape: type[Shape]) -> Shape | None:
    """The answer in that shape somewhere in a text, as JSON or nearly; none where several differ."""
    return _from_values(list(_json_values(as_reference(text)[:_LONGEST])), shape)


def arguments_as_text(message: ChatMessage) -> str:
    """The arguments of a message's tool calls as one JSON text; empty for no call.

    A model may call the tool once for each part: what is a list in several calls is one list here.
    """
    texts = [arguments for _, _, arguments in tool_calls_of(message)]
    values = [value for text in texts for value in _json_values(text[:_LONGEST]) if isinstance(value, dict)]
    if len(values) < 2:
        return texts[0] if texts else ""
    merged: dict[str, Any] = {}
    for value in values:
        for name, item in value.items():
            held = merged.get(name)
            merged[name] = (
                [*held, *item] if isinstance(held, list) and isinstance(item, list) else held or item
            )
    return json.dumps(merged, ensure_ascii=False)


def strict_schema(schema: Any) -> Any:
    """A JSON schema with every property of its objects required, and no others allowed.

    OpenAI's strict mode takes no other, and a small model leaves out what it may.
    """
    if isinstance(schema, list):
        return [strict_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict_schema(value) for name, value in schema.items() if name != "default"}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        closed["properties"] = {name: strict_schema(value) for name, value in properties.items()}
        closed.update(required=list(properties), additionalProperties=False)
    return closed


def _with_tool(
    model: FunctionCallingLLM, messages: Sequence[ChatMessage], shape: type[BaseModel]
) -> tuple[list[ChatMessage], dict[str, Any]]:
    from llama_index.core.program.function_program import get_function_tool

    tool = get_function_tool(_with_strict_schema(shape))
    try:
        # Some classes append to the list they are given.
        prepared = model._prepare_chat_with_tools_compat(
            [tool], chat_history=list(messages), tool_required=_can_require(model)
        )
    except Exception:
        _logger.warning(
            "%s cannot be given a tool; it is asked in words", type(model).__name__, exc_info=True
        )
        return list(messages), {}
    return list(prepared.pop("messages")), prepared


def _can_require(model: FunctionCallingLLM) -> bool:
    """Whether the class can demand a tool call; asked to, LlamaIndex would warn with every call."""
    return "tool_required" in inspect.signature(type(model)._prepare_chat_with_tools).parameters


def _with_strict_schema(shape: type[BaseModel]) -> type[BaseModel]:
    """The same class by name, whose JSON schema is strict."""

    def schema(*args: Any, **kwargs: Any) -> Any:
        return strict_schema(shape.model_json_schema(*args, **kwargs))

    return type(
        shape.__name__, (shape,), {"model_json_schema": staticmethod(schema), "__doc__": shape.__doc__}
    )


def _called_with(model: Any, message: ChatMessage) -> list[Any]:
    """The arguments of a message's tool calls."""
    texts = [arguments for _, _, arguments in tool_calls_of(message)]
    values = [value for text in texts for value in _json_values(text[:_LONGEST])]
    if values or not isinstance(model, FunctionCallingLLM):
        return values
    try:  # a class may keep its calls in a place of its own
        calls = model.get_tool_calls_from_response(ChatResponse(message=message), error_on_no_tool_call=False)
        return [call.tool_kwargs for call in calls]
    except Exception as error:
        _logger.debug("%s cannot say what it called: %r", type(model).__name__, error)
        return []


def _from_values(values: Sequence[Any], shape: type[Shape]) -> Shape | None:
    """The value that has the shape; or all that fit into its one list.

    Several that differ are no answer: one of them may be quoted from a text that was to be judged.
    """
    made = [fitting for value in values if (fitting := _made(value, shape)) is not None]
    if made:
        return made[0] if all(other == made[0] for other in made) else None
    field = _only_list(shape)
    return _listed(values, shape, field) if field else None


def _made(value: Any, shape: type[Shape]) -> Shape | None:
    field = _only_list(shape)
    if field and isinstance(value, list):
        return _listed(value, shape, field)
    if not isinstance(value, dict):
        return None
    fitted = _fitted(value, shape)
    if field and isinstance(fitted.get(field), list):
        return _listed(fitted[field], shape, field)
    made = _validated(fitted, shape)
    if made is None and len(value) == 1:  # {"RoleList": {...}}
        return _made(next(iter(value.values())), shape)
    return made


def _listed(values: Iterable[Any], shape: type[Shape], field: str) -> Shape | None:
    """A shape of one list, from those values that fit into it; None for none: an empty list says nothing."""
    item = get_args(shape.model_fields[field].annotation)[0]
    fitted = [
        _fitted(value, item) if isinstance(value, dict) and _is_shape(item) else value for value in values
    ]
    kept = [value for value in fitted if _validated({field: [value]}, shape) is not None]
    return _validated({field: kept}, shape) if kept else None


def _validated(value: dict[str, Any], shape: type[Shape]) -> Shape | None:
    try:
        return shape.model_validate(value)
    except ValidationError:
        return None


def _fitted(value: dict[str, Any], shape: type[BaseModel]) -> dict[str, Any]:
    """The same values under the shape's own names: a model may write "Reason" for "reason"."""
    names = {name.casefold(): name for name in shape.model_fields}
    return {
        names.get(str(key).strip().casefold().replace(" ", "_"), key): item for key, item in value.items()
    }


def _only_list(shape: type[BaseModel]) -> str | None:
    fields = shape.model_fields
    name = next(iter(fields), "")
    return name if len(fields) == 1 and get_origin(fields[name].annotation) is list else None


def _is_shape(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)


def _json_values(text: str) -> Iterator[Any]:
    """Every object and list of a text, prose between them left out; a last one may be cut off."""
    place = 0
    for _ in range(_MOST_BEGINNINGS):
        opening = _OPENING.search(text, place)
        if opening is None:
            return
        end = _closing(text, opening.start())
        value = _parsed(text[opening.start() : end], is_cut=end is None)
        if value is not None:
            yield value
        place = opening.start() + 1 if value is None or end is None else end


def _closing(text: str, start: int) -> int | None:
    """Where the bracket that opens at `start` is closed; None for nowhere."""
    depth = 0
    for found in _BRACKET.finditer(text, start):
        depth += (found[0] in "[{") - (found[0] in "]}")
        if depth == 0:
            return found.end()
    return None


def _parsed(text: str, is_cut: bool) -> Any:
    """JSON, trailing commas and bare newlines forgiven, else a literal of Python's; None for neither."""
    try:
        return from_json(
            _REPAIRABLE.sub(_repaired, text), allow_partial="trailing-strings" if is_cut else False
        )
    except ValueError:
        return _literal(text)


def _repaired(found: re.Match[str]) -> str:
    return (found["string"] or "").replace("\n", r"\n").replace("\r", r"\r").replace("\t", r"\t")


def _literal(text: str) -> Any:
    if "'" not in text or "\\" in text:  # an unknown escape would be a warning to everybody
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
