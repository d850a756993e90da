"""Each rule of the detection on a few lines written by hand: what it takes, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.incident_response import logs, movement, signs
from examples.incident_response.findings import findings

HOSTS = "host,address,role,owner\n" + "".join(
    f"{name},10.0.0.{n},workstation,u{n}\n" for n, name in enumerate(("A", "B", "C", "D", "E"), 1)
)
INDICATORS = (
    "indicator,kind,confidence,threat,note\nbad.example,domain,high,Lynx,x\nmeh.example,domain,low,,x\n"
)
EVENT = '{"TimeCreated": "2026-03-02T00:00:00Z", "Computer": "A", "Channel": "System", '
LSASS = "C:\\Windows\\System32\\lsass.exe"
WORD = "C:\\Program Files\\Office\\WINWORD.EXE"
SHELL = "C:\\Windows\\System32\\cmd.exe"


class Logs:
    """Writes a bundle line by line; the second of an event is its place in the day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "hosts.csv").write_text(HOSTS)
        (folder / "indicators.csv").write_text(INDICATORS)
        (folder / "security.jsonl").write_text("")

    def add(self, second: int, host: str, channel: str, number: int, **data: Any) -> None:
        time = f"2026-03-02T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.0000000Z"
        record = {
            "TimeCreated": time,
            "Computer": f"{host}.corp.example",
            "Channel": channel,
            "EventID": number,
        }
        with (self.folder / f"{channel.lower()}.jsonl").open("a") as file:
            file.write(json.dumps({**record, "EventData": data}) + "\n")

    def process(
        self, second: int, host: str, image: str, command: str, parent: str, user: str = "u1"
    ) -> None:
        data = {"Image": image, "CommandLine": command, "ParentImage": parent, "User": f"CORP\\{user}"}
        self.add(second, host, "Sysmon", 1, **data, ProcessId="8", ParentProcessId="4")

    def compromised(self, second: int, host: str) -> None:
        self.process(second, host, SHELL, "cmd.exe /c start", WORD)

    def logon(self, second: int, host: str, source: int, account: str = "adm", kind: int = 3) -> None:
        data = {"TargetUserName": account, "LogonType": str(kind), "IpAddress": f"10.0.0.{source}"}
        self.add(second, host, "Security", 4624, **data)

    def wmi(self, second: int, host: str, source: int, account: str = "adm") -> None:
        self.logon(second, host, source, account)
        self.process(second + 1, host, SHELL, "cmd.exe", "C:\\Windows\\System32\\wbem\\WmiPrvSE.exe", account)

    def service(self, second: int, host: str, source: int, account: str = "adm") -> None:
        self.logon(second, host, source, account)
        share = {"SubjectUserName": account, "IpAddress": f"10.0.0.{source}", "ShareName": "\\\\*\\ADMIN$"}
        self.add(second + 1, host, "Security", 5140, **share)
        self.add(second + 2, host, "System", 7045, ServiceName="X", ImagePath="%SystemRoot%\\x.exe")


