"""`moa` in this process: what it prints, with which status, and what it asks of whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.app import default_model, ordering
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.app.ordering import Order, pack_for
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import llm_named
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.app.scripted_provider import scripted

pytestmark = pytest.mark.usefixtures("scripted_rows")

TWO = ("--models", "scripted:a", "scripted:b", "--aggregator", "scripted:judge")


def moa(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, words, input=text, catch_exceptions=False)


@pytest.fixture
def never_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a refusal comes only after the default model was made."""

    def prepare(*args: object, **kwargs: object) -> Path:
        pytest.fail("the default model was prepared before the input was checked")

    monkeypatch.setattr(default_model, "prepare", prepare)


def test_a_pipe_gets_the_answer_and_nothing_else() -> None:
    result = moa("ask", "Why?", *TWO)
    assert (result.stdout, result.stderr, result.exit_code) == ("answer of judge\n", "", 0)


def test_the_question_may_stand_last() -> None:
    assert moa("ask", *TWO[:3], "Why is it so?").stdout == "answer of a\n"


@pytest.mark.parametrize("words", [("ask", "-", *TWO), ("ask", *TWO)])
def test_the_question_may_be_piped_in(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    judge = ScriptedLLM("yes", model="judge")
    monkeypatch.setattr("tests.app.scripted_provider.scripted", lambda model: judge)
    assert moa(*words, text="Is it\nso?").stdout == "yes\n"
    assert judge.calls[0].messages[-1].content == "Is it\nso?"


@pytest.mark.parametrize("missing", [False, True])
def test_json_is_what_arun_gives(missing: bool) -> None:
    names = ["scripted:a", "failing:b" if missing else "scripted:b"]
    result = moa("ask", "Why?", "--models", *names, "--aggregator", "scripted:judge", "--json")
    pack = MixtureOfAgentsPack(scripted("judge"), [llm_named(name) for name in names])
    assert _timeless(json.loads(result.stdout)) == _timeless(pack.run("Why?").to_dict())


def _timeless(response: dict[str, Any]) -> dict[str, Any]:
    proposals = [{**proposal, "latency_seconds": 0} for proposal in response["proposals"]]
    return {**response, "proposals": proposals, "latency_seconds": 0, "run_id": ""}


def test_progress_as_plain_lines_stays_out_of_the_pipe() -> None:
    result = moa("ask", "Why?", *TWO, "--progress")
    assert result.stdout == "answer of judge\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "Round 1 of 2: each answers alone"
    assert sum("is thinking" in line for line in lines) == 4
    assert sum(": answer of" in line for line in lines) == 5
    assert lines[-1].endswith("nobody missing")
    assert " 5 calls " in lines[-1]


def test_a_degraded_answer_is_an_answer_with_a_note() -> None:
    result = moa("ask", "Why?", "--models", "scripted:a", "failing:b", "--quiet")
    assert (result.stdout, result.exit_code) == ("answer of a\n", 0)
    assert result.stderr.startswith(
        "moa: The answer is degraded. Missing: b, layer 1: RuntimeError: b is down"
    )


def test_when_nobody_answers_every_cause_is_named() -> None:
    result = moa("ask", "Why?", "--models", "failing:a", "failing:b")
    assert (result.stdout, result.exit_code) == ("", 1)
    for cause in ("a, layer 1: RuntimeError: a is down", "b, layer 2: RuntimeError: b is down", "a, layer 3"):
        assert cause in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ask", "", *TWO), "The question is empty"),
        (("ask", "  \n", *TWO), "The question is empty"),
        (("ask", "Q", *TWO, "--layers", "0"), "num_layers must be a whole number >= 1"),
        (("ask", "Q", *TWO, "--layers", "-2"), "num_layers must be a whole number >= 1"),
        (("ask", "Q", *TWO, "--quorum", "3"), "quorum is 3, but a round has only 2"),
        (("ask", "Q", *TWO, "--quorum", "0"), "quorum must be a whole number >= 1"),
        (("ask", "Q", *TWO, "--quorum-grace", "-1"), "quorum_grace must be a finite number of seconds >= 0"),
        (("ask", "Q", *TWO, "--timeout", "0"), "timeout must be a finite number of seconds > 0"),
        (("ask", "Q", *TWO, "--layer-timeout", "-1"), "layer_timeout must be a finite number of seconds > 0"),
        (("ask", "Q", *TWO, "--max-concurrency", "0"), "max_concurrency must be a whole number >= 1"),
        (("ask", "Q", *TWO, "--temperature", "9"), "temperature must be a number between 0 and 2"),
        (("ask", "Q", *TWO, "--max-tokens", "0"), "max_tokens must be a whole number >= 1"),
        (("ask", "Q", *TWO, "--strategy", "best"), "Unknown strategy 'best'"),
        (("ask", "Q", *TWO, "--checkpoint", "no/such/folder/c.json"), "does not exist"),
        (("ask", "Q", "--models", "no-model"), "'no-model' names no model"),
        (("ask", "Q", "--models", "gpt-4o"), "openai:gpt-4o needs a key"),
        (("ask", "Q", "--models", "nobody:gpt-4o"), "Unknown provider 'nobody'"),
        (("ask", "Q", "--models", "openai:gpt-4o"), "OPENAI_API_KEY"),
        (("ask", "Q", "--models", "scripted:a", "--aggregator", "mistralai:x"), "MISTRAL_API_KEY"),
        (("ask", "Q", "--layers", "three"), "--layers"),
        (("ask", "Q", "--models"), "--models"),
        (("ask", "Q", "--quorum", "4"), "quorum is 4, but a round has only 3"),
        (("ask", "Q", "--layers", "0"), "num_layers must be a whole number >= 1"),
        (("ask", ""), "The question is empty"),
        (("ask", "one", "two", *TWO), "two"),
        (("teach",), "teach"),
        (("upcycle", "nowhere", "there"), "no model at nowhere"),
        (("upcycle", "nowhere", "there", "--experts", "1"), "experts=1"),
        (("upcycle", "nowhere", "there", "--top-k", "5"), "top_k=5"),
    ],
)
@pytest.mark.usefixtures("never_prepared")
def test_bad_input_is_refused_before_any_call(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*args: object, **kwargs: object) -> None:
        pytest.fail("a model was called")

    monkeypatch.setattr(ScriptedLLM, "_answer", call)
    result = moa(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_standard_input_that_is_not_text() -> None:
    result = CliRunner().invoke(app, ["ask", "-"], input=b"\xff\xfe\xff", catch_exceptions=False)
    assert result.exit_code == 2
    assert "not text" in result.stderr


def test_a_question_taken_for_a_model_is_told_where_to_stand() -> None:
    done = moa("ask", "--models", "scripted:a", "Why?")
    assert done.exit_code == 2
    assert "A single word behind --models is taken for a model" in done.stderr


def test_calls_answered_from_the_cache_did_not_go_out(tmp_path: Path) -> None:
    words = (*TWO, "--layers", "2", "--cache", str(tmp_path / "c.db"), "--progress")
    assert "3 calls" in moa("ask", "Why?", *words).stderr
    assert "0 calls" in moa("ask", "Why?", *words).stderr


def test_a_checkpoint_of_another_question_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    assert moa("ask", "Why?", *TWO, "--checkpoint", str(file)).exit_code == 0
    again = moa("ask", "Why?", *TWO, "--checkpoint", str(file), "--progress")
    assert again.stdout == "answer of judge\n"
    assert " 0 calls " in again.stderr.splitlines()[-1]
    other = moa("ask", "Why not?", *TWO, "--checkpoint", str(file))
    assert other.exit_code == 2
    assert "belongs to another question" in other.stderr


def test_options_reach_the_pack() -> None:
    order = Order(
        models=("scripted:a", "scripted:a"),
        options={"num_layers": 2, "quorum": 1, "timeout": 7.0, "max_concurrency": 3, "strategy": "role"},
        seed=5,
    )
    mixture = pack_for(order).workflow.mixture
    assert (mixture.num_layers, mixture.timeout, mixture.max_concurrency) == (2, 7.0, 3)
    assert mixture.limits.quorum == 1
    assert [seat.proposer.sampling.seed for seat in mixture.layers[0]] == [5, 6, 5]
    assert mixture.aggregator.name == "a"


def test_remote_models_have_a_limit_and_the_local_default_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "default_directory", lambda view: Path("there"))
    monkeypatch.setattr(ordering, "llm_named", lambda name: ScriptedLLM("x"))
    assert pack_for(Order(models=("scripted:a",))).workflow.mixture.timeout == 200
    default = pack_for(Order()).workflow.mixture
    assert default.timeout is None
    assert [seat.name for seat in default.layers[1]] == ["expert", "critic", "teacher"]
    assert default.aggregator.name == "aggregator"


