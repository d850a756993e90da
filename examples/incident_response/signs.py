"""Signs that a host is compromised, each with the lines it rests on.

What many hosts do is routine here: the same program at the same work on three hosts or more. The rules are
those an analyst would apply by hand (MITRE ATT&CK's detections; Sysmon's and Windows' own documentation).
Who moved where is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel

from examples.incident_response.logs import Bundle, Event, Process, program, shown_time

SPREAD = 3
"""On so many hosts, a habit is routine."""
_TOGETHER = 120.0
"""Seconds within which signs of one kind on one host are one sign."""

_OFFICE = {"winword.exe", "excel.exe", "powerpnt.exe", "outlook.exe", "onenote.exe"}
_SHELLS = {"powershell.exe", "pwsh.exe", "cmd.exe", "wscript.exe", "cscript.exe", "mshta.exe", "rundll32.exe"}
_BROWSERS = {"chrome.exe", "firefox.exe", "msedge.exe", "iexplore.exe", "brave.exe"}
_DUMPS_LSASS = re.compile(
    r"comsvcs(\.dll)?[, ]+.*minidump|-ma\s+lsass|lsass\.(exe\s+\S+\.)?dmp|sekurlsa", re.I
)
_DUMPS_DIRECTORY = re.compile(r"ntdsutil.*\b(ifm|ac(tivate)?\s+i(nstance)?\s+ntds)|ntds\.dit", re.I)
_ENCODED = re.compile(r"\s-e(nc|ncodedcommand|c)?\s+[A-Za-z0-9+/=]{16,}", re.I)
_ARCHIVE = re.compile(r"\b(7za?|rar|winrar)(\.exe)?\s+a\s+.*-(p|hp|mhe)", re.I)
_READ_MEMORY = 0x10


class Sign(BaseModel):
    """Something that should not be there.

    Attributes:
        kind: What kind of thing.
        technique: Its number in MITRE ATT&CK.
        host: Where.
        account: Who; empty where that is unknown.
        time: When, in seconds since 1970.
        summary: In words, without any text of the logs but names.
        lines: The log lines it rests on.
        strong: Whether it shows by itself that the host is compromised.
    """

    kind: str
    technique: str
    host: str
    account: str
    time: float
    summary: str
    lines: list[str]
    strong: bool = True

    def __str__(self) -> str:
        who = f" as {self.account}" if self.account else ""
        where = f"{shown_time(self.time)} {self.host}{who}"
        return f"{where}: {self.summary} ({self.technique}) [{', '.join(self.lines)}]"


def all_signs(bundle: Bundle) -> list[Sign]:
    """Every sign, in order of time."""
    found: list[Sign] = []
    for looks in (documents_run_scripts, credential_dumping, contacts, archives):
        found += looks(bundle)
    return sorted(found, key=lambda sign: (sign.time, sign.host, sign.kind))


def documents_run_scripts(bundle: Bundle) -> list[Sign]:
    """Office programs that start a shell, and what encoded commands were run outside of routine."""
    processes = bundle.processes()
    routine = _widespread(
        (process.parent, process.event.host) for process in processes if _ENCODED.search(process.command)
    )
    signs = []
    for process in processes:
        hidden = bool(_ENCODED.search(process.command))
        if process.parent in _OFFICE and process.image in _SHELLS:
            summary = f"{process.parent} started {process.image}"
            signs.append(_of(process, "document ran a script", "T1566.001", summary))
        if hidden and process.parent not in routine:
            summary = f"{process.parent} ran an encoded command"
            signs.append(_of(process, "encoded command", "T1059.001", summary))
    return merged(signs)


def credential_dumping(bundle: Bundle) -> list[Sign]:
    """LSASS or the directory's database read by what has no business to."""
    return merged([*_dump_commands(bundle), *_lsass_reads(bundle)])


def _dump_commands(bundle: Bundle) -> list[Sign]:
    signs = []
    for process in bundle.processes():
        if _DUMPS_DIRECTORY.search(process.command):
            summary = f"{process.image} copied the directory's database"
            signs.append(_of(process, "credential dumping", "T1003.003", summary))
        elif _DUMPS_LSASS.search(process.command):
            summary = f"{process.image} read the memory of LSASS"
            signs.append(_of(process, "credential dumping", "T1003.001", summary))
    return signs