@pytest.fixture
def written(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


def _kinds(written: Logs) -> list[tuple[str, str, bool]]:
    return [(one.kind, one.host, one.strong) for one in signs.all_signs(logs.read(written.folder))]


def _edges(written: Logs) -> list[tuple[str, str, str]]:
    return [(step.source, step.target, step.technique) for step in findings(written.folder).path]


# Signs.


def test_a_document_that_starts_a_shell_is_a_sign_and_a_printer_helper_is_none(written: Logs) -> None:
    written.process(1, "A", SHELL, "cmd.exe /c x", WORD)
    written.process(1, "B", "C:\\Windows\\splwow64.exe", "splwow64.exe 8192", WORD)
    assert _kinds(written) == [("document ran a script", "A", True)]


def test_an_encoded_command_is_a_sign_unless_many_hosts_run_one_of_that_parent(written: Logs) -> None:
    command = "powershell.exe -enc SQBFAFgAIAAoAE4AZQB3AC0ATwBiAA=="
    for host in "ABC":
        written.process(1, host, "powershell.exe", command, "C:\\Program Files\\M\\agent.exe")
    written.process(5, "D", "powershell.exe", command, "C:\\Users\\u\\x.exe")
    assert _kinds(written) == [("encoded command", "D", True)]


@pytest.mark.parametrize(
    "command",
    [
        "rundll32.exe C:\\Windows\\System32\\comsvcs.dll, MiniDump 624 C:\\x.dmp full",
        "rundll32.exe comsvcs.dll MiniDump 624 x full",
        "pd64.exe -accepteula -ma lsass.exe x.dmp",
        "x.exe SEKURLSA::logonpasswords exit",
    ],
)
def test_commands_that_dump_lsass_are_signs(written: Logs, command: str) -> None:
    written.process(1, "A", "C:\\x.exe", command, SHELL)
    assert _kinds(written) == [("credential dumping", "A", True)]


@pytest.mark.parametrize("command", ["procdump.exe -ma w3wp.exe", "notepad.exe lsass.txt", "comsvcs.dll"])
def test_commands_that_dump_something_else_are_none(written: Logs, command: str) -> None:
    written.process(1, "A", "C:\\x.exe", command, SHELL)
    assert _kinds(written) == []


def test_the_directorys_database_copied_is_a_sign_of_its_own(written: Logs) -> None:
    written.process(1, "A", "ntdsutil.exe", 'ntdsutil "ac i ntds" ifm "create full c:\\x" q q', SHELL)
    (sign,) = signs.all_signs(logs.read(written.folder))
    assert sign.technique == "T1003.003"


def _opens_lsass(written: Logs, host: str, image: str, access: str) -> None:
    written.add(1, host, "Sysmon", 10, SourceImage=image, TargetImage=LSASS, GrantedAccess=access)


def test_who_reads_lsass_is_a_sign_unless_installed_on_many_hosts(written: Logs) -> None:
    for host in "ABC":
        _opens_lsass(written, host, "C:\\Program Files\\EDR\\sensor.exe", "0x1410")
        _opens_lsass(written, host, "C:\\Windows\\Temp\\spread.exe", "0x1410")
        _opens_lsass(written, host, "C:\\Windows\\System32\\wininit.exe", "0x1000")
    _opens_lsass(written, "D", "C:\\Program Files\\New\\tool.exe", "0x1fffff")
    _opens_lsass(written, "E", "C:\\x.exe", "nonsense")
    assert _kinds(written) == [("credential dumping", host, True) for host in "ABCD"]


def test_only_sure_indicators_count_and_a_browser_only_a_little(written: Logs) -> None:
    written.add(1, "A", "Sysmon", 22, QueryName="BAD.example", Image="C:\\x.exe")
    written.add(1, "B", "Sysmon", 22, QueryName="bad.example", Image="C:\\chrome.exe")
    written.add(1, "C", "Sysmon", 22, QueryName="meh.example", Image="C:\\x.exe")
    kind = "contact with a known threat"
    assert _kinds(written) == [(kind, "A", True), (kind, "B", False)]
    assert findings(written.folder).hosts == ["A"]


def test_signs_close_together_are_one_with_all_their_lines(written: Logs) -> None:
    for second in (1, 60, 120, 900):
        written.add(second, "A", "Sysmon", 22, QueryName="bad.example", Image="C:\\x.exe")
    found = signs.all_signs(logs.read(written.folder))
    assert [len(sign.lines) for sign in found] == [3, 1]


# Movement.


@pytest.mark.parametrize("way", ["wmi", "service"])
def test_a_use_from_a_compromised_host_is_a_step_and_from_another_is_not(written: Logs, way: str) -> None:
    written.compromised(100, "A")
    getattr(written, way)(200, "B", 1)
    getattr(written, way)(300, "E", 4)
    assert [edge[:2] for edge in _edges(written)] == [("A", "B")]


def test_steps_lead_on_in_the_order_of_time(written: Logs) -> None:
    written.wmi(50, "B", 1)  # before A was compromised
    written.compromised(100, "A")
    written.wmi(150, "D", 3)  # before C was reached
    written.service(200, "B", 1)
    written.wmi(300, "C", 2)
    assert [edge[:2] for edge in _edges(written)] == [("A", "B"), ("B", "C")]


def test_a_logon_alone_is_no_step(written: Logs) -> None:
    written.compromised(100, "A")
    written.logon(200, "B", 1)
    assert _edges(written) == []
    assert findings(written.folder).hosts == ["A"]


def test_a_program_as_someone_else_or_much_later_does_not_belong_to_the_logon(written: Logs) -> None:
    written.compromised(100, "A")
    written.logon(200, "B", 1, "adm")
    written.process(201, "B", SHELL, "cmd.exe", "C:\\WmiPrvSE.exe", "other")
    written.process(400, "B", SHELL, "cmd.exe", "C:\\WmiPrvSE.exe", "adm")
    assert _edges(written) == []


def test_what_a_host_did_to_many_before_is_its_routine(written: Logs) -> None:
    for n, host in enumerate("BCD"):
        written.service(10 + 60 * n, host, 1, "svc-deploy")
    written.compromised(1000, "A")
    written.service(1100, "E", 1, "svc-deploy")
    assert _edges(written) == []
    written.service(1200, "E", 1, "adm")
    assert _edges(written) == [("A", "E", "T1021.002")], "as another account it is no routine"


def test_ones_own_remote_desktop_is_work_and_anothers_is_a_step(written: Logs) -> None:
    written.logon(10, "A", 1, "u1", kind=2)
    written.compromised(100, "A")
    written.logon(200, "B", 1, "u1", kind=10)
    written.logon(300, "C", 1, "adm", kind=10)
    assert _edges(written) == [("A", "C", "T1021.001")]


def test_a_new_logon_with_other_credentials_is_a_stolen_hash(written: Logs) -> None:
    written.compromised(100, "A")
    written.logon(198, "A", 1, "adm", kind=9)
    written.wmi(200, "B", 1)
    (step,) = findings(written.folder).path
    assert step.by_hash
    assert "T1550.002" in findings(written.folder).techniques
    assert len(step.lines) == 3


def test_a_failed_logon_from_a_compromised_host_is_told_and_no_step(written: Logs) -> None:
    written.compromised(100, "A")
    for second, source in ((50, 1), (200, 1), (300, 2)):
        written.add(second, "B", "Security", 4625, TargetUserName="adm", IpAddress=f"10.0.0.{source}")
    found = findings(written.folder)
    assert not found.lateral_movement
    assert found.failed == ["security.jsonl:2"]


def test_several_traces_of_one_step_are_one_step(written: Logs) -> None:
    written.compromised(100, "A")
    written.wmi(200, "B", 1)
    written.process(210, "B", SHELL, "cmd.exe", "C:\\WmiPrvSE.exe", "adm")
    assert len(_edges(written)) == 1
    assert movement.TECHNIQUES[_edges(written)[0][2]] == "WMI"


# Reading.


@pytest.mark.parametrize(
    "line",
    [
        *("no json", "[]", "{}", "3", "null", '{"TimeCreated": 3}', "\ufffd", "[" * 100_000),
        EVENT.replace("2026-03-02T00:00:00Z", "soon") + '"EventID": 1, "EventData": {}}',
        EVENT + '"EventID": "x", "EventData": {}}',
        EVENT + '"EventID": 1, "EventData": []}',
    ],
)
def test_a_line_that_is_no_event_is_told_and_the_rest_is_read(written: Logs, line: str) -> None:
    written.compromised(100, "A")
    (written.folder / "security.jsonl").write_text(f"\n{line}\n")
    found = findings(written.folder)
    assert found.unreadable == ["security.jsonl:2"]
    assert found.hosts == ["A"]


def test_lines_are_counted_as_files_count_them(written: Logs) -> None:
    written.add(1, "A", "Sysmon", 22, QueryName="a\u2028b\x85c\x0bd", Image="C:\\x.exe")
    path = written.folder / "sysmon.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False) + "\n", encoding="utf-8")
    written.compromised(100, "A")
    assert [sign.lines for sign in signs.all_signs(logs.read(written.folder))] == [["sysmon.jsonl:2"]]


@given(name=st.text(max_size=80))
def test_names_that_reach_a_model_are_only_names(name: str) -> None:
    for plain in (logs.plain_account(name), logs.program(name), logs.plain_name(name)):
        assert len(plain) <= 48
        assert not set(plain) & set(" \n\r\t<>[]{}|`\"':;!?#=\u200b\u202e")


@settings(max_examples=25)
@given(
    data=st.dictionaries(
        st.sampled_from(
            ["Image", "ParentImage", "CommandLine", "User", "GrantedAccess", "IpAddress", "LogonType"]
        ),
        st.text(max_size=12) | st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    ),
    number=st.sampled_from([1, 3, 10, 22, 4624, 4648, 4688, 5140, 7045]),
    channel=st.sampled_from(["Security", "Sysmon", "System"]),
)
def test_no_field_breaks_the_detection(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any], number: int, channel: str
) -> None:
    written = Logs(tmp_path_factory.mktemp("odd"))
    written.add(1, "A", channel, number, **data)
    assert findings(written.folder).unreadable == []
