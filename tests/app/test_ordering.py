"""From options and a file to a pack: what is said wins over the file, the file over the pack."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app import ordering
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.app.ordering import Order, pack_for
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import MixtureFacts
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

pytestmark = pytest.mark.usefixtures("scripted_rows")

AB = ("scripted:a", "scripted:b")


def facts(**order: Any) -> MixtureFacts:
    return pack_for(Order(**order)).workflow.mixture.facts


def moa(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, words, input=text, catch_exceptions=False)


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """Orders that reach the pack's making, which is where these commands end."""
    orders: list[Order] = []

    def stop(order: Order, *args: object, **kwargs: object) -> None:
        orders.append(order)
        raise ConfigurationError("that is all")

    monkeypatch.setattr("llama_index.packs.mixture_of_agents.app.asking.pack_for", stop)
    return orders


def test_the_samples_command_line_is_understood(ordered: list[Order]) -> None:
    words = (
        *("ask", "--user_prompt", "Why?", "--layer", "2", "--models_layer", "scripted:a", "scripted:b"),
        *("--nb_models_by_layer", "4", "--model_roles", "scripted:r", "--aggregator_model", "scripted:j"),
        *("--layer_strategy", "role", "--temperature", "0.7", "--max_tokens", "500"),
    )
    assert "that is all" in moa(*words).stderr
    (order,) = ordered
    assert (order.models, order.aggregator, order.role_writer) == (AB, "scripted:j", "scripted:r")
    assert order.options == {
        "num_layers": 2,
        "nb_models_by_layer": 4,
        "strategy": "role",
        "temperature": 0.7,
        "max_tokens": 500,
    }


def test_every_option_reaches_the_order(ordered: list[Order]) -> None:
    words = (
        *(
            "ask",
            "Why?",
            "--models",
            "scripted:a,scripted:b",
            "--nb-models-by-layer",
            "3",
            "2",
            "--pick",
            "sample",
        ),
        *("--pick-seed", "5", "--roles", "layer", "--temperatures", "0.2,0.7", "--finish", "vote"),
        *("--extract", "regex:a,b", "--window", "3", "--pass-on", "condensed", "--stop-early", "0.5"),
        *("--budget-usd", "0.1", "--budget-tokens", "900", "--budget-seconds", "60", "--trace-dir", "there"),
        *("--redact", "--cache", "answers.db", "--seed", "1", "--quorum-grace", "2"),
    )
    assert "that is all" in moa(*words).stderr
    (order,) = ordered
    assert order.models == AB
    assert order.options == {
        "nb_models_by_layer": [3, 2],
        "pick": "sample",
        "pick_seed": 5,
        "roles": "layer",
        "temperatures": ["0.2", "0.7"],
        "finish": "vote",
        "pass_on": "condensed",
        "quorum_grace": 2.0,
    }
    assert (order.extract, order.window, order.stop_early, order.seed) == ("regex:a,b", 3, 0.5, 1)
    assert order.budget == {"usd": 0.1, "tokens": 900, "seconds": 60.0}
    assert (order.trace, order.trace_dir, order.redact, order.cache) == (True, "there", True, "answers.db")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layers", "2", "--layer", "3"), "--layers 2 and --layer 3 say different things"),
        (("--strategy", "self", "--layer_strategy", "role"), "say different things"),
        (("--trace", "--no-trace"), "say different things"),
        (("--progress", "--quiet"), "--progress and --quiet"),
        (("--user-prompt", "Why not?"), "two questions"),
        (("--window", "3"), "--window belongs to --finish sequential"),
        (("--extract", "number"), "--extract belongs to"),
        (("--finish", "guess"), "finish must be one of"),
        (("--finish", "vote", "--extract", "nothing"), "Unknown extractor"),
        (("--finish", "sequential", "--window", "1"), "window must be a whole number >= 2"),
        (("--stop-early", "0"), "share must be above 0"),
        (("--pass-on", "nothing"), "pass_on must be"),
        (("--pick", "best"), "pick must be"),
        (("--roles", "never"), "roles must be"),
        (("--temperatures", "0.2", "warm"), "(warm)"),
        (("--temperatures=warm",), "temperatures are numbers, or two bounds as 0.2..1.0; found warm"),
        (("--temperatures", "0.2", "0.7", "--strategy", "self"), "temperatures belong to"),
        (("--budget-usd", "0.1"), "No price is known for a"),
        (("--budget-tokens", "1"), "budget"),
        (("-f", "no-such-file"), "no-such-file cannot be read"),
        (("--config", "no-such-file.toml"), "no-such-file.toml"),
        (("--nb-models-by-layer", "0"), "nb_models_by_layer must be a whole number >= 1"),
    ],
)
def test_what_cannot_work_is_refused_before_any_call(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*args: object, **kwargs: object) -> None:
        pytest.fail("a model was called")

    monkeypatch.setattr(ScriptedLLM, "_answer", call)
    done = moa("ask", "Why?", "--models", *AB, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_a_spread_of_temperatures_tells_the_strategy() -> None:
    seats = facts(models=("scripted:a",), options={"temperatures": ["0.2..1.0"]}).layers[0]
    assert [seat.temperature for seat in seats] == [0.2, 0.6, 1.0]
    seats = facts(models=AB, options={"temperatures": ["0.1", "0.9"], "nb_models_by_layer": 2}).layers[0]
    assert [seat.temperature for seat in seats] == [0.1, 0.9]


def test_finishes_and_early_stops_get_their_settings() -> None:
    assert facts(models=AB, options={"finish": "vote"}, extract="number").finish["extract"] == "number"
    assert facts(models=AB, options={"finish": "sequential"}, window=3).finish["window"] == 3
    stops = facts(models=AB, stop_early=0.5, extract="choice").stop_early
    assert stops == {"name": "agreement", "extract": "choice", "share": 0.5}


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        ("model", ["expert", "critic", "teacher"]),
        ("role", ["local", "local-2", "local-3"]),
        ("temperature", ["local", "local-2", "local-3"]),
        ("self", ["local", "local-2", "local-3"]),
    ],
)
def test_the_embedded_default_takes_every_strategy(strategy: str, names: list[str]) -> None:
    mixture = pack_for(Order(options={"strategy": strategy}), prepares=False).workflow.mixture
    assert [seat.name for seat in mixture.layers[0]] == names
    assert mixture.facts.aggregator.name == "aggregator"
    assert mixture.timeout is None


