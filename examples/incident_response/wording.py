"""How a small model may word what was found: a regular expression with every name in it, and choices between.

A model of 135 million parameters invents threats and hosts when it may say anything. Held to such an
expression it chooses words, and every sentence it can choose is true of the findings. No model is known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from examples.incident_response.findings import Findings
from examples.incident_response.movement import TECHNIQUES, Use
from examples.incident_response.tools import IncidentTools
from llama_index.packs.mixture_of_agents.agents.results import Observation, TaskResult

_DENIES = re.compile(r"\b(?:no|not|isn't|never)\b[^.\n]{0,20}\blateral movement", re.IGNORECASE)
_MOST_SENTENCES = 12


def held_to(tools: IncidentTools) -> Callable[[Sequence[Observation]], Mapping[str, Any]]:
    """What `Member.held_to` takes: arguments of the call that words what these tools found."""
    told = {
        "find_movement": lambda: movement(tools.findings),
        "find_signs": lambda: beginning(tools.findings),
        "match_indicators": lambda: threats(tools.known),
        "containment_steps": lambda: containment(tools.findings, tools.bundle.roles),
    }

    def arguments(observations: Sequence[Observation]) -> Mapping[str, Any]:
        sentences = [sentence for name in _used(observations) if name in told for sentence in told[name]()]
        return _held(sentences[:_MOST_SENTENCES])

    return arguments


def answer_held_to(tools: IncidentTools) -> Callable[[Sequence[TaskResult]], Mapping[str, Any]]:
    """What `Crew.held_to` takes: arguments of the call that answers from what was found."""
    told = {
        "find_movement": lambda: verdict(tools.findings),
        "match_indicators": lambda: culprits(tools.known),
        "containment_steps": lambda: containment(tools.findings, tools.bundle.roles),
    }

    def arguments(results: Sequence[TaskResult]) -> Mapping[str, Any]:
        used = _used([one for result in results for one in result.observations])
        return _held([sentence for name in told if name in used for sentence in told[name]()])

    return arguments


def _used(observations: Sequence[Observation]) -> list[str]:
    return [one.tool for one in observations if not one.is_error]


def _held(sentences: Sequence[str]) -> Mapping[str, Any]:
    pattern = " ".join(sentences)
    # A token has a character at least, so the sentences come to their end.
    return {"regex": pattern, "max_tokens": len(pattern)} if sentences else {}


def verdict(found: Findings) -> list[str]:
    """Whether it is lateral movement, and from where to where."""
    if not found.path:
        return movement(found)
    way = "; ".join(" to ".join(map(_name, chain)) for chain in found.ways)
    yes = _one_of("Yes, this is", "This is", "The logs show")
    whom = f", as {_listed(found.accounts)}" if found.accounts else ""
    return [rf"{yes} lateral movement: {way}{whom}\."]


def culprits(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Whom the known indicators belong to, each name once."""
    names = list(dict.fromkeys(row["threat"] for row in rows))
    lead = _one_of("The traces point to", "What was seen belongs to")
    return [rf"{lead} {_listed(names)}\."] if names else []


def movement(found: Findings) -> list[str]:
    """The verdict, and each step between hosts in a sentence."""
    if not found.path:
        return [rf"{_one_of('The logs show', 'There is')} no lateral movement\."]
    verdict = rf"{_one_of('This is', 'The logs show', 'Here we see')} lateral movement\."
    return [verdict, *(_step(number, step) for number, step in enumerate(found.path))]


def _step(number: int, step: Use) -> str:
    then = (
        _one_of("Then,", "Next,", "After that,") if number else _one_of("First", "At first", "It began when")
    )
    how = TECHNIQUES[step.technique] + (" with a stolen hash" if step.by_hash else "")
    went = _one_of("moved", "went", "got")
    by = _one_of("by", "through", "by means of")
    return (
        rf"{then} the attacker {went} from {_name(step.source)} to {_name(step.target)} "
        rf"as {_name(step.account)}, {by} {_name(how)}{_cited(step.lines)}\."
    )


def beginning(found: Findings) -> list[str]:
    """The first sign of a compromise."""
    if not found.signs:
        return [rf"{_one_of('No host shows', 'There are no')} signs of a compromise\."]
    sign = found.signs[0]
    lead = _one_of("The first sign is", "The trail begins", "The first trace is")
    return [rf"{lead} on {_name(sign.host)}: {_name(sign.summary)}{_cited(sign.lines)}\."]


def threats(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Whom each known indicator belongs to."""
    if not rows:
        return [rf"{_one_of('Nothing', 'None')} of the known indicators was seen\."]
    return [
        rf"The {_name(row['kind'])} {_name(row['indicator'])} "
        rf"{_one_of('belongs to', 'is a mark of', 'points to')} {_name(row['threat'])}\."
        for row in rows
    ]


def containment(found: Findings, roles: Mapping[str, str]) -> list[str]:
    """Hosts first, then accounts, then what is known of the threat.

    Args:
        found: What was found.
        roles: What hosts are for: only workstations are cut off.
    """
    if not found.hosts:
        return [rf"{_one_of('Close', 'Set aside')} the alert, and {_one_of('keep', 'save')} the logs\."]
    stations = [host for host in found.hosts if roles.get(host) == "workstation"]
    servers = [host for host in found.hosts if host not in stations]
    told = []
    if stations:
        now = _one_of("now", "at once", "first")
        told.append(rf"{_one_of('Isolate', 'Cut off', 'Contain')} {_listed(stations)} {now}\.")
    if servers:
        running = _one_of("and do not power off", "without powering off")
        told.append(
            rf"{_one_of('Restrict', 'Limit')} {_listed(servers)} to the administrators' network, {running}\."
        )
    if found.accounts:
        told.append(
            rf"{_one_of('Disable', 'Lock')} {_listed(found.accounts)}, and {_one_of('end', 'close')} "
            rf"{_one_of('every session', 'all sessions')} of theirs\."
        )
    if found.indicators:
        where = _one_of("everywhere", "at proxy, firewall and endpoints")
        told.append(rf"{_one_of('Block', 'Bar')} {_listed(found.indicators)} {where}\.")
    return [*told, rf"{_one_of('Save', 'Take')} memory and logs before any restart\."]


def _listed(names: Sequence[str]) -> str:
    *most, last = [_name(name) for name in names]
    return f"{', '.join(most)} and {last}" if most else last


def _cited(lines: Sequence[str]) -> str:
    return rf" \[{_name(lines[0])}\]" if lines else ""


def denies(text: str) -> bool:
    """Whether a text says that there is no lateral movement."""
    return bool(_DENIES.search(text))


def _one_of(*words: str) -> str:
    return f"({'|'.join(map(re.escape, words))})"


def _name(text: str) -> str:
    return re.escape(text)
