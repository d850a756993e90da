"""Writes Windows events as their collectors write them: one JSON object for each, in the order of arrival.

Field names and numbers follow Microsoft's documentation of the Security and System logs and of Sysmon
(https://learn.microsoft.com/windows/security/threat-protection/auditing,
https://learn.microsoft.com/sysinternals/downloads/sysmon). What happens in the company is not known here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from examples.incident_response.company import DOMAIN, SUFFIX, Host

CHANNELS = {
    "Security": ("security.jsonl", "Microsoft-Windows-Security-Auditing"),
    "System": ("system.jsonl", "Service Control Manager"),
    "Sysmon": ("sysmon.jsonl", "Microsoft-Windows-Sysmon"),
}
_SYSTEM32 = "C:\\Windows\\System32\\"
_UNORDERED = 2.5
"""Seconds by which events may arrive out of order."""
_SKEW = 1.0
"""Seconds by which a host's clock may be wrong."""


@dataclass
class Written:
    """An event on its way to a file.

    Attributes:
        arrives: When it reaches the collector, in seconds.
        file: Where it is written.
        record: What is written.
        planted: Whether it is a trace of the attack.
    """

    arrives: float
    file: str
    record: dict[str, Any]
    planted: bool


class Recorder:
    """Collects events of all hosts.

    Args:
        chance: Draws ids, ports, skew and order of arrival.
        start: When second 0 is.
    """

    def __init__(self, chance: random.Random, start: datetime) -> None:
        self.chance = chance
        self.start = start
        self.written: list[Written] = []
        self._planting = False
        self._skew: dict[str, float] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._running: dict[tuple[str, bool, str], int] = {}

    @contextmanager
    def planting(self) -> Iterator[None]:
        """Events written inside belong to the attack."""
        self._planting = True
        try:
            yield
        finally:
            self._planting = False

    def stamp(self, at: float) -> str:
        """A moment as events write it."""
        return (self.start + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def number(self) -> str:
        """A logon's number, in hexadecimal."""
        return f"0x{self.chance.randrange(0x10000, 0xFFFFFFF):x}"

    def event(self, at: float, host: Host, channel: str, number: int, **data: str) -> None:
        """Write any event."""
        file, provider = CHANNELS[channel]
        skew = self._skew.setdefault(host.name, self.chance.uniform(-_SKEW, _SKEW))
        place = (host.name, channel)
        self._numbers[place] = self._numbers.get(place, self.chance.randrange(1000, 90000)) + 1
        record = {
            "TimeCreated": self.stamp(at + skew),
            "Computer": host.full_name,
            "Channel": channel,
            "Provider": provider,
            "EventID": number,
            "EventRecordID": self._numbers[place],
            "EventData": data,
        }
        arrives = at + self.chance.uniform(0, _UNORDERED)
        self.written.append(Written(arrives, file, record, self._planting))

    def logon(
        self,
        at: float,
        host: Host,
        account: str,
        kind: int,
        source: Host | None = None,
        *,
        privileged: bool = False,
        ntlm: bool = False,
        process: str = "",
    ) -> str:
        """4624, and 4672 where the account is privileged; gives the logon's number."""
        logon = self.number()
        package = "NTLM" if ntlm else "Kerberos" if kind in (3, 10) else "Negotiate"
        starts = {3: "NtLmSsp " if ntlm else "Kerberos", 5: "Advapi  ", 9: "seclogo", 10: "User32 "}
        data = {
            "SubjectUserName": f"{host.name}$" if kind in (2, 5, 7, 10) else "-",
            "SubjectDomainName": DOMAIN if kind in (2, 5, 7, 10) else "-",
            "TargetUserName": account,
            "TargetDomainName": DOMAIN,
            "TargetLogonId": logon,
            "LogonType": str(kind),
            "LogonProcessName": starts.get(kind, "User32 "),
            "AuthenticationPackageName": package,
            "WorkstationName": source.name if source else host.name,
            "KeyLength": "128" if ntlm and kind == 3 else "0",
            "ProcessName": process or "-",
            "IpAddress": source.address if source else "127.0.0.1" if kind == 2 else "-",
            "IpPort": str(self.chance.randrange(49152, 65535)) if source else "0",
            "ElevatedToken": "%%1842" if privileged else "%%1843",
        }
        self.event(at, host, "Security", 4624, **data)
        if privileged:
            self.event(
                at + 0.01,
                host,
                "Security",
                4672,
                SubjectUserName=account,
                SubjectDomainName=DOMAIN,
                SubjectLogonId=logon,
                PrivilegeList="SeSecurityPrivilege SeBackupPrivilege SeDebugPrivilege SeImpersonatePrivilege",
            )
        return logon

    def failed_logon(self, at: float, host: Host, account: str, source: Host, kind: int = 3) -> None:
        """4625: a wrong password."""
        self.event(
            at,
            host,
            "Security",
            4625,
            TargetUserName=account,
            TargetDomainName=DOMAIN,
            Status="0xc000006d",
            SubStatus="0xc000006a",
            LogonType=str(kind),
            WorkstationName=source.name,
            IpAddress=source.address,
            AuthenticationPackageName="NTLM",
        )

    def explicit(self, at: float, host: Host, subject: str, account: str, target: Host, process: str) -> None:
        """4648: a program used credentials other than its own."""
        self.event(
            at,
            host,
            "Security",
            4648,
            SubjectUserName=subject,
            SubjectDomainName=DOMAIN,
            TargetUserName=account,
            TargetDomainName=DOMAIN,
            TargetServerName=f"{target.name}.{SUFFIX}",
            TargetInfo=f"cifs/{target.name}.{SUFFIX}",
            ProcessName=process,
            IpAddress=target.address,
        )

    def ticket(self, at: float, controller: Host, account: str, service: str, source: Host) -> None:
        """4769: a Kerberos ticket for a service."""
        self.event(
            at,
            controller,
            "Security",
            4769,
            TargetUserName=f"{account}@{SUFFIX.upper()}",
            ServiceName=service,
            TicketEncryptionType="0x12",
            Status="0x0",
            IpAddress=f"::ffff:{source.address}",
        )

    def first_ticket(self, at: float, controller: Host, account: str, source: Host) -> None:
        """4768: a Kerberos ticket to get tickets with."""
        self.event(
            at,
            controller,
            "Security",
            4768,
            TargetUserName=account,
            TargetDomainName=SUFFIX.upper(),
            ServiceName="krbtgt",
            TicketEncryptionType="0x12",
            Status="0x0",
            IpAddress=f"::ffff:{source.address}",
        )

    def validated(self, at: float, controller: Host, account: str, source: Host) -> None:
        """4776: the domain controller checked NTLM credentials."""
        self.event(
            at,
            controller,
            "Security",
            4776,
            PackageName="MICROSOFT_AUTHENTICATION_PACKAGE_V1_0",
            TargetUserName=account,
            Workstation=source.name,
            Status="0x0",
        )

    def share(self, at: float, host: Host, account: str, source: Host, share: str, logon: str) -> None:
        """5140: a share was opened."""
        self.event(
            at,
            host,
            "Security",
            5140,
            SubjectUserName=account,
            SubjectDomainName=DOMAIN,
            SubjectLogonId=logon,
            IpAddress=source.address,
            IpPort=str(self.chance.randrange(49152, 65535)),
            ShareName=f"\\\\*\\{share}",
            ShareLocalPath="" if share == "IPC$" else f"\\??\\C:\\{share.strip('$')}",
            AccessMask="0x1",
        )

    def service(self, at: float, host: Host, name: str, path: str) -> None:
        """7045: a service was installed."""
        self.event(
            at,
            host,
            "System",
            7045,
            ServiceName=name,
            ImagePath=path,
            ServiceType="user mode service",
            StartType="demand start",
            AccountName="LocalSystem",
        )

    def process(
        self, at: float, host: Host, image: str, command: str, parent: str, account: str, sha256: str = ""
    ) -> int:
        """A new process, in the log this host has for it; gives its id."""
        identity = self.chance.randrange(1000, 30000) & ~3
        above = self.chance.randrange(500, 9000) & ~3
        image, parent = (path if "\\" in path else _SYSTEM32 + path for path in (image, parent))
        above = self._running.setdefault((host.name, self._planting, parent.lower()), above)
        self._running[host.name, self._planting, image.lower()] = identity
        system = account == "SYSTEM"
        if not host.sysmon:
            self.event(
                at,
                host,
                "Security",
                4688,
                SubjectUserName=f"{host.name}$" if system else account,
                SubjectDomainName=DOMAIN,
                NewProcessId=hex(identity),
                NewProcessName=image,
                CommandLine=command,
                ProcessId=hex(above),
                ParentProcessName=parent,
                TokenElevationType="%%1936",
            )
            return identity
        self.event(
            at,
            host,
            "Sysmon",
            1,
            UtcTime=self.stamp(at)[:-4].replace("T", " "),
            ProcessId=str(identity),
            Image=image,
            CommandLine=command,
            User="NT AUTHORITY\\SYSTEM" if system else f"{DOMAIN}\\{account}",
            Hashes=f"SHA256={sha256 or f'{self.chance.getrandbits(256):064X}'}",
            ParentProcessId=str(above),
            ParentImage=parent,
            IntegrityLevel="System" if system else "Medium",
        )
        return identity

    def sysmon(self, at: float, host: Host, number: int, **data: str) -> None:
        """A Sysmon event, where the host has Sysmon."""
        if host.sysmon:
            self.event(at, host, "Sysmon", number, UtcTime=self.stamp(at)[:-4].replace("T", " "), **data)

    def save(self, folder: Path) -> dict[str, list[int]]:
        """Write the files; gives the planted lines of each, counted from 1."""
        planted: dict[str, list[int]] = {}
        for file, _ in CHANNELS.values():
            mine = sorted((one for one in self.written if one.file == file), key=lambda one: one.arrives)
            lines = [json.dumps(one.record, ensure_ascii=False) for one in mine]
            (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
            planted[file] = [number for number, one in enumerate(mine, 1) if one.planted]
        return planted