# A file.


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "moa.toml"
    file.write_text(
        'models_layer = ["scripted:a", "scripted:b"]\naggregator = "scripted:judge"\nlayer = 2\n'
        'timeout = 50\nbudget = {usd = 0.5}\nfinish = {kind = "vote", extract = "number"}\n'
    )
    return file


def test_a_file_describes_a_mixture(config: Path) -> None:
    found = facts(config=str(config))
    assert [seat.name for seat in found.layers[0]] == ["a", "b"]
    assert (found.num_layers, found.timeout, found.finish["extract"]) == (2, 50, "number")
    assert found.config is not None


def test_what_is_said_wins_over_the_file(config: Path) -> None:
    order = {
        "options": {"num_layers": 3, "finish": "sequential"},
        "models": ("scripted:c", "scripted:d"),
        "aggregator": "scripted:boss",
        "window": 3,
        "seed": 7,
        "stop_early": 1.0,
    }
    found = facts(config=str(config), **order)
    assert [(seat.name, seat.seed) for seat in found.layers[1]] == [("c", 7), ("d", 8)]
    assert (found.num_layers, found.aggregator.name, found.timeout) == (3, "boss", 50)
    assert found.finish == {"name": "sequential", "window": 3}
    assert found.stop_early is not None
    seeded = facts(config=str(config), seed=3)
    assert [(seat.name, seat.seed) for seat in seeded.layers[0]] == [("a", 3), ("b", 4)]
    assert facts(config=str(config), extract="choice").finish == {"name": "vote", "extract": "choice"}


def test_a_budget_is_completed_by_what_is_said(config: Path) -> None:
    with pytest.raises(ConfigurationError, match="tokens"):
        facts(config=str(config), budget={"tokens": -1})


def test_a_file_without_models_is_about_the_embedded_default(tmp_path: Path) -> None:
    file = tmp_path / "moa.toml"
    file.write_text('strategy = "self"\nnb_models_by_layer = 2\n')
    mixture = pack_for(Order(config=str(file)), prepares=False).workflow.mixture
    assert [seat.name for seat in mixture.layers[0]] == ["local", "local-2"]
    assert mixture.timeout is None
    file.write_text("timeout = 9\n")
    assert pack_for(Order(config=str(file)), prepares=False).workflow.mixture.timeout == 9


def test_the_default_is_not_made_to_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "default_directory", lambda view: pytest.fail("it was made"))
    assert pack_for(Order(), prepares=False).workflow.mixture.facts.num_layers == 3


