"""`moa doctor`: what it finds out, from whom, in which form, and that no key is ever shown."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents import providers
from llama_index.packs.mixture_of_agents.app import default_model, doctor
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.app.diagnosis import Examination, explained
from llama_index.packs.mixture_of_agents.app.diagnosis_table import table_of
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.loopback.fault_server import Answer, Failure, FaultServer, Hang

SECRET = "sk-not-for-anyone-to-see-1234"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env`, no cache and no proxy of a developer's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def _running() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def server(_running: FaultServer, monkeypatch: pytest.MonkeyPatch) -> FaultServer:
    pytest.importorskip("llama_index.llms.openai_like")
    monkeypatch.setenv("OPENAI_LIKE_API_KEY", SECRET)
    return _running


def moa(*words: str) -> Result:
    result = CliRunner().invoke(app, ["doctor", *words], catch_exceptions=False)
    assert SECRET not in result.output
    return result


def on(server: FaultServer, model: str) -> str:
    return f"openai-like:{model}@{server.url}/v1"


def entries(*words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(moa(*words, "--json").stdout)
    return document


def test_a_model_that_answers_is_well_and_was_asked_for_one_token(server: FaultServer) -> None:
    server.script("good", Answer("yes"))
    result = moa(on(server, "good"))
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("ok ")]
    assert "OPENAI_LIKE_API_KEY (environment); one token in " in line
    (attempt,) = server.of("good")
    assert attempt.body["max_tokens"] == 1


def test_latency_is_measured(server: FaultServer) -> None:
    server.script("late", Answer("yes", after=0.3))
    document = entries(on(server, "late"))
    assert document["models"][0]["latency_seconds"] >= 0.3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the server refused the key (401); check OPENAI_LIKE_API_KEY"),
        (404, "the server does not know this model"),
        (429, "too many requests, or no quota left (429)"),
        (500, "the call failed"),
    ],
)
def test_a_failure_is_explained_and_not_tried_again(server: FaultServer, status: int, said: str) -> None:
    server.script(f"bad-{status}", Failure(status))
    result = moa(on(server, f"bad-{status}"))
    assert result.exit_code == 1
    assert f"FAILED openai-like:bad-{status}@" in result.stdout
    assert said in result.stdout
    assert server.attempts(f"bad-{status}") == 1


def test_a_server_that_is_not_there(server: FaultServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = moa(f"openai-like:m@http://127.0.0.1:{port}/v1")
    assert result.exit_code == 1
    assert "the server cannot be reached" in result.stdout


def test_a_server_that_is_silent_is_waited_for_so_long_only(server: FaultServer) -> None:
    server.script("silent", Hang())
    result = moa(on(server, "silent"), "--timeout", "0.3")
    assert result.exit_code == 1
    assert "no answer within 0.3 s" in result.stdout


def test_one_bad_model_does_not_keep_the_others_from_being_seen(server: FaultServer) -> None:
    server.script("refused", Failure(401))
    document = entries(on(server, "refused"), on(server, "good-too"), "openai:gpt-4o")
    assert [model["ok"] for model in document["models"]] == [False, True, False]
    assert document["ok"] is False
    assert "OPENAI_API_KEY" in document["models"][2]["problem"]


def test_offline_asks_nobody(server: FaultServer) -> None:
    before = server.attempts()
    document = entries(on(server, "good"), "--offline")
    assert document["models"][0]["ok"] is True
    assert document["models"][0]["latency_seconds"] is None
    assert server.attempts() == before


def test_offline_a_class_nobody_here_knows_is_not_even_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "class_of", lambda *_: pytest.fail("it was imported"))
    monkeypatch.setattr(doctor, "has_module", lambda module: True)
    assert moa("cohere:command-r", "huggingface:some/model", "--offline").exit_code == 0


def test_without_arguments_each_provider_with_a_key_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", SECRET)
    Path(".env").write_text(f"OPENAI_API_KEY={SECRET}\nDEEPSEEK_API_KEY={SECRET}\n", encoding="utf-8")
    document = entries("--offline")
    keys = {model["model"]: model["key"] for model in document["models"]}
    assert keys == {
        "openai:gpt-4o-mini": {"variable": "OPENAI_API_KEY", "source": str(Path(".env").absolute())},
        "mistralai:mistral-small-latest": {"variable": "MISTRAL_API_KEY", "source": "environment"},
    }
    assert document["ok"] is True
    assert document["dotenv"] == str(Path(".env").absolute())
    assert document["notes"] == [
        "DEEPSEEK_API_KEY is set; to try it, name a model: moa doctor deepseek:MODEL"
    ]


def test_without_any_key_it_says_which_there_could_be() -> None:
    result = moa()
    assert result.exit_code == 0
    assert "No key is set (OPENAI_API_KEY, MISTRAL_API_KEY" in result.stdout


def test_a_missing_package_is_told_with_the_pip_command() -> None:
    document = entries("cohere:command-r")
    (model,) = document["models"]
    assert (model["ok"], model["version"]) == (False, None)
    assert model["problem"] == "not installed. Run: pip install llama-index-llms-cohere"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody:x",), "Unknown provider 'nobody'"),
        (("openai:gpt-4o-mini", "llama-3.1-8b"), "served by several providers"),
        ((f"openai:{SECRET}",), "looks like a key"),
        (("openai:gpt-4o-mini", "--timeout", "0"), "timeout must be a finite number of seconds"),
    ],
)
def test_what_is_no_model_is_refused(words: tuple[str, ...], said: str) -> None:
    result = moa(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_dotenv_file_that_is_no_text_is_refused() -> None:
    Path(".env").write_bytes(b"OPENAI_API_KEY=\xff\xfe")
    result = moa()
    assert result.exit_code == 2
    assert "must be UTF-8" in result.stderr


def test_a_key_that_the_server_repeats_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def echoing(model: str, api_key: str) -> ScriptedLLM:
        return ScriptedLLM(lambda messages: RuntimeError(f"bad key {api_key}"), model=model)

    row = providers.Provider(
        module=__name__, class_name="", keys=("ECHOING_API_KEY",), model_arguments=("model",)
    )
    monkeypatch.setattr(providers, "PROVIDERS", {"echoing": row})
    monkeypatch.setattr(providers, "class_of", lambda *_: echoing)
    monkeypatch.setenv("ECHOING_API_KEY", SECRET)
    result = moa("echoing:m")
    assert result.exit_code == 1
    assert "bad key <ECHOING_API_KEY>" in result.stdout


def test_a_thinking_model_cut_at_its_first_token_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Could not finish the message because max_tokens or model output limit was reached."
    row = providers.Provider(module=__name__, class_name="")
    monkeypatch.setattr(providers, "PROVIDERS", {"thinking": row})
    monkeypatch.setattr(
        providers, "class_of", lambda *_: lambda model: ScriptedLLM(lambda _: RuntimeError(said), model=model)
    )
    assert moa("thinking:m").exit_code == 0


@pytest.mark.parametrize("is_whole", [True, False])
def test_whether_the_default_model_is_there(is_whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "require_libraries", lambda: None)
    monkeypatch.setattr(default_model, "is_whole", lambda directory: is_whole)
    release = default_model.SMOLLM2
    (default_model.cache_folder() / release.folder / release.model_name).mkdir(parents=True)
    assert entries("--offline")["default_model"]["ready"] is is_whole


def test_this_machine_is_described() -> None:
    document = entries("--offline")
    assert document["python"].count(".") == 2
    assert document["packages"]["llama-index-core"].startswith("0.14")


def test_without_a_key_no_key_is_blamed() -> None:
    assert "set the key it wants" in explained(401, "no", "")


def drawn(one: Examination, width: int, *, is_unicode: bool = True) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(table_of([one], is_unicode=is_unicode))
    return capture.get()


def test_a_narrow_table_cuts_nothing_off() -> None:
    one = Examination("openai:" + "z" * 60, "llama-index-llms-openai", "0.8.3", "OPENAI_API_KEY", ".env", 0.5)
    text = drawn(one, width=80)
    assert text.count("z") == 60
    assert "…" not in text


def test_markup_in_a_name_is_text() -> None:
    assert "ollama:[red]x[/red]" in drawn(Examination("ollama:[red]x[/red]"), width=160)


@pytest.mark.parametrize(("problem", "mark"), [("", "+"), ("away", "x")])
def test_a_plain_terminal_gets_plain_marks(problem: str, mark: str) -> None:
    text = drawn(Examination("a:b", problem=problem), width=100, is_unicode=False)
    assert text.isascii()
    assert f"| {mark} |" in text
