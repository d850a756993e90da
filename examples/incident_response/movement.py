"""Who moved where: work begun on one host from another, and the path it makes from a compromised host.

A use of a host from another is a logon over the network and, close to it, the work that it began: a service,
a program under WMI or WinRM, a remote desktop. It is a step of an attack where it comes from a host that was
compromised before, and is not that source's routine. Signs are taken as they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from examples.incident_response.logs import Bundle, Event, Process, shown_time
from examples.incident_response.signs import SPREAD, Sign

TECHNIQUES = {
    "T1021.001": "remote desktop",
    "T1021.002": "a service installed over an administrator's share",
    "T1021.006": "WinRM",
    "T1047": "WMI",
}
_BEFORE = 20.0
"""Seconds a logon may lie before what it began; clocks of two hosts and collectors differ."""
_SLACK = 4.0
_AROUND = 15.0


class Use(BaseModel):
    """One host used from another.

    Attributes:
        time: Of the logon, in seconds since 1970.
        source: From where.
        target: What host.
        account: As whom.
        technique: How, as its number in MITRE ATT&CK.
        lines: The log lines it rests on.
        by_hash: Whether the source had put on credentials without a password (T1550.002).
    """

    time: float
    source: str
    target: str
    account: str
    technique: str
    lines: list[str]
    by_hash: bool = False

    def __str__(self) -> str:
        how = TECHNIQUES[self.technique] + (" with a stolen hash" if self.by_hash else "")
        step = f"{self.source} -> {self.target} as {self.account}"
        return f"{shown_time(self.time)} {step} by {how} ({self.technique}) [{', '.join(self.lines)}]"


def remote_uses(bundle: Bundle) -> list[Use]:
    """Every use of a host from another, in order: routine and attack alike."""
    logons = list(bundle.of("Security", 4624))
    uses = [*_services(bundle, logons), *_programs(bundle, logons), *_desktops(bundle, logons)]
    return sorted((_with_source_side(bundle, use) for use in uses), key=lambda use: (use.time, use.target))


def _network_logon(
    bundle: Bundle, logons: Iterable[Event], target: str, time: float, account: str = ""
) -> Event | None:
    """The last logon of type 3 from another host shortly before, as that account where one is given."""
    fitting = [
        event
        for event in logons
        if event.host == target
        and event.data.get("LogonType") == "3"
        and -_SLACK <= time - event.time <= _BEFORE
        and bundle.source(event)
        and not event.account().endswith("$")
        and account in ("", event.account())
    ]
    return fitting[-1] if fitting else None


def _services(bundle: Bundle, logons: list[Event]) -> Iterator[Use]:
    """7045, after someone opened ADMIN$ from another host."""
    shares = [
        event
        for event in bundle.of("Security", 5140)
        if event.data.get("ShareName", "").upper().endswith(("ADMIN$", "C$"))
    ]
    for installed in bundle.of("System", 7045):
        share = next(
            (
                event
                for event in reversed(shares)
                if event.host == installed.host and -_SLACK <= installed.time - event.time <= _BEFORE
            ),
            None,
        )
        if share is None or not bundle.source(share):
            continue
        account = share.account("SubjectUserName")
        logon = _network_logon(bundle, logons, installed.host, share.time, account)
        lines = [event.line for event in (logon, share, installed) if event]
        time = (logon or share).time
        yield _use(time, bundle.source(share), installed.host, account, "T1021.002", lines)


def _programs(bundle: Bundle, logons: list[Event]) -> Iterator[Use]:
    """A program under the provider of WMI or WinRM, run as the one who logged on over the network."""
    ways = {"wmiprvse.exe": "T1047", "wsmprovhost.exe": "T1021.006"}
    for process in bundle.processes():
        technique = ways.get(process.parent)
        if technique is None or process.account in ("system", ""):
            continue
        event = process.event
        logon = _network_logon(bundle, logons, event.host, event.time, process.account)
        if logon is not None:
            source = bundle.source(logon)
            yield _use(logon.time, source, event.host, process.account, technique, [logon.line, event.line])


def _desktops(bundle: Bundle, logons: list[Event]) -> Iterator[Use]:
    """Logons of type 10; as oneself, from one's own host, it is only work."""
    owners = own_accounts(logons)
    for event in logons:
        source = bundle.source(event)
        if event.data.get("LogonType") != "10" or not source or event.account() in owners.get(source, ()):
            continue
        yield _use(event.time, source, event.host, event.account(), "T1021.001", [event.line])


