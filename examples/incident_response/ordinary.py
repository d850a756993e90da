"""An ordinary day in the company: logons, mail, shares, updates, scans, backups and administrators at work.

Much of it looks like an attack to a careless eye: services installed from another host, scripts in base64,
programs that read LSASS, an analyst who looks up a hostile domain. None of it is. Knows nothing of attacks.
"""

from __future__ import annotations

import random

from examples.incident_response.company import Company, Host
from examples.incident_response.recorder import Recorder

HOUR = 3600.0
DAY = 12 * HOUR
"""Second 0 is six in the morning."""

_OFFICE = "C:\\Program Files\\Microsoft Office\\root\\Office16\\"
_CHROME = "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe"
_EXPLORER = "C:\\Windows\\explorer.exe"
_PROGRAMS = (
    (_OFFICE + "WINWORD.EXE", '"WINWORD.EXE" /n "C:\\Users\\{user}\\Documents\\minutes.docx"', _EXPLORER),
    (_OFFICE + "EXCEL.EXE", '"EXCEL.EXE" "C:\\Users\\{user}\\Documents\\budget.xlsx"', _EXPLORER),
    (_OFFICE + "OUTLOOK.EXE", '"OUTLOOK.EXE"', _EXPLORER),
    (_CHROME, f'"{_CHROME}" --type=renderer', _CHROME),
    ("splwow64.exe", "splwow64.exe 12288", _OFFICE + "WINWORD.EXE"),
    ("svchost.exe", "svchost.exe -k netsvcs -p -s Schedule", "services.exe"),
    ("taskhostw.exe", "taskhostw.exe KEYROAMING", "svchost.exe"),
    ("notepad.exe", "notepad.exe C:\\Users\\{user}\\notes.txt", _EXPLORER),
    ("conhost.exe", "conhost.exe 0xffffffff -ForceV1", "cmd.exe"),
)
_NAMES = (
    *("www.example.com", "mail.corp.example", "intranet.corp.example", "updates.example.net"),
    *("static.example.net", "video.example.org", "login.example.com", "time.example.net"),
)
_OUTSIDE = ("192.0.2.33", "192.0.2.12", "198.51.100.24", "198.51.100.80", "203.0.113.5", "192.0.2.140")
_AGENT = "C:\\Program Files\\Example Management\\agent.exe"
_SENSOR = "C:\\Program Files\\Example EDR\\sensor.exe"
_DEFENDER = "C:\\ProgramData\\Microsoft\\Windows Defender\\Platform\\4.18\\MsMpEng.exe"
_INVENTORY = "RwBlAHQALQBDAGkAbQBJAG4AcwB0AGEAbgBjAGUAIABXAGkAbgAzADIAXwBCAEkATwBTAA=="
"""Get-CimInstance Win32_BIOS, as PowerShell takes it in base64."""


