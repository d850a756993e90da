"""Outcomes in their file: added up in any order, shared by processes, replaced by better witnesses."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate import outcomes
from llama_index.packs.mixture_of_agents.gate.beliefs import Beliefs, Estimate
from llama_index.packs.mixture_of_agents.gate.outcomes import Outcome, OutcomeStore, Tally
from tests.app.conftest import ROOT, environment

SMALL = ("proposer", "small")
KEYS = st.sampled_from([SMALL, ("proposer", "large"), ("stage", "1")])
OUTCOMES = st.lists(st.tuples(KEYS, st.floats(0, 1), st.booleans()), max_size=30)


def outcome(run: str, is_right: bool, source: outcomes.Source = "feedback", expected: float = 0.8) -> Outcome:
    return Outcome(run, SMALL, expected, is_right, source)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that every user may look into, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write there; root may always, and so is somebody else for the while."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(was)
        folder.chmod(0o755)
        for path in folder.iterdir():
            path.chmod(0o600)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@given(drawn=OUTCOMES, seed=st.integers(0, 99))
def test_the_order_of_outcomes_makes_no_difference(
    drawn: list[tuple[outcomes.Key, float, bool]], seed: int
) -> None:
    listed = [Outcome(f"run{n}", *one, "feedback") for n, one in enumerate(drawn)]
    shuffled = random.Random(seed).sample(listed, len(listed))
    first, second = OutcomeStore(None, "g"), OutcomeStore(None, "g")
    first.keep(listed)
    for one in shuffled:
        second.keep([one])
    assert first.tallies().keys() == second.tallies().keys()
    for key, tally in first.tallies().items():
        other = second.tallies()[key]
        assert (tally.count, tally.right) == (other.count, other.right)
        assert tally.expected == pytest.approx(other.expected)


def test_a_run_counts_once_and_the_better_witness_stands() -> None:
    store = OutcomeStore(None, "g")
    store.keep([outcome("r", True, "agreement")])
    store.keep([outcome("r", False, "feedback")])
    store.keep([outcome("r", True, "verifier"), outcome("r", True, "agreement")])
    assert store.tallies() == {SMALL: Tally(1.0, 0.0, 0.8)}
    store.keep([outcome("r", True, "feedback")])
    assert store.tallies()[SMALL].right == 1.0


def test_outcomes_fade() -> None:
    clock = Clock()
    store = OutcomeStore(None, "g", half_life=100.0, clock=clock)
    store.keep([outcome("old", False)])
    clock.now += 100
    store.keep([outcome("new", True)])
    tally = store.tallies()[SMALL]
    assert (tally.count, tally.right) == (1.5, 1.0)
    assert tally.expected == pytest.approx(1.2)


def test_each_gate_has_its_own_and_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "outcomes.sqlite"
    one, other = OutcomeStore(path, "one"), OutcomeStore(path, "other")
    one.keep([outcome("a", True), outcome("b", True)])
    other.keep([outcome("a", False)])
    assert one.tallies()[SMALL].count == 2
    assert one.reset() == 2
    assert (one.tallies(), other.tallies()[SMALL].right) == ({}, 0.0)
    assert OutcomeStore(path, "other").tallies()[SMALL].count == 1


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "MOST_KEPT", 3)
    clock = Clock()
    store = OutcomeStore(None, "g", clock=clock)
    for number in range(5):
        clock.now += 1
        store.keep([outcome(f"run{number}", number >= 2)])
    tally = store.tallies()[SMALL]
    assert (tally.count, tally.right) == (3.0, 3.0)
    assert tally.expected == pytest.approx(2.4)


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.sqlite"
    code = """
import sys
from pathlib import Path
from llama_index.packs.mixture_of_agents.gate.outcomes import Outcome, OutcomeStore

store = OutcomeStore(Path(sys.argv[1]), "g")
for n in range(100):
    store.keep([Outcome(f"{sys.argv[2]}-{n}", ("proposer", "small"), 0.5, n % 2 == 0, "feedback")])
