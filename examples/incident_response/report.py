"""The report of an incident: findings with the lines they rest on, the crew's words, and what to doubt there.

Findings come from the tools that agents used, not from a model's words. The words stand beside them; where
they name a host that no finding names, or deny what was found, that is said. No model is known here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from examples.incident_response.injections import speaks_to_a_model
from examples.incident_response.tools import IncidentTools
from examples.incident_response.wording import denies
from llama_index.packs.mixture_of_agents.agents import CrewResponse

_NOT_PLAIN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_MOST_CITED = 40


def as_markdown(response: CrewResponse, tools: IncidentTools) -> str:
    """The report, as Markdown.

    Args:
        response: What the crew answered.
        tools: What its members looked with.
    """
    alert = tools.bundle.alert
    parts = [
        f"# Incident report: {_inert(str(alert.get('title', tools.folder.name)))}",
        f"Question: {_inert(str(alert.get('question', '')))}",
        f"## Verdict\n\n{_verdict(tools)}",
        f"## {_whose(response)}\n\n{_quoted(response.text)}",
        *_section("What to doubt in these words", doubts(response, tools)),
        *_section("Findings: movement between hosts", _movement(tools)),
        *_section("Findings: signs of compromise", _signs(tools)),
        *_section("Known threats", _lines_of(tools, "match_indicators", tools.match_indicators)),
        *_section("What to do", tools.steps() if "containment_steps" in tools.used else []),
        *_section("Texts that give orders to a model", _orders(response, tools)),
        *_section("What is missing", [*(_inert(str(gone)) for gone in response.missing), *_cut(response)]),
        f"## Plan\n\n```\n{response.plan.as_text() if response.plan else 'none'}\n```",
        *(
            [f"## Cited lines\n\n{_cited(tools)}"]
            if {"find_movement", "find_signs"} & set(tools.used)
            else []
        ),
    ]
    return "\n\n".join(parts) + "\n"


def as_json(response: CrewResponse, tools: IncidentTools) -> dict[str, Any]:
    """The report, for programs."""
    looked = "find_movement" in tools.used
    return {
        "findings": tools.findings.model_dump(mode="json") if looked else None,
        "steps": tools.steps() if "containment_steps" in tools.used else [],
        "doubts": doubts(response, tools),
        "response": response.to_dict(),
    }


def write(folder: str | Path, response: CrewResponse, tools: IncidentTools) -> Path:
    """Write `report.md` and `report.json`; give the first."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    said = json.dumps(as_json(response, tools), indent=1)
    (folder / "report.json").write_text(said, encoding="utf-8")
    path = folder / "report.md"
    path.write_text(as_markdown(response, tools), encoding="utf-8")
    return path


def doubts(response: CrewResponse, tools: IncidentTools) -> list[str]:
    """Where the crew's words do not agree with what was found; nowhere, where nobody looked."""
    if "find_movement" not in tools.used:
        return []
    found, said = tools.findings, response.text
    names = [name for name in tools.bundle.roles if re.search(rf"\b{re.escape(name)}\b", said, re.IGNORECASE)]
    strangers = [name for name in names if name not in found.hosts]
    told = [f"They name {name}, which no finding names." for name in strangers]
    if found.lateral_movement and denies(said):
        told.append("They deny lateral movement, which was found.")
    lines = set(re.findall(r"\b(?:security|system|sysmon)\.jsonl:\d+", said))
    told += [f"They cite {line}, on which no finding rests." for line in sorted(lines - set(found.lines()))]
    missing = [host for host in found.hosts if host not in names]
    return [*told, *([f"They do not name {', '.join(missing)}."] if missing else [])]


def _whose(response: CrewResponse) -> str:
    if response.answered_by:
        return f"In the words of {response.answered_by}"
    return "What each specialist found, as it is"


def _verdict(tools: IncidentTools) -> str:
    found = tools.findings
    if "find_movement" not in tools.used:
        return "Nobody looked for movement between hosts."
    if found.lateral_movement:
        way = "; ".join(" -> ".join(chain) for chain in found.ways)
        return f"**This is lateral movement**: {way}, as {', '.join(found.accounts)}."
    if found.hosts:
        return f"**No lateral movement**, but {', '.join(found.hosts)} is compromised."
    return "**No lateral movement**, and no host shows a strong sign of a compromise."


def _movement(tools: IncidentTools) -> list[str]:
    return [str(step) for step in tools.findings.path] if "find_movement" in tools.used else []


def _signs(tools: IncidentTools) -> list[str]:
    return [str(sign) for sign in tools.findings.signs] if "find_signs" in tools.used else []


def _lines_of(tools: IncidentTools, name: str, tool: Any) -> list[str]:
    return str(tool()).splitlines() if name in tools.used else []


def _orders(response: CrewResponse, tools: IncidentTools) -> list[str]:
    events = {event.line: event for event in tools.bundle.events}
    lines = [
        f"{line}, {field}: {_inert(value[:200])}"
        for line in tools.findings.addressed
        for field, value in events[line].data.items()
        if speaks_to_a_model(value)
    ]
    return [*lines, *(_inert(str(warning)) for warning in response.warnings)]


def _cut(response: CrewResponse) -> list[str]:
    return [f"{result.agent}, {result.task}: {result.cut}" for result in response.results if result.cut]


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines)] if lines else []


def _cited(tools: IncidentTools) -> str:
    names = tools.findings.lines()
    texts = [f"{name}  {_plain(tools.line(name))[:300]}" for name in names[:_MOST_CITED]]
    more = [f"... and {len(names) - _MOST_CITED} more"] if len(names) > _MOST_CITED else []
    longest = max((len(run) for text in texts for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *texts, *more, fence])


def _quoted(text: str) -> str:
    return "\n".join(f"> {_inert(line)}" for line in _plain(text).splitlines() or ["(nothing)"])


def _inert(text: str) -> str:
    """Others' text for a viewer of Markdown, who would fetch a picture or a tag in it from its author."""
    line = " ".join(_plain(text).split())
    return line.replace("\\", "\\\\").replace("<", "&lt;").replace("[", "\\[").replace("](", "]\\(")


def _plain(text: str) -> str:
    return _NOT_PLAIN.sub(" ", text)