# Traces, caches and questions, by the command itself.


def test_a_run_leaves_a_trace_unless_that_is_refused(tmp_path: Path) -> None:
    words = ("ask", "A secret?", "--models", *AB)
    assert moa(*words).exit_code == 0
    (trace,) = (tmp_path / "logs" / "moa").iterdir()
    assert "A secret?" in trace.read_text()
    assert moa(*words, "--no-trace", "--trace-dir", str(tmp_path / "none")).exit_code == 0
    assert not (tmp_path / "none").exists()
    assert moa(*words, "--trace-dir", str(tmp_path / "other"), "--redact").exit_code == 0
    (redacted,) = (tmp_path / "other").iterdir()
    assert "A secret?" not in redacted.read_text()


@pytest.mark.parametrize("redact", ["true", '["secret"]'])
def test_what_a_file_leaves_out_of_traces_stays_left_out_wherever_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redact: str
) -> None:
    (tmp_path / "moa.toml").write_text(
        f'proposers = ["scripted:a"]\nnum_layers = 2\n[trace]\npath = "runs.jsonl"\nredact = {redact}\n'
    )
    words = ("ask", "A secret?", "--config", "moa.toml")
    assert moa(*words, "--trace-dir", "ordered").exit_code == 0
    assert moa(*words, "--redact").exit_code == 0
    monkeypatch.setenv("MOA_TRACE_DIR", "of the environment")
    assert moa(*words).exit_code == 0
    traces = list(tmp_path.rglob("*.jsonl"))
    assert sorted(path.relative_to(tmp_path).parts[0] for path in traces) == [
        "of the environment",
        "ordered",
        "runs.jsonl",
    ]
    assert not any("secret?" in path.read_text() for path in traces)


def test_a_trace_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("not a folder")
    done = moa("ask", "Why?", "--models", *AB)
    assert (done.exit_code, done.stdout) == (0, "answer of a\n")
    assert "cannot be written" in caplog.text


def test_a_cache_asks_nobody_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ScriptedLLM("yes", model="a")
    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: llm)
    words = ("ask", "Why?", "--models", "scripted:a", "--layers", "2", "--cache", "cache.db", "--no-trace")
    assert [moa(*words).stdout for _ in range(2)] == ["yes\n", "yes\n"]
    assert len(llm.calls) == 2


def test_files_are_read_behind_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = ScriptedLLM("yes", model="a")
    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: llm)
    (tmp_path / "one.txt").write_text("first\n")
    (tmp_path / "two.txt").write_text("second\n")
    one = ("ask", "--models", "scripted:a", "--layers", "1", "--no-trace")
    assert moa(*one, "-f", "one.txt", "two.txt", "--user-prompt", "What is this?").exit_code == 0
    assert moa(*one, "--file", "one.txt", "-f", "two.txt").exit_code == 0
    assert moa(*one, "-", "-f", "two.txt", text="Piped?").exit_code == 0
    assert [call.messages[-1].content for call in llm.calls] == [
        "What is this?\n\n--- one.txt ---\nfirst\n\n--- two.txt ---\nsecond",
        "first\n\n\n--- two.txt ---\nsecond",
        "Piped?\n\n--- two.txt ---\nsecond",
    ]


@pytest.mark.parametrize("finish", ["synthesize", "sequential", "rank", "vote"])
@pytest.mark.parametrize("strategy", ["model", "role", "temperature", "self"])
def test_every_strategy_with_every_finish(strategy: str, finish: str) -> None:
    words = ("--models", *AB, "--layers", "2", "--strategy", strategy, "--finish", finish, "--json")
    done = moa("ask", "Why?", *words, "--progress", "--no-trace")
    assert done.exit_code == 0, done.stderr
    response = json.loads(done.stdout)
    assert response["finish"] == finish
    assert len(response["proposals"]) == (2 if strategy == "model" else 3)
    assert ("Roles for this question" in done.stderr) == (strategy == "role")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of another kind")
def test_completion_prints_a_script_and_knows_the_options(moa: Any) -> None:
    script = moa(extra={"_MOA_COMPLETE": "source_bash"})
    assert script.returncode == 0
    assert "complete -o default -F _moa_completion moa" in script.stdout
    words = {
        "_MOA_COMPLETE": "complete_bash",
        "COMP_WORDS": "moa ask --layers 1 --layer 2 --mod",
        "COMP_CWORD": "6",
    }
    assert moa(extra=words).stdout.split() == ["--models", "--models-layer", "--model-roles"]
