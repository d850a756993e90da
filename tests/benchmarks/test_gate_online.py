"""The measure of online learning holds: told, a gate whose cheap models broke stops believing them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gate_online import compared
from tests.gate.recorded_answers import samples, written


def test_a_gate_that_is_told_recovers_from_models_that_broke(tmp_path: Path) -> None:
    train = written(tmp_path / "train.jsonl", samples(120))
    test = written(tmp_path / "test.jsonl", samples(100, seed=9))
    found = {what: right for what, right, _ in compared(train, test)}
    assert found["as recorded, told"] > found["as recorded, not told"] - 0.1
    assert found["cheap models broken, told"] > found["cheap models broken, not told"]