class OrdinaryDay:
    """Writes the day.

    Args:
        company: Where.
        recorder: What writes.
    """

    def __init__(self, company: Company, recorder: Recorder) -> None:
        self.company = company
        self.recorder = recorder
        self.chance: random.Random = recorder.chance
        self.controller = company.hosts["DC-01"]

    def write(self) -> None:
        """All of it."""
        for host in self.company.workstations:
            self._workstation(host)
        for host in self.company.servers:
            self._server(host)
        self._scans()
        self._deployments()
        self._backups()
        self._administrators()
        self._mistakes()
        self._analyst()

    def _moments(self, count: int, begin: float = 2 * HOUR, end: float = 11.5 * HOUR) -> list[float]:
        return sorted(self.chance.uniform(begin, end) for _ in range(count))

    def _workstation(self, host: Host) -> None:
        user, record = host.owner, self.recorder
        morning = self.chance.uniform(1.5, 3) * HOUR
        record.first_ticket(morning - 0.2, self.controller, user, host)
        record.logon(morning, host, user, 2)
        record.process(morning + 2, host, _EXPLORER, "C:\\Windows\\explorer.exe", "userinit.exe", user)
        for at in self._moments(3, morning + 60):
            record.logon(at, host, user, 7)
        for at in self._moments(self.chance.randrange(45, 65), morning + 60):
            image, command, parent = self.chance.choice(_PROGRAMS)
            record.process(at, host, image, command.format(user=user), parent, user)
        for at in self._moments(self.chance.randrange(18, 30), morning + 60):
            self._looks_up(at, host, user)
        for at in self._moments(self.chance.randrange(4, 9), morning + 60):
            self._opens_share(at, host, user)
        self._background(host, user)

    def _looks_up(self, at: float, host: Host, user: str) -> None:
        name, address = self.chance.choice(_NAMES), self.chance.choice(_OUTSIDE)
        self._query(at, host, name, address, _CHROME)
        self._connects(at + 0.1, host, user, _CHROME, address, 443)

    def _query(self, at: float, host: Host, name: str, address: str, image: str) -> None:
        self.recorder.sysmon(at, host, 22, QueryName=name, QueryStatus="0", QueryResults=address, Image=image)

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

    def _opens_share(self, at: float, host: Host, user: str) -> None:
        server = self.company.hosts[self.chance.choice(("FS-01", "FS-02"))]
        ntlm = self.chance.random() < 0.2
        if ntlm:
            self.recorder.validated(at - 0.1, self.controller, user, host)
        else:
            self.recorder.ticket(at - 0.1, self.controller, user, f"{server.name}$", host)
        logon = self.recorder.logon(at, server, user, 3, host, ntlm=ntlm)
        self.recorder.share(at + 0.1, server, user, host, self.chance.choice(("Public", "Teams")), logon)

    def _background(self, host: Host, user: str) -> None:
        record = self.recorder
        for at in self._moments(2):
            record.process(
                at,
                host,
                "powershell.exe",
                f"powershell.exe -NoProfile -EncodedCommand {_INVENTORY}",
                _AGENT,
                "SYSTEM",
            )
        for at, (image, access) in zip(
            self._moments(3),
            ((_DEFENDER, "0x101000"), (_SENSOR, "0x1410"), ("wininit.exe", "0x1000")),
            strict=True,
        ):
            self._reads_lsass(at, host, image, access)
        for at in self._moments(3):
            target = f"C:\\Users\\{user}\\AppData\\Local\\Temp\\~{self.chance.randrange(10**6)}.tmp"
            record.sysmon(at, host, 11, Image=_CHROME, TargetFilename=target)
        for at in self._moments(2):
            key = "HKU\\S-1-5-21\\Software\\Microsoft\\Windows\\CurrentVersion\\Explorer\\RecentDocs"
            record.sysmon(at, host, 13, EventType="SetValue", Image=_EXPLORER, TargetObject=key, Details="x")

    def _reads_lsass(self, at: float, host: Host, image: str, access: str) -> None:
        self.recorder.sysmon(
            at,
            host,
            10,
            SourceImage=image if "\\" in image else f"C:\\Windows\\System32\\{image}",
            TargetImage="C:\\Windows\\System32\\lsass.exe",
            GrantedAccess=access,
            CallTrace="C:\\Windows\\SYSTEM32\\ntdll.dll+9d4c4|C:\\Windows\\System32\\KERNELBASE.dll+2c13e",
        )

    def _server(self, host: Host) -> None:
        service = {"SQL-01": "svc-sql", "WEB-01": "svc-web"}.get(host.name, "SYSTEM")
        for at in self._moments(self.chance.randrange(6, 12), 0, DAY):
            self.recorder.logon(at, host, service, 5, process="C:\\Windows\\System32\\services.exe")
        for at in self._moments(self.chance.randrange(30, 50), 0, DAY):
            self.recorder.process(
                at, host, "svchost.exe", "svchost.exe -k netsvcs -p", "services.exe", "SYSTEM"
            )
        for at in self._moments(4, 0, DAY):
            self.recorder.process(
                at, host, "wmiprvse.exe", "wmiprvse.exe -Embedding", "svchost.exe", "SYSTEM"
            )
        self._background(host, "Public")

    def _scans(self) -> None:
        """The scanner looks in everywhere, twice; on some hosts its password is an old one."""
        scanner = self.company.hosts["SCAN-01"]
        for begin in (1 * HOUR, self.chance.uniform(5, 8) * HOUR):
            for number, host in enumerate(self.company.hosts.values()):
                at = begin + 20 * number
                if host is scanner:
                    continue
                if self.chance.random() < 0.15:
                    self.recorder.failed_logon(at, host, "svc-scan", scanner)
                    continue
                self.recorder.validated(at, self.controller, "svc-scan", scanner)
                logon = self.recorder.logon(at, host, "svc-scan", 3, scanner, privileged=True, ntlm=True)
                self.recorder.share(at + 0.3, host, "svc-scan", scanner, "IPC$", logon)

    def _deployments(self) -> None:
        """Software is pushed by a service that is installed on each workstation and removed again."""
        source = self.company.hosts["DEP-01"]
        for begin in (2.5 * HOUR, self.chance.uniform(7, 9) * HOUR):
            for number, host in enumerate(self.chance.sample(self.company.workstations, 7)):
                at = begin + 45 * number
                self.recorder.explicit(
                    at - 1, source, "svc-deploy", "svc-deploy", host, "C:\\PDQ\\PDQDeploy.exe"
                )
                self._service_from(at, source, host, "svc-deploy", "PDQDeployRunner-1", "PDQDeployRunner.exe")

    def _service_from(
        self,
        at: float,
        source: Host,
        host: Host,
        account: str,
        name: str,
        program: str,
        command: str = "msiexec.exe",
    ) -> None:
        record = self.recorder
        record.ticket(at - 0.2, self.controller, account, f"{host.name}$", source)
        logon = record.logon(at, host, account, 3, source, privileged=True)
        record.share(at + 0.4, host, account, source, "ADMIN$", logon)
        record.service(at + 1.5, host, name, f"%SystemRoot%\\{program}")
        record.process(at + 2, host, f"C:\\Windows\\{program}", program, "services.exe", "SYSTEM")
        record.process(at + 3, host, command, f"{command} /quiet", f"C:\\Windows\\{program}", "SYSTEM")

    def _backups(self) -> None:
        source = self.company.hosts["BKP-01"]
        for number, host in enumerate(self.company.servers):
            if host is source:
                continue
            at = 0.5 * HOUR + 240 * number
            self.recorder.ticket(at - 0.2, self.controller, "svc-backup", f"{host.name}$", source)
            logon = self.recorder.logon(at, host, "svc-backup", 3, source, privileged=True)
            for share in ("C$", "ADMIN$"):
                self.recorder.share(at + 0.5, host, "svc-backup", source, share, logon)

    def _administrators(self) -> None:
        """From the administration host: remote desktops, WMI, WinRM, and PsExec once in a while."""
        source, record = self.company.hosts["ADM-01"], self.recorder
        targets = [host for host in self.company.servers if host is not source]
        for at in self._moments(8):
            admin, host = self.chance.choice(self.company.helpdesk), self.chance.choice(targets)
            self.remote_desktop(at, source, host, admin)
        for at in self._moments(6):
            self.remote_desktop(at, source, self.chance.choice(self.company.workstations), self.helper())
        for at in self._moments(4):
            host, admin = self.chance.choice(self.company.workstations), self.helper()
            record.logon(at, host, admin, 3, source, privileged=True)
            record.process(at + 1, host, "cmd.exe", "cmd.exe /c ipconfig /all", "wmiprvse.exe", admin)
        for at in self._moments(3):
            host, admin = self.chance.choice(targets), self.chance.choice(self.company.domain_admins)
            record.logon(at, host, admin, 3, source, privileged=True)
            record.process(
                at + 1, host, "wsmprovhost.exe", "wsmprovhost.exe -Embedding", "svchost.exe", admin
            )
            record.process(
                at + 3, host, "powershell.exe", "powershell.exe Get-Service", "wsmprovhost.exe", admin
            )
        for at in self._moments(2):
            host = self.chance.choice(targets)
            self._service_from(at, source, host, self.helper(), "PSEXESVC", "PSEXESVC.exe", "cmd.exe")
        for user in self.chance.sample(self.company.workstations, 6):
            at = self.chance.uniform(3, 11) * HOUR
            record.logon(at, self.company.hosts["APP-01"], user.owner, 10, user)

    def helper(self) -> str:
        """One of the helpdesk."""
        return self.chance.choice(self.company.helpdesk)

    def remote_desktop(self, at: float, source: Host, host: Host, admin: str) -> None:
        """An administrator opens a remote desktop."""
        process = "C:\\Windows\\System32\\mstsc.exe"
        self.recorder.explicit(at - 1, source, admin, admin, host, process)
        self.recorder.ticket(at - 0.3, self.controller, admin, f"{host.name}$", source)
        self.recorder.logon(at, host, admin, 10, source, privileged=True)
        self.recorder.process(at + 4, host, "mmc.exe", "mmc.exe services.msc", _EXPLORER, admin)

    def _mistakes(self) -> None:
        """Mistyped passwords, and a drive that is mapped with an old one and tries for ever."""
        for at in self._moments(8):
            host = self.chance.choice(self.company.workstations)
            self.recorder.failed_logon(at, host, host.owner, host, 2)
        host = self.chance.choice(self.company.workstations)
        for at in self._moments(15):
            self.recorder.failed_logon(at, self.company.hosts["FS-02"], host.owner, host)
        procdump = "C:\\Tools\\procdump.exe"
        self.recorder.process(
            5 * HOUR,
            self.company.hosts["WEB-01"],
            procdump,
            "procdump.exe -ma w3wp.exe",
            "cmd.exe",
            self.helper(),
        )

    def _analyst(self) -> None:
        """Someone reads about a threat and looks the names up, in a browser."""
        host = self.company.hosts["ADM-01"]
        for number, name in enumerate(("cdn-metrics.example", "files-relay.example")):
            self._query(4 * HOUR + 30 * number, host, name, "203.0.113.64", _CHROME)