def own_accounts(logons: Iterable[Event]) -> dict[str, set[str]]:
    """Who sits at each host: accounts that logged on at its own keyboard."""
    owners: dict[str, set[str]] = {}
    for event in logons:
        if event.data.get("LogonType") in ("2", "7"):
            owners.setdefault(event.host, set()).add(event.account())
    return owners


def _use(time: float, source: str, target: str, account: str, technique: str, lines: list[str]) -> Use:
    return Use(time=time, source=source, target=target, account=account, technique=technique, lines=lines)


def _with_source_side(bundle: Bundle, use: Use) -> Use:
    """The use with what its source wrote down: explicit credentials, a stolen hash, a connection."""
    lines, by_hash = list(use.lines), False
    address = next((address for address, name in bundle.hosts.items() if name == use.target), "")
    for event in bundle.events:
        if event.host != use.source or not -_AROUND <= event.time - use.time <= _AROUND:
            continue
        if event.number == 4648 and _is_for(event, use):
            lines.append(event.line)
        elif event.number == 4624 and event.data.get("LogonType") == "9" and event.account() == use.account:
            by_hash = True
            lines.append(event.line)
        elif event.channel == "Sysmon" and event.number == 3 and event.data.get("DestinationIp") == address:
            lines.append(event.line)
    return use.model_copy(update={"lines": list(dict.fromkeys(lines)), "by_hash": by_hash})


def _is_for(event: Event, use: Use) -> bool:
    server = event.data.get("TargetServerName", "").partition(".")[0].upper()
    return server == use.target and event.account() == use.account


def path(uses: Iterable[Use], signs: Iterable[Sign]) -> list[Use]:
    """The steps of an attack among uses of hosts, in order.

    Args:
        uses: As `remote_uses` gives them.
        signs: A strong one marks its host as compromised from its time on.
    """
    since: dict[str, float] = {}
    for sign in signs:
        if sign.strong:
            since[sign.host] = min(sign.time, since.get(sign.host, sign.time))
    listed = sorted(uses, key=lambda use: use.time)
    usual = routine(listed, since)
    steps: list[Use] = []
    for use in listed:
        begun = since.get(use.source)
        if begun is None or use.time < begun - _SLACK or _habit(use) in usual:
            continue
        steps.append(use)
        since[use.target] = min(use.time, since.get(use.target, use.time))
    return _once(steps)


def routine(uses: Iterable[Use], since: dict[str, float]) -> set[tuple[str, str, str]]:
    """What a source did to several hosts before it was compromised, in the same way, as the same account."""
    targets: dict[tuple[str, str, str], set[str]] = {}
    for use in uses:
        if use.time < since.get(use.source, float("inf")):
            targets.setdefault(_habit(use), set()).add(use.target)
    return {habit for habit, seen in targets.items() if len(seen) >= SPREAD}


def _habit(use: Use) -> tuple[str, str, str]:
    return use.source, use.account, use.technique


def _once(steps: list[Use]) -> list[Use]:
    """A step that left several traces within a minute, as one."""
    kept: list[Use] = []
    for step in steps:
        same = next(
            (
                one
                for one in kept
                if (one.source, one.target, one.account, one.technique)
                == (step.source, step.target, step.account, step.technique)
                and step.time - one.time < 60
            ),
            None,
        )
        if same is None:
            kept.append(step)
        else:
            same.lines.extend(line for line in step.lines if line not in same.lines)
    return kept


def around(processes: Iterable[Process], host: str, begin: float, end: float) -> list[Process]:
    """What was started on a host in a span of time."""
    return [one for one in processes if one.event.host == host and begin <= one.event.time <= end]