def _lsass_reads(bundle: Bundle) -> list[Sign]:
    reads = [event for event in bundle.of("Sysmon", 10) if _reads_lsass(event)]
    routine = _widespread((event.data.get("SourceImage", "").lower(), event.host) for event in reads)
    return [
        Sign(
            kind="credential dumping",
            technique="T1003.001",
            host=event.host,
            account="",
            time=event.time,
            summary=f"{program(event.data.get('SourceImage', ''))} read the memory of LSASS",
            lines=[event.line],
        )
        for event in reads
        if not (_is_installed(event) and event.data["SourceImage"].lower() in routine)
    ]


def _reads_lsass(event: Event) -> bool:
    try:
        access = int(event.data.get("GrantedAccess", "0"), 16)
    except ValueError:
        return False
    return program(event.data.get("TargetImage", "")) == "lsass.exe" and bool(access & _READ_MEMORY)


def _is_installed(event: Event) -> bool:
    """Where only an administrator writes, and no interpreter that others can use."""
    path = event.data.get("SourceImage", "").lower()
    folders = ("c:\\program files", "c:\\programdata\\microsoft\\windows defender\\")
    return path.startswith(folders) and program(path) not in _SHELLS


def contacts(bundle: Bundle) -> list[Sign]:
    """Connections and look-ups of what the indicator table is sure about; by a browser it is a weak sign."""
    known = {row["indicator"].lower(): row for row in bundle.indicators if row.get("confidence") == "high"}
    signs = []
    for event in bundle.of("Sysmon", 1, 3, 22):
        row = next((known[value] for value in values_of(event) if value in known), None)
        if row is None:
            continue
        image = program(event.data.get("Image", ""))
        kind = "known file" if event.number == 1 else "contact with a known threat"
        signs.append(
            Sign(
                kind=kind,
                technique="T1204.002" if event.number == 1 else "T1071.001",
                host=event.host,
                account=_person(event.account("User")),
                time=event.time,
                summary=f"{image}: {row['indicator']} of {row['threat'] or 'an unnamed threat'}",
                lines=[event.line],
                strong=image not in _BROWSERS,
            )
        )
    return merged(signs)


def values_of(event: Event) -> list[str]:
    """What in an event may be an indicator: a name, an address, a hash; lower case."""
    data = event.data
    found = [data.get("QueryName", ""), data.get("DestinationIp", "")]
    found += [part.partition("=")[2] for part in data.get("Hashes", "").split(",")]
    return [value.lower() for value in found if value]


def archives(bundle: Bundle) -> list[Sign]:
    """Files packed under a password: what is taken away is often packed first."""
    return merged(
        [
            _of(
                process,
                "archive under a password",
                "T1560.001",
                f"{process.image} packed files",
                strong=False,
            )
            for process in bundle.processes()
            if _ARCHIVE.search(process.command)
        ]
    )


def merged(signs: Iterable[Sign]) -> list[Sign]:
    """Signs of one kind and technique on one host within two minutes as one, with all their lines."""
    kept: list[Sign] = []
    for sign in sorted(signs, key=lambda one: one.time):
        before = next((one for one in reversed(kept) if _same(one, sign)), None)
        if before is None:
            kept.append(sign)
            continue
        lines = list(dict.fromkeys([*before.lines, *sign.lines]))
        merged_sign = before.model_copy(
            update={
                "lines": lines,
                "account": before.account or sign.account,
                "strong": before.strong or sign.strong,
            }
        )
        kept[kept.index(before)] = merged_sign
    return kept


def _same(one: Sign, other: Sign) -> bool:
    close = abs(one.time - other.time) <= _TOGETHER
    return close and (one.kind, one.technique, one.host) == (other.kind, other.technique, other.host)


def _of(process: Process, kind: str, technique: str, summary: str, *, strong: bool = True) -> Sign:
    return Sign(
        kind=kind,
        technique=technique,
        host=process.event.host,
        account=_person(process.account),
        time=process.event.time,
        summary=summary,
        lines=[process.event.line],
        strong=strong,
    )


def _person(account: str) -> str:
    return "" if account in ("system", "", "-") or account.endswith("$") else account


def _widespread(pairs: Iterable[tuple[str, str]]) -> set[str]:
    """What is seen on so many hosts that it is routine."""
    hosts: dict[str, set[str]] = {}
    for what, host in pairs:
        hosts.setdefault(what, set()).add(host)
    return {what for what, seen in hosts.items() if len(seen) >= SPREAD}
