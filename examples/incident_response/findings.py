"""What a bundle shows, put together: is it lateral movement, from where to where, and as whom.

Everything is deterministic and rests on named lines, so a model has nothing to find, only to word. The truth
about a generated bundle is read by `compare` alone, for the one who marks the work.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from examples.incident_response import injections, logs, movement, signs
from examples.incident_response.logs import Bundle, Event
from examples.incident_response.movement import Use
from examples.incident_response.signs import Sign


class Findings(BaseModel):
    """What was found.

    Attributes:
        lateral_movement: Whether someone moved from a compromised host to another.
        hosts: Compromised hosts, in the order they were.
        accounts: Accounts the attacker acted as.
        path: The steps, in order.
        signs: What shows that hosts are compromised, in order.
        indicators: Known indicators that were seen with strong signs.
        techniques: Numbers in MITRE ATT&CK.
        failed: Logons that failed from a compromised host, one line each.
        addressed: Lines that speak to a model; they are data, and a finding of their own.
        unreadable: Lines that are no events.
        events: How many events were read.
    """

    lateral_movement: bool
    hosts: list[str]
    accounts: list[str]
    path: list[Use]
    signs: list[Sign]
    indicators: list[str]
    techniques: list[str]
    failed: list[str] = []
    addressed: list[str] = []
    unreadable: list[str] = []
    events: int = 0

    @property
    def ways(self) -> list[list[str]]:
        """The path as chains of hosts; another one begins where a step does not go on from the last host."""
        chains: list[list[str]] = []
        for step in self.path:
            if not chains or chains[-1][-1] != step.source:
                chains.append([step.source])
            chains[-1].append(step.target)
        return chains

    def lines(self) -> list[str]:
        """Every log line the findings rest on, each once."""
        steps, signs = (step.lines for step in self.path), (sign.lines for sign in self.signs)
        return list(dict.fromkeys(chain.from_iterable((*steps, *signs))))


class Comparison(BaseModel):
    """Findings against the truth; each measure between 0 and 1.

    Attributes:
        verdict: Whether the answer to "is it lateral movement" is right.
        precision: Of hosts, accounts, edges, techniques and cited lines: the share that is right.
        recall: Likewise: the share of the truth that was found.
    """

    verdict: bool
    precision: dict[str, float]
    recall: dict[str, float]

    @property
    def perfect(self) -> bool:
        """Whether hosts, accounts and edges are exactly the truth."""
        parts = ("hosts", "accounts", "edges")
        return self.verdict and all(self.precision[part] == self.recall[part] == 1 for part in parts)


def findings(folder: str | Path) -> Findings:
    """What a bundle shows.

    Args:
        folder: Of the bundle.

    Raises:
        FileNotFoundError: There are no logs.
    """
    return found_in(logs.read(folder))


def found_in(bundle: Bundle) -> Findings:
    """What a bundle that was read shows."""
    seen = signs.all_signs(bundle)
    steps = movement.path(movement.remote_uses(bundle), seen)
    strong = [sign for sign in seen if sign.strong]
    hosts = _hosts(steps, strong)
    telling = [sign for sign in seen if sign.host in hosts]
    return Findings(
        lateral_movement=bool(steps),
        hosts=hosts,
        accounts=_accounts(steps, strong),
        path=steps,
        signs=telling,
        indicators=_indicators(bundle, telling),
        techniques=_techniques(steps, telling),
        failed=_failed(bundle, strong),
        addressed=[event.line for event in bundle.events if _speaks(event)],
        unreadable=bundle.unreadable,
        events=len(bundle.events),
    )


def _hosts(steps: list[Use], strong: list[Sign]) -> list[str]:
    when = [(sign.time, sign.host) for sign in strong] + [(step.time, step.target) for step in steps]
    return list(dict.fromkeys(host for _, host in sorted(when)))


def _accounts(steps: list[Use], strong: list[Sign]) -> list[str]:
    """Of the first host the one who ran the first thing; after that, those that were moved with."""
    began = [sign.account for sign in strong if sign.account][:1]
    return list(dict.fromkeys([*began, *(step.account for step in steps)]))


def _indicators(bundle: Bundle, telling: list[Sign]) -> list[str]:
    lines = {line for sign in telling for line in sign.lines}
    known = {row["indicator"].lower(): row["indicator"] for row in bundle.indicators}
    values = [value for event in bundle.events if event.line in lines for value in signs.values_of(event)]
    return list(dict.fromkeys(known[value] for value in values if value in known))


def _techniques(steps: list[Use], telling: list[Sign]) -> list[str]:
    used = {step.technique for step in steps} | {sign.technique for sign in telling}
    return sorted(used | ({"T1550.002"} if any(step.by_hash for step in steps) else set()))


def _failed(bundle: Bundle, strong: list[Sign]) -> list[str]:
    since: dict[str, float] = {}
    for sign in strong:
        since[sign.host] = min(sign.time, since.get(sign.host, sign.time))
    return [
        event.line
        for event in bundle.of("Security", 4625)
        if (source := bundle.source(event)) and event.time >= since.get(source, float("inf"))
    ]


def _speaks(event: Event) -> bool:
    return any(injections.speaks_to_a_model(value) for value in event.data.values())


def compare(found: Findings, truth: dict[str, Any] | str | Path) -> Comparison:
    """Mark findings.

    Args:
        found: What was found.
        truth: The truth, or the file it is in.
    """
    told: dict[str, Any] = (
        truth if isinstance(truth, dict) else json.loads(Path(truth).read_text(encoding="utf-8"))
    )
    pairs: dict[str, tuple[set[Any], set[Any]]] = {
        "hosts": (set(found.hosts), set(told["hosts"])),
        "accounts": (set(found.accounts), set(told["accounts"])),
        "edges": ({_edge(step.model_dump()) for step in found.path}, {_edge(step) for step in told["path"]}),
        "techniques": (set(found.techniques), set(told["techniques"])),
        "indicators": (set(found.indicators), set(told["indicators"])),
        "lines": (set(found.lines()), {f"{file}:{n}" for file, ns in told["lines"].items() for n in ns}),
    }
    return Comparison(
        verdict=found.lateral_movement == told["lateral_movement"],
        precision={name: _share(got & true, got) for name, (got, true) in pairs.items()},
        recall={name: _share(got & true, true) for name, (got, true) in pairs.items()},
    )


def _edge(step: dict[str, Any]) -> tuple[str, str, str, str]:
    return step["source"], step["target"], step["account"], step["technique"]


def _share(part: set[Any], whole: set[Any]) -> float:
    return len(part) / len(whole) if whole else 1.0
