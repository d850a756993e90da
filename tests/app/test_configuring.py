"""`moa config`: files begun, checked without any call, and shown."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app import configuring
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.app.starter import FORMATS, starter
from llama_index.packs.mixture_of_agents.config import MixtureConfig, load_config
from llama_index.packs.mixture_of_agents.gate.rules import RuleGate
from llama_index.packs.mixture_of_agents.gate.saved import save_gate
from tests.app.conftest import Program

pytestmark = pytest.mark.usefixtures("scripted_rows", "no_keys")

SCRIPTED = (
    'proposers = ["quick", "scripted:b"]\naggregator = "scripted:judge"\n[models]\nquick = "scripted:a"\n'
)


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, and an environment without keys."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)


def moa(*words: str) -> Result:
    return CliRunner().invoke(app, ["config", *words], catch_exceptions=False)


def test_init_writes_a_file_that_loads_and_keeps_one_that_is_there() -> None:
    first = moa("init")
    assert (first.exit_code, first.stdout) == (
        0,
        "moa.toml is written. Name your models in it, then: moa config check moa.toml\n",
    )
    assert load_config("moa.toml").was_set == {"proposers", "aggregator"}
    Path("moa.toml").write_text("layer = 2\n", encoding="utf-8")
    again = moa("init")
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr == "moa: moa.toml is there already. --force replaces it.\n"
    assert load_config("moa.toml") == MixtureConfig(layer=2)
    assert moa("init", "--force").exit_code == 0
    assert load_config("moa.toml").was_set == {"proposers", "aggregator"}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("--format", "yaml"), "moa.yaml"),
        (("team.yml",), "team.yml"),
        (("team.toml",), "team.toml"),
        (("team.yml", "--format", "yaml"), "team.yml"),
    ],
)
def test_init_goes_by_the_name_or_the_format(words: tuple[str, ...], name: str) -> None:
    assert moa("init", *words).exit_code == 0
    assert [path.name for path in Path().iterdir()] == [name]
    assert load_config(name).proposers


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "ini"), "A configuration is written as toml or yaml; found 'ini'."),
        (("moa.json",), "A configuration is written as toml or yaml; found 'json'."),
        (("team.toml", "--format", "yaml"), "team.toml would not be read as yaml: let its name end in .yaml"),
        (("nowhere/moa.toml",), "cannot be written: No such file or directory."),
    ],
)
def test_init_refuses(words: tuple[str, ...], said: str) -> None:
    result = moa("init", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not list(Path().iterdir())


@pytest.mark.parametrize("form", FORMATS)
def test_every_example_of_a_starter_works_when_it_is_uncommented(form: str) -> None:
    text = starter(form, f"moa.{form}")
    live = Path(f"moa.{form}")
    live.write_text(re.sub(r"(?m)^#(?! \S)", "", text), encoding="utf-8")
    assert load_config(live).was_set == set(MixtureConfig.model_fields)
    for key, field in MixtureConfig.model_fields.items():
        assert field.examples, key
        assert re.search(rf"(?m)^#?\[?{key}\b", text), key


def test_check_says_that_all_is_there_and_asks_nobody() -> None:
    Path("moa.toml").write_text(SCRIPTED, encoding="utf-8")
    result = moa("check")
    assert (result.exit_code, result.stderr) == (0, "")
    head, *rows = result.stdout.splitlines()
    assert head == "moa.toml: ok. 2 rounds of proposers, strategy model, finish synthesize."
    assert [row.split()[:3] for row in rows] == [
        ["ready", "scripted:a", "proposers[0]"],
        ["ready", "scripted:b", "proposers[1]"],
        ["ready", "scripted:judge", "aggregator"],
    ]
    assert all(row.endswith("scripted: scripted, no key needed") for row in rows)


def test_check_names_each_model_once_with_all_its_places() -> None:
    Path("moa.yaml").write_text(
        "proposers: [['scripted:a'], ['scripted:a', 'scripted:b']]\n", encoding="utf-8"
    )
    _, first, _second = moa("check").stdout.splitlines()
    assert "proposers[0][0], proposers[1][0]" in first


def test_check_says_which_key_is_missing_and_where_one_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("moa.toml").write_text('proposers = ["openai:gpt-4o-mini", "mistral-small"]\n', encoding="utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", "abc-not-to-be-shown")
    result = moa("check")
    assert result.exit_code == 2
    assert result.stdout.startswith("moa.toml: not ready.")
    assert "key OPENAI_API_KEY from environment" in result.stdout
    assert "needs a key: set the environment variable MISTRAL_API_KEY" in result.stdout
    assert result.stderr == "moa: 1 of 2 models cannot be asked as things are; see above.\n"
    assert "abc-not-to-be-shown" not in result.stdout
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED", raising=False)
    Path(".env").write_text("MISTRAL_API_KEY=abc-not-to-be-shown\n", encoding="utf-8")
    assert moa("check").exit_code == 0
    assert "key MISTRAL_API_KEY from " in moa("check").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('proposers = ["nobody:x"]', "Unknown provider 'nobody'"),
        ('proposers = ["openai-like:m"]', "needs the address of its server"),
        (
            'proposers = ["scripted:a"]\nstop_early = {kind = "similarity", embed_model = "nobodys:x"}',
            "needs the package llama-index-embeddings-nobodys",
        ),
    ],
)
def test_check_lists_models_that_cannot_be(text: str, said: str) -> None:
    Path("moa.toml").write_text(text, encoding="utf-8")
    result = moa("check")
    assert result.exit_code == 2
    assert "missing" in result.stdout
    assert said in result.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layer = 0", "moa: moa.toml, line 1: layer must be a whole number >= 1"),
        ('proposers = ["scripted:a"]\nquorum = 4', "moa: moa.toml: quorum is 4, but a round has only 1"),
        ('[models]\na = "b"\nb = "a"', "models.a is a cycle of names: a -> b -> a."),
        ('[aggregator]\nmodel = "m"\napi_key = "x"', "line 3: aggregator.api_key is named like a secret"),
    ],
)
def test_check_refuses_what_cannot_work(text: str, said: str) -> None:
    Path("moa.toml").write_text(text, encoding="utf-8")
    result = moa("check")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize("text", ["layer = 2", 'aggregator = "scripted:a"'])
def test_where_nobody_proposes_it_is_the_embedded_model(text: str) -> None:
    Path("moa.toml").write_text(text, encoding="utf-8")
    result = moa("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1].split() == [
        "ready",
        "the",
        "embedded",
        "local",
        "model",
        "proposers",
        "as",
        "none",
        "is",
        "named",
    ]
    assert ("scripted:a" in result.stdout) == ("scripted:a" in text)


def test_an_aggregator_alone_has_to_be_named() -> None:
    Path("moa.toml").write_text("layer = 1", encoding="utf-8")
    result = moa("check")
    assert result.exit_code == 2
    assert "names no model" in result.stderr
    Path("moa.toml").write_text('layer = 1\naggregator = "scripted:a"', encoding="utf-8")
    assert moa("check").stdout.startswith("moa.toml: ok. 0 rounds of proposers")


@pytest.mark.parametrize("command", ["check", "show"])
def test_without_a_file_it_says_how_to_begin(command: str) -> None:
    result = moa(command)
    assert result.exit_code == 2
    assert "There is no configuration here (moa.toml, moa.yaml, moa.yml, moa.json)." in result.stderr
    assert "moa config init" in result.stderr
    assert "There is no file elsewhere.toml" in moa(command, "elsewhere.toml").stderr


def test_show_tells_what_is_set_from_what_is_not() -> None:
    Path("moa.toml").write_text(SCRIPTED, encoding="utf-8")
    result = moa("show")
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(rows) == set(MixtureConfig.model_fields)
    assert re.fullmatch(r'aggregator +"scripted:judge" +set', rows["aggregator"])
    assert re.fullmatch(r"num_layers +3 +default", rows["num_layers"])
    assert re.fullmatch(r"quorum +none +default", rows["quorum"])


def test_show_as_json_is_a_configuration_again() -> None:
    Path("team.toml").write_text(SCRIPTED, encoding="utf-8")
    shown = json.loads(moa("show", "team.toml", "--json").stdout)
    assert shown["file"] == "team.toml"
    assert shown["set"] == ["aggregator", "models", "proposers"]
    assert MixtureConfig(**shown["values"]) == load_config("team.toml")


def test_on_a_terminal_it_is_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    Path("moa.yaml").write_text(
        "aggregator: {model: 'scripted:a', role: 'You [b]doubt[/b].'}\n", encoding="utf-8"
    )
    configuring.show(None, as_json=False)
    shown = capsys.readouterr().out
    assert "[b]doubt[/b]" in shown
    assert "\x1b[" in shown


def test_as_a_program(moa: Program, tmp_path: Path) -> None:
    (tmp_path / "moa.toml").write_text(SCRIPTED, encoding="utf-8")
    done = moa("config", "check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("moa.toml: ok.")


def test_check_knows_names_of_ones_own_that_are_misspelled() -> None:
    Path("moa.toml").write_text('proposers = ["fats"]\n[models]\nfast = "scripted:a"\n', encoding="utf-8")
    done = moa("check")
    assert done.exit_code == 2
    assert "did you mean 'fast', which is in models?" in done.stdout


def test_check_asks_a_gate_and_limits_whether_they_know_the_models() -> None:
    save_gate(RuleGate([{"ask": ["a"], "words": ["sum"]}]), "gate")
    Path("moa.toml").write_text('gate = "gate"\n' + SCRIPTED, encoding="utf-8")
    assert moa("check").exit_code == 0
    Path("moa.toml").write_text(SCRIPTED + "\n[limits.OpenAI]\nin_flight = 5\n", encoding="utf-8")
    assert "limits.OpenAI means nobody here" in moa("check").stderr
    save_gate(RuleGate([{"ask": ["c"], "words": ["sum"]}]), "gate")
    Path("moa.toml").write_text('gate = "gate"\n' + SCRIPTED, encoding="utf-8")
    refused = moa("check")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "A rule asks c, and of these nobody proposes" in refused.stderr
