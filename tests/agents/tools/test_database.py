"""SQL that only reads: ways to write or to take for ever are refused, on files and CSV tables alike."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.agents.tools import sql_functions
from llama_index.packs.mixture_of_agents.agents.tools.csv_tables import unique
from llama_index.packs.mixture_of_agents.agents.tools.data import DataTools
from llama_index.packs.mixture_of_agents.agents.tools.database import CsvFolder, Source, SqliteFile, select
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.rows import Limits
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, ToolError

LIMITS = Limits(rows=5, seconds=5)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop #1?.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE sales (region TEXT, amount REAL)")
        connection.executemany("INSERT INTO sales VALUES (?, ?)", [("north", n) for n in range(100)])
        connection.execute("CREATE VIEW double AS SELECT amount * 2 AS twice FROM sales")
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
        connection.execute("INSERT INTO words VALUES ('hello world')")
    return path


@pytest.fixture(params=["file", "csv"])
def source(request: pytest.FixtureRequest, database: Path) -> Source:
    if request.param == "file":
        return SqliteFile(database)
    lines = "".join(f"north,{n}.0\n" for n in range(100))
    (database.parent / "sales.csv").write_text(f"region,amount\n{lines}")
    return CsvFolder(DataFolder(database.parent))


@pytest.mark.parametrize(
    "sql",
    [
        *("DELETE FROM sales", "UPDATE sales SET amount = 0", "INSERT INTO sales VALUES ('x', 1)"),
        *("INSERT INTO sales VALUES ('x', 1) RETURNING region", "REPLACE INTO sales VALUES ('x', 1)"),
        *(
            "DROP TABLE sales",
            "ALTER TABLE sales RENAME TO t",
            "CREATE TABLE t (a)",
            "CREATE TEMP TABLE t (a)",
        ),
        *("CREATE INDEX i ON sales (amount)", "CREATE TRIGGER t AFTER INSERT ON sales BEGIN SELECT 1; END"),
        *(
            "ATTACH 'other.db' AS other",
            "DETACH main",
            "VACUUM",
            "VACUUM INTO 'copy.db'",
            "REINDEX",
            "ANALYZE",
        ),
        *(
            "PRAGMA query_only = OFF",
            "PRAGMA writable_schema = ON",
            "PRAGMA journal_mode = WAL",
            "PRAGMA user_version = 3",
        ),
        *("BEGIN", "BEGIN EXCLUSIVE", "COMMIT", "SAVEPOINT s", "UPDATE sqlite_master SET name = 'x'"),
        *("SELECT load_extension('x')", "SELECT zeroblob(1000000000)", "SELECT hex(randomblob(1000000000))"),
        *(
            "SELECT 1; DROP TABLE sales",
            "WITH t AS (SELECT 1) DELETE FROM sales",
            "",
            "-- nothing",
            "SELECT\0 1",
        ),
        *("SELECT nothing FROM sales", "SELEC 1", "SELECT '" + "x" * 30_000 + "'", "SELECT '\ud800'"),
    ],
)
def test_whatever_is_no_reading_is_refused_and_changes_nothing(
    source: Source, database: Path, sql: str
) -> None:
    before = _fingerprints(database.parent)
    with pytest.raises(ToolError):
        select(source, sql, LIMITS)
    assert select(source, "SELECT count(*), sum(amount) FROM sales", LIMITS).rows == [[100, 4950.0]]
    assert _fingerprints(database.parent) == before


def _fingerprints(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


WORDS = ["DELETE", "FROM", "sales", "SELECT", "*", "WITH", "t", "AS", "(", ")", "1", ";", "INTO", "DROP"]


@settings(max_examples=40)
@given(words=st.lists(st.sampled_from(WORDS), max_size=12))
def test_no_mixture_of_words_writes(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "mixed.db"
    if not path.exists():
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE sales (a)")
    before = path.read_bytes()
    with suppress(ToolError):
        select(SqliteFile(path), " ".join(words), LIMITS)
    assert path.read_bytes() == before


def test_a_statement_that_never_ends_is_stopped(source: Source) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(ToolError, match=r"stopped after 0\.2 seconds"):
        select(source, endless, Limits(seconds=0.2))
    assert select(source, "SELECT 1", LIMITS).rows == [[1]], "the next one has its own time"


def test_a_value_that_grows_without_end_is_stopped(source: Source) -> None:
    doubling = (
        "WITH RECURSIVE n(x) AS (SELECT 'abcdefgh' UNION ALL SELECT x || x FROM n) SELECT length(x) FROM n"
    )
    with pytest.raises(ToolError):
        select(source, doubling, Limits(rows=1000, seconds=1))


BIG = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 150000), "
    "b(s, j) AS (SELECT group_concat('aaaaaaaaaa', ''), json_group_object('k' || x, x) FROM c) "
)


@pytest.mark.parametrize(
    "sql",
    [
        f"{BIG} SELECT instr(s, substr(s, 1, 700000) || 'b') FROM b",
        f"{BIG} SELECT length(replace(s, substr(s, 1, 700000) || 'b', 'c')) FROM b",
        f"{BIG} SELECT length(replace(s, 'a', substr(s, 1, 700000))) FROM b",
        f"{BIG} SELECT length(trim(s, replace(substr(s, 1, 700000), 'a', 'b') || 'a')) FROM b",
        f"{BIG} SELECT s LIKE '%' || substr(s, 1, 900) || 'b' FROM b",
        f"{BIG} SELECT length(json_patch(j, j)) FROM b",
        f"{BIG} SELECT {', '.join(['s'] * 100)} FROM b, c LIMIT 40",
        "SELECT length(printf('%.*c', 2000000000, 'x'))",
        "SELECT length(format('%2000000000d', 1))",
        "SELECT length(printf(CAST('%.2000000000c' AS BLOB), 'x'))",
    ],
    ids=range(10),
)
def test_no_single_function_takes_for_ever_or_all_memory(source: Source, sql: str) -> None:
    began = time.monotonic()
    with suppress(ToolError):
        select(source, sql, LIMITS)
    assert time.monotonic() - began < 20
    assert select(source, "SELECT 1", LIMITS).rows == [[1]]


VALUES = (
    st.none()
    | st.integers(-(10**12), 10**12)
    | st.integers(-(10**6), 10**6).map(lambda n: n / 8)
    | st.text("abc .é", max_size=9)
)


@settings(max_examples=200)
@given(
    st.lists(VALUES, min_size=3, max_size=3), st.sampled_from(["%s", "%d", "%.2f", "%5.1f|%s", "a%%b", "%,d"])
)
def test_bounded_functions_say_what_sqlites_own_say(values: list[object], template: str) -> None:
    calls = (
        "instr(?1, ?2), replace(?1, ?2, ?3), trim(?1, ?2), ltrim(?1, ?2), rtrim(?1, ?2), printf(?4, ?1, ?2)"
    )
    with closing(sqlite3.connect(":memory:")) as own, closing(sqlite3.connect(":memory:")) as bounded:
        sql_functions.install(bounded, 1_000_000)
        given = [*values, template]
        assert (
            bounded.execute(f"SELECT {calls}", given).fetchall()
            == own.execute(f"SELECT {calls}", given).fetchall()
        )


def test_a_view_that_calls_a_bounded_function_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "views.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES ('a-b')")
        connection.execute("CREATE VIEW v AS SELECT replace(a, '-', '+') AS b FROM t")
    assert select(SqliteFile(path), "SELECT b FROM v", LIMITS).rows == [["a+b"]]


def test_rows_over_the_limit_are_cut_and_the_cut_is_said(source: Source) -> None:
    shown = select(source, "SELECT amount FROM sales ORDER BY amount", LIMITS)
    assert [row[0] for row in shown.rows] == [0, 1, 2, 3, 4]
    assert "cut at 5 rows" in shown.note
    assert str(shown).endswith("(5 rows; cut at 5 rows: there are more; narrow the question or aggregate)")
    assert select(source, "SELECT amount FROM sales LIMIT 5", LIMITS).note == ""


def test_long_values_and_many_characters_are_cut(source: Source) -> None:
    one = select(
        source, "SELECT replace(hex(amount), '', '') || printf('%.900c', 'x') FROM sales LIMIT 1", LIMITS
    )
    assert len(one.rows[0][0]) < 600
    assert "1 long values were shortened" in one.note
    many = select(source, "SELECT printf('%.100c', 'x') FROM sales", Limits(rows=100, characters=1000))
    assert len(many.rows) == 10
    assert "cut at 1000 characters" in many.note


def test_values_that_are_no_text_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE odd (a, b, c, d)")
        connection.execute("INSERT INTO odd VALUES (x'00ff', CAST(x'ff41' AS TEXT), 9e999, 'two\nlines|bar')")
    rows = select(SqliteFile(path), "SELECT * FROM odd", LIMITS)
    assert rows.rows == [["(2 bytes)", "\ufffdA", "inf", "two\nlines|bar"]]
    assert "two\\nlines\\|bar" in str(rows), "a row is one line"
    rows.model_dump_json()


def test_views_full_text_and_the_schema_can_be_read(database: Path) -> None:
    source = SqliteFile(database)
    assert select(source, "SELECT max(twice) FROM double", LIMITS).rows == [[198.0]]
    assert select(source, "SELECT text FROM words WHERE words MATCH 'hello'", LIMITS).rows == [
        ["hello world"]
    ]
    assert [row[1] for row in select(source, "PRAGMA table_info(sales)", LIMITS).rows] == ["region", "amount"]


def test_many_threads_read_at_once(source: Source) -> None:
    wrong: list[object] = []

    def read() -> None:
        for _ in range(10):
            found = select(source, "SELECT count(*) FROM sales", LIMITS).rows
            if found != [[100]]:
                wrong.append(found)

    _all_at_once(read, 8)
    assert not wrong


def _all_at_once(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("hello " * 1000)
    with pytest.raises(ConfigurationError, match="no readable SQLite database"):
        SqliteFile(tmp_path / "text.db")
    with pytest.raises(ConfigurationError, match="no database file"):
        SqliteFile(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


# CSV files as tables.


def _csv(folder: Path, **files: str) -> CsvFolder:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return CsvFolder(DataFolder(folder))


def test_types_are_found_in_the_values(tmp_path: Path) -> None:
    source = _csv(tmp_path, t="whole,real,text,zip,none,mixed\n1,1.5,a,01234,,1\n-2,2e3,b,99999,,x\n,,,,,\n")
    kinds = select(source, "SELECT name, type FROM pragma_table_info('t')", Limits()).rows
    assert kinds == [
        *(["whole", "INTEGER"], ["real", "REAL"], ["text", "TEXT"]),
        *(["zip", "TEXT"], ["none", "TEXT"], ["mixed", "TEXT"]),
    ]
    assert select(source, "SELECT zip FROM t WHERE whole = 1", LIMITS).rows == [["01234"]]
    assert select(source, "SELECT count(*) FROM t WHERE text IS NULL", LIMITS).rows == [[1]]


def test_odd_files_are_loaded_and_what_was_odd_is_said(tmp_path: Path) -> None:
    (tmp_path / "semi.csv").write_text("\ufeffa;b;a;\n1;2;3;4\n1;2\n1;2;3;4;5\n\n", encoding="utf-8")
    (tmp_path / "2026-q1.tsv").write_text("a\tb\n1\t2\n")
    (tmp_path / "empty.csv").write_text("")
    source = CsvFolder(DataFolder(tmp_path))
    assert select(source, "SELECT a, a_2, column_4 FROM semi", LIMITS).rows == [
        [1, 3, 4],
        [1, None, None],
        [1, 3, 4],
    ]
    assert select(source, "SELECT * FROM t_2026_q1", LIMITS).rows == [[1, 2]]
    assert any("2 lines" in fault for fault in source.faults)
    assert any("empty.csv" in fault for fault in source.faults)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,\u00e9\n".encode("latin-1"),
        "a,b\n1,2\n".encode("utf-16"),
        b"a\n" + b"x" * 200_000,
        b"a," * 600,
    ],
)
def test_a_file_that_cannot_be_read_costs_only_itself_and_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    (tmp_path / "good.csv").write_text("a,b\n1,2\n")
    source = CsvFolder(DataFolder(tmp_path))
    assert select(source, "SELECT a, b FROM good", LIMITS).rows == [[1, 2]]
    assert any("bad.csv" in fault for fault in source.faults)
    listed = DataTools(source).list_tables()
    assert list(listed.tables) == ["good"]
    assert "bad.csv" in str(listed)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'a,b\n"1,2', b""])
def test_a_folder_without_a_readable_table_is_refused(tmp_path: Path, content: bytes) -> None:
    if content:
        (tmp_path / "bad.csv").write_bytes(content)
    source = CsvFolder(DataFolder(tmp_path))
    if content.startswith(b"a"):
        assert select(source, "SELECT * FROM bad", LIMITS).rows, "an open quotation ends with the file"
        return
    with pytest.raises(ToolError):
        select(source, "SELECT 1", LIMITS)


def test_a_closed_folder_loads_its_files_anew(tmp_path: Path) -> None:
    source = _csv(tmp_path, t="a\n1\n")
    assert select(source, "SELECT a FROM t", LIMITS).rows == [[1]]
    source.close()
    (tmp_path / "t.csv").write_text("a\n2\n")
    assert select(source, "SELECT a FROM t", LIMITS).rows == [[2]]
    source.close()


@given(st.lists(st.sampled_from(["a", "A", "a_2", "b"]), max_size=8))
def test_names_are_made_unique_for_sqlite(names: list[str]) -> None:
    made = [name.lower() for name in unique(names)]
    assert len(set(made)) == len(names)
