"""Reads a bundle: events with the line each stands on, and what the company knows of its hosts.

A line that is no event is counted, not passed over in silence. Names of hosts, accounts and programs are made
plain as they are read, because whoever attacks may choose them and they stand in what is told to a model.
What events mean is not known here.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path, PureWindowsPath
from typing import Any

_LONGEST_NAME = 48
_NO_NAME = re.compile(r"[^\w.$-]+")
LOGS = ("security.jsonl", "system.jsonl", "sysmon.jsonl")


@dataclass(frozen=True)
class Event:
    """One line of a log.

    Attributes:
        line: Where it stands, such as "security.jsonl:12".
        time: In seconds since 1970.
        host: The computer's name without its domain, upper case.
        channel: "Security", "System" or "Sysmon".
        number: The event's id.
        data: Its fields; all of them texts.
    """

    line: str
    time: float
    host: str
    channel: str
    number: int
    data: dict[str, str] = field(hash=False)

    def account(self, name: str = "TargetUserName") -> str:
        """An account's name without its domain, lower case."""
        return plain_account(self.data.get(name, ""))


@dataclass(frozen=True)
class Process:
    """A process that was started, from Sysmon's event 1 or Security's 4688.

    Attributes:
        event: Where it was written.
        image: Its program's name, lower case.
        path: Its program's full path, lower case.
        command: Its command line.
        parent: Its parent's program, lower case.
        account: Who ran it, lower case; "system" for the system.
        pid: Its number.
        parent_pid: Its parent's number.
    """

    event: Event
    image: str
    path: str
    command: str
    parent: str
    account: str
    pid: int
    parent_pid: int


@dataclass
class Bundle:
    """Everything that was read.

    Attributes:
        folder: Where from.
        events: In the order of their times.
        unreadable: Lines that are no events.
        hosts: Addresses of hosts, by address.
        roles: What hosts are for, by name.
        indicators: The table of indicators, each a row.
        alert: What raised the question; empty where there is none.
    """

    folder: Path
    events: list[Event] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    indicators: list[dict[str, str]] = field(default_factory=list)
    alert: dict[str, Any] = field(default_factory=dict)

    def of(self, channel: str, *numbers: int) -> Iterator[Event]:
        """Events of a channel with these ids, in order."""
        return (event for event in self.events if event.channel == channel and event.number in numbers)

    def source(self, event: Event) -> str:
        """The host an event came from over the network; empty where that is unknown or the host itself."""
        address = event.data.get("IpAddress", "").removeprefix("::ffff:")
        name = self.hosts.get(address, "")
        return "" if name == event.host else name

    def processes(self) -> list[Process]:
        """Every process that was started, in order."""
        return [process for event in self.events if (process := as_process(event))]


def read(folder: str | Path) -> Bundle:
    """Read a bundle.

    Args:
        folder: Where the logs are; a log or table that is missing is taken as empty.

    Raises:
        FileNotFoundError: None of the logs is there.
    """
    folder = Path(folder)
    bundle = Bundle(folder)
    present = [name for name in LOGS if (folder / name).is_file()]
    if not present:
        raise FileNotFoundError(f"{folder} holds none of {', '.join(LOGS)}")
    for name in present:
        _read_log(folder / name, bundle)
    bundle.events.sort(key=lambda event: (event.time, event.line))
    for row in _rows(folder / "hosts.csv"):
        bundle.hosts[row["address"]] = row["host"].upper()
        bundle.roles[row["host"].upper()] = row["role"]
    bundle.indicators = _rows(folder / "indicators.csv")
    alert = folder / "alert.json"
    bundle.alert = json.loads(alert.read_text(encoding="utf-8")) if alert.is_file() else {}
    return bundle


def _read_log(path: Path, bundle: Bundle) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, 1):
            line = f"{path.name}:{number}"
            if not text.strip():
                continue
            try:
                bundle.events.append(_event(json.loads(text), line))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                bundle.unreadable.append(line)


def _event(record: dict[str, Any], line: str) -> Event:
    host = plain_name(str(record["Computer"]).partition(".")[0]).upper()
    data = {str(name): _encodable(str(value)) for name, value in record["EventData"].items()}
    return Event(line, _moment(record["TimeCreated"]), host, record["Channel"], int(record["EventID"]), data)


def _moment(text: str) -> float:
    """Windows writes seven digits of a second, and always UTC; Python 3.10 reads six."""
    digits = re.sub(r"(\.\d{6})\d+", r"\1", text.strip().replace("Z", "+00:00"))
    moment = datetime.fromisoformat(digits)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _encodable(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode("utf-8")


def as_process(event: Event) -> Process | None:
    """The process an event tells of; None where it tells of none."""
    data = event.data
    if (event.channel, event.number) == ("Sysmon", 1):
        path, parent, account = data.get("Image", ""), data.get("ParentImage", ""), data.get("User", "")
        pids = data.get("ProcessId", ""), data.get("ParentProcessId", "")
    elif (event.channel, event.number) == ("Security", 4688):
        path, parent = data.get("NewProcessName", ""), data.get("ParentProcessName", "")
        account = data.get("SubjectUserName", "")
        pids = data.get("NewProcessId", ""), data.get("ProcessId", "")
    else:
        return None
    return Process(
        event,
        program(path),
        path.lower(),
        data.get("CommandLine", ""),
        program(parent),
        "system" if account.endswith("$") else plain_account(account),
        _number(pids[0]),
        _number(pids[1]),
    )


def program(path: str) -> str:
    """A program's name in a Windows path, lower case."""
    return plain_name(PureWindowsPath(path).name).lower()


def plain_account(name: str) -> str:
    """An account's name without its domain, lower case."""
    return plain_name(name.rpartition("\\")[2].partition("@")[0]).lower()


def plain_name(name: str) -> str:
    """A name of letters, digits and a few signs, short enough to be nothing but a name."""
    return _NO_NAME.sub("_", name.strip())[:_LONGEST_NAME]


def shown_time(time: float) -> str:
    """A moment for a reader, to the second, in UTC."""
    return datetime.fromtimestamp(time, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return -1


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{str(name): value or "" for name, value in row.items()} for row in csv.DictReader(file)]
