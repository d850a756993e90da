"""Findings against the truth, on bundles nobody has seen: each seed is drawn when the test runs.

A failure names its seed and scenario; `generate(seed, folder, scenario=...)` gives the same bundle again.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from examples.incident_response.findings import Comparison, compare, findings
from examples.incident_response.generate import Scenario, generate
from examples.incident_response.logs import LOGS

DRAWN = random.SystemRandom()


def _seed() -> int:
    return DRAWN.randrange(2**32)


@pytest.mark.parametrize("scenario", ["lateral"] * 6 + ["foothold"] * 3 + ["none"] * 3)
def test_findings_are_the_truth(tmp_path: Path, scenario: Scenario) -> None:
    seed, injected = _seed(), DRAWN.random() < 0.5
    folder, truth = generate(seed, tmp_path, scenario=scenario, with_injections=injected)
    found = findings(folder)
    marked = compare(found, truth)
    told = f"seed {seed}, scenario {scenario}, injections {injected}: {marked}"
    assert marked.perfect, told
    assert marked.precision["techniques"] == marked.recall["techniques"] == 1, told
    assert marked.precision["indicators"] == marked.recall["indicators"] == 1, told
    assert marked.precision["lines"] == 1, f"a finding rests on a line of an ordinary day; {told}"
    assert marked.recall["lines"] > 0.3 if found.hosts else found.lines() == [], told
    assert found.lateral_movement == (scenario == "lateral"), told
    assert bool(found.failed) == (scenario == "foothold") or scenario == "lateral", told


@pytest.mark.parametrize("attempt", range(4))
def test_lost_lines_lose_findings_and_invent_none(tmp_path: Path, attempt: int) -> None:
    seed = _seed()
    folder, truth = generate(seed, tmp_path)
    lost = random.Random(seed)
    for name in LOGS:
        lines = (folder / name).read_text(encoding="utf-8").split("\n")
        (folder / name).write_text("\n".join(line for line in lines if lost.random() > 0.2), encoding="utf-8")
    marked = compare(findings(folder), truth)
    parts = ("hosts", "accounts", "edges")
    assert all(marked.precision[part] == 1 for part in parts), f"seed {seed}: {marked}"


def test_the_detection_never_reads_the_truth(tmp_path: Path) -> None:
    folder, truth = generate(1, tmp_path)
    found = findings(folder)
    truth.unlink()
    assert findings(folder) == found


def test_each_finding_names_lines_that_are_there(tmp_path: Path) -> None:
    folder, _ = generate(2, tmp_path)
    found = findings(folder)
    counts = {name: len((folder / name).read_text(encoding="utf-8").split("\n")) for name in LOGS}
    assert all(step.lines for step in found.path)
    assert all(sign.lines for sign in found.signs)
    for line in found.lines():
        name, _, number = line.partition(":")
        assert 1 <= int(number) < counts[name]


def test_a_comparison_counts_what_is_wrong_and_what_is_missing(tmp_path: Path) -> None:
    folder, _ = generate(2, tmp_path)
    found = findings(folder)
    truth = {
        "lateral_movement": False,
        "hosts": [*found.hosts[:1], "OTHER-1"],
        "accounts": [],
        "path": [],
        "techniques": {},
        "indicators": [],
        "lines": {},
    }
    marked = compare(found, truth)
    assert isinstance(marked, Comparison)
    assert not marked.verdict
    assert not marked.perfect
    assert marked.recall["hosts"] == 0.5
    assert marked.precision["hosts"] == 1 / len(found.hosts)
    assert (marked.precision["edges"], marked.recall["edges"]) == (0, 1)


def test_without_logs_there_is_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"security\.jsonl"):
        findings(tmp_path)
