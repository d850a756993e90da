"""Generated bundles: a seed gives the same files again, events are Windows', the truth is kept outside."""

from __future__ import annotations

import csv
import ipaddress
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from examples.incident_response.generate import INDICATORS, generate
from examples.incident_response.logs import LOGS
from tests.policy.tree import ROOT

DOCUMENTATION = [ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder, truth = generate(11, tmp_path_factory.mktemp("incident"))
    return folder, json.loads(truth.read_text(encoding="utf-8"))


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for name in LOGS for line in (folder / name).read_text().splitlines()]


def test_a_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path) -> None:
    first, second, other = (
        generate(seed, tmp_path / name)[0] for seed, name in ((5, "a"), (5, "b"), (6, "c"))
    )
    files = sorted(path.name for path in first.iterdir())
    assert [path.name for path in sorted(second.iterdir())] == files
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
    assert (first / "security.jsonl").read_bytes() != (other / "security.jsonl").read_bytes()


def test_there_are_a_few_thousand_events_of_many_kinds(bundle: tuple[Path, dict[str, Any]]) -> None:
    kinds = Counter((record["Channel"], record["EventID"]) for record in _records(bundle[0]))
    assert 2500 <= kinds.total() <= 6000
    security = {4624, 4625, 4648, 4672, 4688, 4768, 4769, 4776, 5140}
    assert {number for channel, number in kinds if channel == "Security"} == security
    assert {number for channel, number in kinds if channel == "Sysmon"} == {1, 3, 10, 11, 13, 22}
    assert kinds["System", 7045] > 5


def test_the_attack_is_a_small_part_of_the_day(bundle: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = bundle
    planted = sum(map(len, truth["lines"].values()))
    assert 20 < planted < 0.05 * len(_records(folder))
    noise = [r for r in _records(folder) if r["EventID"] == 7045 and "PDQ" in r["EventData"]["ServiceName"]]
    assert noise, "services are installed from afar on ordinary days, too"


def test_the_truth_is_not_in_the_folder_the_agents_may_read(bundle: tuple[Path, dict[str, Any]]) -> None:
    folder, truth = bundle
    names = {path.name for path in folder.iterdir()}
    assert names == {*LOGS, "alert.json", "hosts.csv", "accounts.csv", "indicators.csv"}
    text = "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
    assert "lateral_movement" not in text
    assert "planted" not in text
    assert truth["path"]


def test_the_path_hangs_together(bundle: tuple[Path, dict[str, Any]]) -> None:
    _, truth = bundle
    reached = {truth["hosts"][0]}
    for step in truth["path"]:
        assert step["source"] in reached
        assert step["target"] not in reached
        reached.add(step["target"])
    assert reached == set(truth["hosts"])
    assert {step["technique"] for step in truth["path"]} <= set(truth["techniques"])
    assert all(re.fullmatch(r"T\d{4}(\.\d{3})?", number) for number in truth["techniques"])


def test_all_addresses_outside_are_for_documentation(bundle: tuple[Path, dict[str, Any]]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in bundle[0].iterdir())
    for found in set(re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text)):
        address = ipaddress.ip_address(found)
        local = address in ipaddress.ip_network("10.20.0.0/16") or address.is_loopback
        assert local or any(address in net for net in DOCUMENTATION), found


def test_the_indicator_table_names_nothing_that_exists() -> None:
    with INDICATORS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 10
    for row in rows:
        if row["kind"] == "address":
            assert any(ipaddress.ip_address(row["indicator"]) in net for net in DOCUMENTATION)
        elif row["kind"] == "domain":
            assert row["indicator"].endswith((".example", ".example.com", ".example.net", ".example.org"))
        else:
            assert re.fullmatch(r"[0-9A-F]{64}", row["indicator"])


def test_a_days_lines_arrive_a_little_out_of_order(bundle: tuple[Path, dict[str, Any]]) -> None:
    lines = (bundle[0] / "sysmon.jsonl").read_text(encoding="utf-8").splitlines()
    times = [json.loads(line)["TimeCreated"] for line in lines]
    assert times != sorted(times)


@pytest.mark.parametrize("scenario", ["foothold", "none"])
def test_without_movement_the_truth_has_no_path(tmp_path: Path, scenario: Any) -> None:
    _, path = generate(3, tmp_path, scenario=scenario)
    truth = json.loads(path.read_text(encoding="utf-8"))
    assert truth["path"] == []
    assert not truth["lateral_movement"]
    assert bool(truth["hosts"]) == (scenario == "foothold")
    assert bool(sum(map(len, truth["lines"].values()))) == (scenario == "foothold")


def test_a_bundle_replaces_an_earlier_one(tmp_path: Path) -> None:
    folder, _ = generate(3, tmp_path)
    (folder / "left-over.csv").write_text("x")
    assert not (generate(3, tmp_path)[0] / "left-over.csv").exists()


def test_the_command_line_writes_a_bundle(tmp_path: Path) -> None:
    module = "examples.incident_response.generate"
    command = [sys.executable, "-m", module, "--seed", "3", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True, cwd=ROOT)
    assert "the truth is in" in done.stdout
    assert json.loads((tmp_path / "truth.json").read_text())["seed"] == 3
