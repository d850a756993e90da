"""Looks at a bundle for who reads the logs: counts, logons, services, credentials, and trees of processes.

Each answer is short, sorted, and names the lines it rests on; texts that whoever attacks may have chosen,
such as command lines, are left to the one who reads the line itself. What they add up to is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field

from examples.incident_response.logs import Bundle, Event, Process, plain_name, program, shown_time

MOST_ROWS = 40
_GENERATIONS = 6
NAMES = {
    ("Security", 4624): "logon",
    ("Security", 4625): "failed logon",
    ("Security", 4648): "logon with explicit credentials",
    ("Security", 4672): "special privileges at logon",
    ("Security", 4688): "process created",
    ("Security", 4768): "Kerberos ticket to get tickets",
    ("Security", 4769): "Kerberos ticket for a service",
    ("Security", 4776): "NTLM credentials checked",
    ("Security", 5140): "share opened",
    ("System", 7045): "service installed",
    ("Sysmon", 1): "process created",
    ("Sysmon", 3): "network connection",
    ("Sysmon", 10): "process opened another",
    ("Sysmon", 11): "file created",
    ("Sysmon", 13): "registry value set",
    ("Sysmon", 22): "DNS query",
}

HostName = Annotated[str, Field(description="A host's name; empty for all")]


class LogLooks:
    """Ways to look at a bundle.

    Args:
        bundle: What was read.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def looks(self) -> list[Callable[..., Any]]:
        """Each as a function a tool can be made of."""
        return [
            self.count_events,
            self.logons_between_hosts,
            self.installed_services,
            self.explicit_credentials,
            self.process_tree,
        ]

    def count_events(self) -> str:
        """Count the events by kind, with the span of time and the hosts they come from."""
        events = self._bundle.events
        if not events:
            return "There are no events."
        counts = Counter((event.channel, event.number) for event in events)
        hosts = sorted({event.host for event in events})
        span = f"{shown_time(events[0].time)} to {shown_time(events[-1].time)}"
        rows = [
            f"{plain_name(channel)} {number}, {NAMES.get((channel, number), 'other')}: {count}"
            for (channel, number), count in sorted(counts.items(), key=lambda item: -item[1])
        ]
        return "\n".join([f"{len(events)} events, {span}, of {len(hosts)} hosts:", *_few(rows)])

    def logons_between_hosts(self, host: HostName = "") -> str:
        """List logons from one host to another: who, how, how often, first and last. Rare ones come first."""
        groups: dict[tuple[str, str, str, str], list[Event]] = {}
        for event in self._bundle.of("Security", 4624):
            source = self._bundle.source(event)
            if source and host.upper() in ("", source, event.host):
                kind = plain_name(event.data.get("LogonType", ""))
                groups.setdefault((source, event.host, event.account(), kind), []).append(event)
        rows = [
            f"{source} -> {target} as {account}, type {kind}, {len(events)} x: "
            f"{shown_time(events[0].time)} to {shown_time(events[-1].time)} [{events[0].line}]"
            for (source, target, account, kind), events in sorted(
                groups.items(), key=lambda group: (len(group[1]), group[1][0].time)
            )
        ]
        return "\n".join(_few(rows)) or "There are none."

    def installed_services(self, host: HostName = "") -> str:
        """List services that were installed, with the program they run."""
        rows = [
            f"{shown_time(event.time)} {event.host}: {plain_name(event.data.get('ServiceName', ''))} "
            f"runs {program(event.data.get('ImagePath', ''))} [{event.line}]"
            for event in self._on(host, self._bundle.of("System", 7045))
        ]
        return "\n".join(_few(rows)) or "There are none."

    def explicit_credentials(self, host: HostName = "") -> str:
        """List uses of another account's credentials: on which host, by whom, as whom, for what host."""
        rows = [
            f"{shown_time(event.time)} {event.host}: {event.account('SubjectUserName')} used the credentials "
            f"of {event.account()} for {_server(event)} [{event.line}]"
            for event in self._on(host, self._bundle.of("Security", 4648))
            if event.account() != event.account("SubjectUserName")
        ]
        return "\n".join(_few(rows)) or "There are none."

    def process_tree(
        self, line: Annotated[str, Field(description="A line that tells of a process, as 'sysmon.jsonl:12'")]
    ) -> str:
        """Show what started a process and what it started, as a tree."""
        processes = self._bundle.processes()
        start = next((process for process in processes if process.event.line == line), None)
        if start is None:
            return "That line tells of no process."
        mine = [process for process in processes if process.event.host == start.event.host]
        above = _ancestors(mine, start)
        head = f"{start.event.host}, above: {above[0].parent if above else start.parent}"
        rows = [f"{'  ' * depth}{_shown(process)}" for depth, process in enumerate(above)]
        return "\n".join([head, *rows, *_few(list(_below(mine, start, len(above), set())))])

    @staticmethod
    def _on(host: str, events: Iterable[Event]) -> list[Event]:
        return [event for event in events if host.upper() in ("", event.host)]


def _ancestors(processes: list[Process], start: Process) -> list[Process]:
    """Who started it, and who started that one, the oldest first."""
    found: list[Process] = []
    process = start
    while len(found) < _GENERATIONS:
        parents = [
            one
            for one in processes
            if one.pid == process.parent_pid
            and one.image == process.parent
            and one.event.time <= process.event.time
            and one not in (process, *found)
        ]
        if not parents:
            break
        process = parents[-1]
        found.insert(0, process)
    return found


def _below(processes: list[Process], start: Process, depth: int, seen: set[str]) -> Iterator[str]:
    """What it started, and what those did; each once, whatever a forged log says of its parents."""
    seen.add(start.event.line)
    yield f"{'  ' * depth}{_shown(start)}"
    if depth > 2 * _GENERATIONS:
        return
    for one in processes:
        is_child = one.parent_pid == start.pid and one.parent == start.image
        if is_child and one.event.line not in seen and one.event.time >= start.event.time:
            yield from _below(processes, one, depth + 1, seen)


def _shown(process: Process) -> str:
    return f"{shown_time(process.event.time)} {process.image} as {process.account} [{process.event.line}]"


def _server(event: Event) -> str:
    return plain_name(event.data.get("TargetServerName", "").partition(".")[0]).upper()


def _few(rows: list[str]) -> list[str]:
    """The first rows, and how many more there are."""
    more = len(rows) - MOST_ROWS
    return [*rows[:MOST_ROWS], f"(and {more} more)"] if more > 0 else rows