def test_the_default_model_may_have_another_aggregator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "default_directory", lambda view: Path("there"))
    monkeypatch.setattr(ordering, "llm_named", lambda name: ScriptedLLM("x", model=name))
    pack = pack_for(Order(aggregator="scripted:judge"))
    assert pack.workflow.mixture.aggregator.name == "scripted:judge"


def test_a_missing_default_model_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*args: object, **kwargs: object) -> Path:
        raise ConfigurationError("could not be fetched")

    monkeypatch.setattr(default_model, "require_libraries", lambda: None)
    monkeypatch.setattr(default_model, "prepare", prepare)
    result = moa("ask", "Why?")
    assert (result.exit_code, result.stderr) == (2, "moa: could not be fetched\n")


class CutLLM(ScriptedLLM):
    """Says that its answers were cut at the longest length, in a provider's word."""

    def __init__(self, model: str) -> None:
        super().__init__("Well, it is", model=model)

    async def achat(self, messages: Any, **kwargs: Any) -> Any:
        response = await super().achat(messages, **kwargs)
        return response.model_copy(update={"raw": {"stop_reason": "max_tokens"}})

    async def astream_chat(self, messages: Any, **kwargs: Any) -> Any:
        pieces = await super().astream_chat(messages, **kwargs)

        async def ended() -> Any:
            async for piece in pieces:
                yield piece.model_copy(update={"raw": {"stop_reason": "max_tokens"}})

        return ended()