"""
    command = [sys.executable, "-c", code, str(path)]
    running = [
        subprocess.Popen([*command, name], env=environment(), cwd=ROOT) for name in ("one", "two", "three")
    ]
    assert [process.wait(timeout=50) for process in running] == [0, 0, 0]
    assert OutcomeStore(path, "g").tallies() == {SMALL: Tally(300.0, 150.0, 150.0)}


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, by any means " * 50, encoding="utf-8")
    for path in (text, tmp_path):
        with pytest.raises(ConfigurationError, match="Outcomes cannot be kept in"):
            OutcomeStore(path, "g")
    assert text.read_text(encoding="utf-8").startswith("not a database")


def test_the_file_is_made_when_something_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "outcomes.sqlite"
    store = OutcomeStore(path, "g")
    assert (store.tallies(), store.reset()) == ({}, 0)
    assert not path.parent.exists()
    store.keep([outcome("r", True)])
    assert store.tallies()[SMALL].count == 1
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600


def test_where_no_file_can_be_is_refused_before_anything_is_kept(tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    with pytest.raises(ConfigurationError, match="is no folder"):
        OutcomeStore(tmp_path / "text" / "below" / "outcomes.sqlite", "g")


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs (held TEXT)")
    with pytest.raises(ConfigurationError, match="another program's"):
        OutcomeStore(path, "g")


def test_a_store_removed_while_it_is_used_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.sqlite"
    store = OutcomeStore(path, "g")
    store.keep([outcome("old", True)])
    path.unlink()
    assert store.tallies() == {}
    store.keep([outcome("new", True)])
    path.write_bytes(b"")  # as another process leaves it while it makes the file
    assert store.tallies() == {}
    store.keep([outcome("newer", False)])
    assert store.tallies() == {SMALL: Tally(1.0, 0.0, 0.8)}


@pytest.mark.skipif(sys.platform == "win32", reason="a folder's permissions say other things there")
def test_reading_needs_no_right_to_write(open_folder: Path) -> None:
    kept, missing = open_folder / "outcomes #1?.sqlite", open_folder / "none.sqlite"
    OutcomeStore(kept, "g").keep([outcome("r", True)])
    with read_only(open_folder):
        store = OutcomeStore(kept, "g")
        assert store.tallies()[SMALL].count == 1
        with pytest.raises(ConfigurationError, match="cannot be kept in"):
            store.keep([outcome("s", True)])
        none = OutcomeStore(missing, "g")
        assert (none.tallies(), none.reset()) == ({}, 0)
        with pytest.raises(ConfigurationError, match="cannot be kept in"):
            none.keep([outcome("s", True)])
    assert OutcomeStore(kept, "g").tallies()[SMALL].count == 1


def test_what_a_killed_writer_left_behind_is_cleared_by_who_reads(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.sqlite"
    OutcomeStore(path, "g").keep([outcome("r", True)])
    code = """
import os, sqlite3, sys

