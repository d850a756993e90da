"""A Python function as a LlamaIndex tool that checks what the model gives it.

LlamaIndex shows a model the schema of a tool's arguments but passes on whatever comes back; here one pydantic
class is both the schema and the check. What a tool does is not known here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from llama_index.core.tools import FunctionTool, ToolMetadata
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from llama_index.packs.mixture_of_agents.errors import ToolError

_SECTIONS = ("Args:", "Returns:", "Raises:")


def typed_tool(function: Callable[..., Any], *, name: str | None = None) -> FunctionTool:
    """The tool of a function or bound method, plain or async.

    Its description is the docstring up to "Args:"; what an argument means stands in its annotation, as
    `Annotated[int, Field(description="...")]`. A call with arguments that do not fit raises `ToolError`.

    Args:
        function: What to call; its parameters are given by name.
        name: What the model calls it; None for the function's own name.
    """
    name = name or function.__name__
    shape = _arguments(function, name)

    def call(**given: Any) -> Any:
        return function(**_checked(shape, given))

    async def acall(**given: Any) -> Any:
        return await function(**_checked(shape, given))

    metadata = ToolMetadata(description=_description(function), name=name, fn_schema=shape)
    if inspect.iscoroutinefunction(function):
        return FunctionTool(async_fn=acall, metadata=metadata)
    return FunctionTool(fn=call, metadata=metadata)


def _arguments(function: Callable[..., Any], name: str) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (
            hints.get(parameter.name, Any),
            Field() if parameter.default is parameter.empty else Field(default=parameter.default),
        )
        for parameter in inspect.signature(function).parameters.values()
    }
    shape: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    return shape


def _description(function: Callable[..., Any]) -> str:
    text = inspect.getdoc(function) or ""
    for section in _SECTIONS:
        text = text.partition(f"\n{section}")[0]
    return text.strip()


def _checked(shape: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        values = shape.model_validate(dict(given))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}"
            for fault in error.errors()[:5]
        )
        raise ToolError(f"{faults}. Its arguments are: {', '.join(shape.model_fields) or 'none'}.") from None
    return {name: getattr(values, name) for name in shape.model_fields}