@pytest.mark.parametrize("cut", ["judge", "a"])
def test_an_answer_that_ends_at_its_longest_length_is_told_of(
    cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(model: str) -> ScriptedLLM:
        return CutLLM(model) if model == cut else ScriptedLLM("Well, it is", model=model)

    monkeypatch.setattr("tests.app.scripted_provider.scripted", made)
    result = moa("ask", "Why?", *TWO)
    assert (result.exit_code, result.stdout) == (0, "Well, it is\n")
    told = "moa: The answer was cut at its longest length; moa ask --max-tokens N sets another.\n"
    assert result.stderr == (told if cut == "judge" else "")


def test_the_demo_shows_the_way_and_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "default_directory", lambda view: Path("there"))
    monkeypatch.setattr(ordering, "llm_named", lambda name: ScriptedLLM("This is so."))
    result = moa("demo")
    assert (result.exit_code, result.stderr) == (0, "")
    for name in ("expert", "critic", "teacher"):
        assert result.stdout.count(f"  {name} answered in") == 2
    before, after = result.stdout.split("\n\nThis is so.\n\n")
    assert before.startswith("Question: ")
    assert "Round 2 of 2" in before
    assert after.endswith("nobody missing\n")


COMMANDS = ("ask", "demo", "chat", "batch", "upcycle", "experts")


def test_help_teaches_by_examples() -> None:
    overview = moa("--help").stdout
    assert all(f"│ {word}" in overview for word in COMMANDS)
    assert "Exit status of every command" in overview
    for command in COMMANDS:
        assert f"moa {command}" in moa(command, "--help").stdout.split("Example", 1)[1]


@pytest.mark.parametrize("command", ["ask", "chat", "batch"])
def test_whoever_asks_takes_the_same_options_and_no_key(command: str) -> None:
    said = moa(command, "--help").stdout
    for panel in ("Who proposes", "How it ends", "Limits and money", "Output"):
        assert f"─ {panel} ─" in said
    for option in (
        "--models-layer",
        "--layer-strategy",
        "--finish",
        "--budget-usd",
        "--trace-dir",
        "--config",
    ):
        assert option in said
    assert "--api-key" not in said
    assert "--key" not in said


def test_version() -> None:
    result = moa("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("moa ")
