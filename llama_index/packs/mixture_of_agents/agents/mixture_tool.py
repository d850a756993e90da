"""A mixture as a tool in an agent's reasoning loop: it asks several models where one is not enough.

It needs an object with `arun(question)`: a `MixtureOfAgentsPack`, or a crew. What that is, is not known here.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from llama_index.packs.mixture_of_agents.agents.tools.bounding import BoundedTool, bounded
from llama_index.packs.mixture_of_agents.agents.tools.typed import typed_tool
from llama_index.packs.mixture_of_agents.checks import has_methods, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError
from llama_index.packs.mixture_of_agents.nesting import Nesting

_DESCRIPTION = (
    "Ask a panel of several language models a question and get one answer that weighs what each says. Use it "
    "for hard questions on which one model may be wrong. The panel knows nothing of your conversation: the "
    "question must be complete in itself."
)
_TOOLS = Nesting("tool", deepest=2)


def mixture_tool(
    pack: Any, *, name: str = "ask_mixture", description: str = _DESCRIPTION, seconds: float = 600.0
) -> BoundedTool:
    """A tool that asks a mixture.

    Args:
        pack: Anything with `arun(question)`, a `MixtureOfAgentsPack` for instance.
        name: What the agent calls it.
        description: When to use it, for the agent's model.
        seconds: The longest it may take.

    Raises:
        ConfigurationError: It cannot be asked, or the seconds are none.

    Example:
        FunctionAgent(tools=[mixture_tool(pack)], llm=llm)
    """
    if not has_methods(pack, "arun"):
        raise ConfigurationError(
            f"mixture_tool needs an object with arun(question); found {shown(pack)}. Pass a "
            "MixtureOfAgentsPack."
        )

    async def ask(
        question: Annotated[str, Field(description="A question that is complete in itself")],
    ) -> str:
        if not question.strip():
            raise ToolError("the question is empty")
        with _TOOLS.one_more(lambda depth: _too_deep(name, depth)):
            response = await pack.arun(question)
        gone = [str(one) for one in getattr(response, "missing", ())]
        return str(response) + (f"\n(Not heard: {'; '.join(gone)})" if gone else "")

    ask.__doc__ = description
    return bounded(typed_tool(ask, name=name), seconds=seconds)


def _too_deep(name: str, depth: int) -> ToolError:
    return ToolError(
        f"{name} was not asked: {depth} mixtures are at work inside each other, and no more may be; "
        "answer yourself"
    )