database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
rows = [("g", f"run{n}", "proposer", "small", 2, 0.8, 1, 0.0) for n in range(5_000)]
database.executemany("INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=50)
    assert path.with_name("outcomes.sqlite-journal").exists()
    assert OutcomeStore(path, "g").tallies()[SMALL].count == 1


@given(count=st.integers(1, 500), share=st.floats(0, 1), expected=st.floats(0, 1), weight=st.floats(1, 100))
def test_a_posterior_lies_between_what_was_expected_and_what_was_seen(
    count: int, share: float, expected: float, weight: float
) -> None:
    estimate = Estimate.of(Tally(count, count * share, count * expected), weight)
    low, high = sorted([share, expected])
    assert low - 1e-9 <= estimate.chance <= high + 1e-9
    assert estimate.shift * (share - expected) >= -1e-9


def test_what_others_learn_is_seen_within_a_second(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "outcomes.sqlite"
    beliefs = Beliefs(OutcomeStore(path, "g"), 50.0, clock)
    assert beliefs.now() == {}
    OutcomeStore(path, "g").keep([outcome("r", True)])
    assert beliefs.now() == {}
    clock.now += 1
    assert beliefs.now()[SMALL].count == 1
    assert beliefs.now() is beliefs.now()


class LockedStore(OutcomeStore):
    """Somebody else holds it for longer than anyone waits."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(None, "g")
        self.clock, self.waits = clock, list[float]()

    def tallies(self, patience: float = 10.0) -> dict[outcomes.Key, Tally]:
        self.waits.append(patience)
        self.clock.now += patience
        raise ConfigurationError("Outcomes cannot be read (database is locked).")


def test_a_locked_store_is_waited_for_briefly_and_then_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    store = LockedStore(clock)
    beliefs = Beliefs(store, 50.0, clock)
    for _ in range(100):
        assert beliefs.now() == {}
    assert store.waits == [0.2]
    clock.now += 10
    beliefs.now()
    assert len(store.waits) == 2
    assert len(caplog.records) == 1  # and is not spoken of at each try
    with pytest.raises(ConfigurationError, match="locked"):
        beliefs.known()


def test_a_file_that_somebody_holds_is_refused_in_time_and_not_for_good(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.sqlite"
    OutcomeStore(path, "g").keep([outcome("r", True)])
    with closing(sqlite3.connect(path, isolation_level=None)) as held:
        held.execute("BEGIN EXCLUSIVE")
        store = OutcomeStore(path, "g")  # whether it is a good one is seen later
        with pytest.raises(ConfigurationError, match=r"cannot be read \(database is locked\)"):
            store.tallies(0.01)
    assert store.tallies()[SMALL].count == 1


def test_what_is_learned_later_is_known_to_who_asks(tmp_path: Path) -> None:
    beliefs = Beliefs(OutcomeStore(tmp_path / "outcomes.sqlite", "g"), 50.0, Clock())
    assert beliefs.now() == {}
    for number in range(20):
        beliefs.learn_later([outcome(f"r{number}", True)])
    assert beliefs.known()[SMALL].count == 20
    beliefs.learn_later([outcome("last", True)])
    assert (beliefs.reset(), beliefs.known()) == (21, {})


def test_what_cannot_be_kept_later_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outcomes.sqlite"
    beliefs = Beliefs(OutcomeStore(path, "g"), 50.0, Clock())
    path.mkdir()
    for number in range(3):
        beliefs.learn_later([outcome(f"r{number}", True)])
        beliefs.settle()
    (said,) = caplog.records
    assert (said.levelname, said.exc_info) == ("WARNING", None)
    assert "cannot be kept in" in said.getMessage()
    path.rmdir()
    beliefs.learn_later([outcome("r3", True)])
    assert beliefs.known()[SMALL].count == 1


def test_what_was_learned_last_is_kept_when_a_program_ends(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.sqlite"
    code = """
import sys
import threading
from pathlib import Path
from llama_index.packs.mixture_of_agents.gate.beliefs import Beliefs
from llama_index.packs.mixture_of_agents.gate.outcomes import Outcome, OutcomeStore

beliefs = Beliefs(OutcomeStore(Path(sys.argv[1]), "g"), 50.0)
some = [Outcome("r", ("proposer", "small"), 0.5, True, "agreement")]
loop = threading.Thread(target=lambda: beliefs.learn_later(some), daemon=True)  # as event loops' threads are
loop.start()
loop.join()
"""
    subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment(), cwd=ROOT, check=True, timeout=50
    )
    assert OutcomeStore(path, "g").tallies()[SMALL].count == 1


def test_a_store_that_breaks_costs_what_is_new_and_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = Clock(), tmp_path / "outcomes.sqlite"
    store = OutcomeStore(path, "g")
    store.keep([outcome("r", True)])
    beliefs = Beliefs(store, 50.0, clock)
    known = beliefs.now()
    path.write_bytes(b"not a database any more, by any means" * 100)
    clock.now += 2
    assert beliefs.now() is known
    assert "cannot be read" in caplog.text
