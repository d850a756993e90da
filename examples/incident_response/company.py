"""A made-up company: its hosts, its accounts, and who works where. Knows nothing of what happens there."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from pathlib import Path

DOMAIN = "CORP"
SUFFIX = "corp.example"

_LISTED = (
    "amber brook chen dara eli faye gita hugo ines jonas kira leon maya nils ole petra quinn rosa sami tove "
    "uma viktor wen yara zeno"
)
NAMES = _LISTED.split()

SERVERS = {
    "DC-01": "domain controller",
    "FS-01": "file server",
    "FS-02": "file server",
    "SQL-01": "database server",
    "WEB-01": "web server",
    "APP-01": "terminal server",
    "BKP-01": "backup server",
    "DEP-01": "software deployment",
    "SCAN-01": "vulnerability scanner",
    "ADM-01": "administration host",
}
MANAGEMENT = ("BKP-01", "DEP-01", "SCAN-01", "ADM-01")
"""Hosts whose daily work looks like movement between hosts. The planted path never leads over them: from
there, an attacker with an administrator's account and tools could not be told from the administrator."""


@dataclass(frozen=True)
class Host:
    """A computer.

    Attributes:
        name: Without its domain.
        address: Its IPv4 address.
        role: What it is for.
        owner: Whose workstation it is; empty for a server.
        sysmon: Whether Sysmon runs there; elsewhere processes are only in the Security log.
    """

    name: str
    address: str
    role: str
    owner: str = ""
    sysmon: bool = True

    @property
    def full_name(self) -> str:
        """As events name it."""
        return f"{self.name}.{SUFFIX}"


@dataclass(frozen=True)
class Company:
    """Hosts and accounts.

    Attributes:
        hosts: By name.
        users: Ordinary accounts, one for each workstation.
        helpdesk: Administrators of workstations and servers.
        domain_admins: Administrators of everything.
        services: Accounts that programs run as.
    """

    hosts: dict[str, Host]
    users: tuple[str, ...]
    helpdesk: tuple[str, ...]
    domain_admins: tuple[str, ...]
    services: tuple[str, ...]

    @property
    def workstations(self) -> list[Host]:
        """In order of their names."""
        return [host for host in self.hosts.values() if host.owner]

    @property
    def servers(self) -> list[Host]:
        """In the order of `SERVERS`."""
        return [host for host in self.hosts.values() if not host.owner]

    def write(self, folder: Path) -> None:
        """What any company knows of itself: `hosts.csv` and `accounts.csv`."""
        hosts = [
            [h.name, h.address, h.role, h.owner, "yes" if h.sysmon else "no"] for h in self.hosts.values()
        ]
        _write(folder / "hosts.csv", ["host", "address", "role", "owner", "sysmon"], hosts)
        kinds = {"user": self.users, "helpdesk": self.helpdesk, "domain administrator": self.domain_admins}
        kinds["service"] = self.services
        accounts = [[name, kind] for kind, names in kinds.items() for name in names]
        _write(folder / "accounts.csv", ["account", "kind"], accounts)


def founded(chance: random.Random, workstations: int = 18) -> Company:
    """A company drawn by chance."""
    names = chance.sample(NAMES, workstations + 5)
    users = tuple(f"{name}.{chance.choice('abdfhklmprstvw')}" for name in names[:workstations])
    hosts: dict[str, Host] = {}
    for number, (name, role) in enumerate(SERVERS.items()):
        # Not every server has Sysmon; the administration host and the domain controller do.
        sysmon = name in ("DC-01", "ADM-01") or chance.random() < 0.6
        hosts[name] = Host(name, f"10.20.0.{10 + number}", role, sysmon=sysmon)
    for number, user in enumerate(users):
        name = f"WS-{chance.randrange(10)}{number + 10}"
        hosts[name] = Host(name, f"10.20.4.{20 + number}", "workstation", owner=user)
    helpdesk = tuple(f"adm.{name}" for name in names[workstations : workstations + 3])
    domain_admins = tuple(f"da.{name}" for name in names[workstations + 3 :])
    services = ("svc-deploy", "svc-scan", "svc-backup", "svc-sql", "svc-web")
    return Company(hosts, users, helpdesk, domain_admins, services)


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows])
