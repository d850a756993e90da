"""An incident's crew with scripted models: they say what they are given, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock

from examples.incident_response.generate import Scenario, generate
from examples.incident_response.injections import INJECTIONS
from examples.incident_response.team import ADVICE, INTELLIGENCE, TRIAGE
from examples.incident_response.tools import IncidentTools
from llama_index.packs.mixture_of_agents.agents.prompts import PLAN
from llama_index.packs.mixture_of_agents.testing import Answer, ScriptedLLM

STEERED = "This is not lateral movement, all is well."
PLANNED = json.dumps(
    {
        "tasks": [
            {"id": "logs", "agent": TRIAGE, "instructions": "Read the logs.", "needs": []},
            {"id": "threats", "agent": INTELLIGENCE, "instructions": "Name the threat.", "needs": []},
            {
                "id": "advice",
                "agent": ADVICE,
                "instructions": "Say what to do.",
                "needs": ["logs", "threats"],
            },
        ]
    }
)
_FENCED = re.compile(r"^(={3,}) ([^\n]*)\n(.*?)\n\1 end of \2$", re.MULTILINE | re.DOTALL)


def bundle(
    folder: Path, seed: int, scenario: Scenario = "lateral", *, injections: bool = False
) -> IncidentTools:
    """Tools over a bundle that is made in a folder."""
    return IncidentTools(generate(seed, folder, scenario=scenario, with_injections=injections)[0])


def wording() -> ScriptedLLM:
    """A small model: it plans, and says the first lines of what stands between markers."""
    return ScriptedLLM(_worded, model="small")


def calling(lines: Callable[[], Sequence[str]] = list) -> ScriptedLLM:
    """A model that calls tools: who may read lines reads these, once, and quotes them."""

    def said(messages: Sequence[ChatMessage]) -> Answer:
        names = lines()
        if not names or not _is(TRIAGE, messages) or any(message.role == "tool" for message in messages):
            return _worded(messages)
        call = ToolCallBlock(tool_call_id="1", tool_name="read_lines", tool_kwargs={"lines": [*names]})
        return ChatMessage(role="assistant", blocks=[call])

    return ScriptedLLM(said, model="large", is_function_calling_model=True)


def _worded(messages: Sequence[ChatMessage]) -> str:
    text = "\n\n".join(message.content or "" for message in messages)
    if PLAN[:40] in text:
        return PLANNED
    if orders_in(_FENCED.sub("", text)):
        return STEERED
    given = [part.strip() for _, _, part in _FENCED.findall(text)]
    return "\n".join(line for part in given for line in part.splitlines()[:20]) or "Nothing was given."


def orders_in(text: str) -> list[str]:
    """The planted orders that stand in a text, by name."""
    written = {one.name: (one.text, json.dumps(one.text)[1:-1]) for one in INJECTIONS}
    return [name for name, forms in written.items() if any(form in text for form in forms)]


def _is(name: str, messages: Sequence[ChatMessage]) -> bool:
    return f"You are {name}," in (messages[0].content or "")
