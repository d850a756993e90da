"""`moa experts`: what it prints, writes and refuses, on a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app import default_model, experts
from llama_index.packs.mixture_of_agents.app.commands import app
from llama_index.packs.mixture_of_agents.app.experts import prompt_from
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from tests.app.conftest import environment, has_torch

needs_torch = pytest.mark.skipif(not has_torch(), reason="needs the sparse-moe extra")


def moa(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["experts", *words], input=text, catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.sparse_moe import tiny_models

    return str(tiny_models.save(tiny_models.tiny_mixtral(), tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a refusal comes only after a model was fetched or opened."""

    def run(*args: object, **kwargs: object) -> Any:
        pytest.fail("a model was touched before the input was checked")

    monkeypatch.setattr(default_model, "prepare", run)
    monkeypatch.setattr(experts, "_seen", run)


@needs_torch
def test_layers_by_experts(folder: str) -> None:
    result = moa(folder, "--prompt", "Why is the sky blue?")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:3] == ["tiny, 2 MoE layers, 4 experts, top 2", "no capacity limit", "Why is the sky blue?"]
    assert lines[4].split() == ["layer", "0", "1", "2", "3", "entropy", "max/mean"]
    assert [line.split()[0] for line in lines[5:7]] == ["0", "1"]
    assert lines[9].startswith("20 tokens · router entropy ")


@needs_torch
@pytest.mark.parametrize("words", [("--prompt", "-"), ()])
def test_the_prompt_may_be_piped_in(folder: str, words: tuple[str, ...]) -> None:
    assert "\n9 tokens · " in moa(folder, *words, text="Piped in\n").stdout


@needs_torch
def test_limits_and_a_file_of_text(folder: str, tmp_path: Path) -> None:
    (tmp_path / "essay.txt").write_text("A river rose in the night. " * 5, encoding="utf-8")
    limits = ("--capacity-factor", "0.75", "--capacity-block", "32", "--overflow", "reroute", "--top-k", "3")
    result = moa(f"sparse-moe:{folder}", "--prompt-file", str(tmp_path / "essay.txt"), *limits)
    assert result.exit_code == 0
    assert "top 3\ncapacity factor 0.75, C = 18 in a block of 32 tokens, the rest rerouted" in result.stdout
    assert result.stdout.splitlines()[4].split()[5:] == ["dropped", "rerouted", "entropy", "max/mean"]


@needs_torch
def test_json_adds_up(folder: str) -> None:
    words = ("--prompt", "Why?", "--chat", "--max-tokens", "3", "--capacity-factor", "1")
    found = json.loads(moa(folder, *words, "--json").stdout)
    tokens = found["prompt_tokens"] + found["completion_tokens"]
    assert (found["model"], found["settings"]["capacity_factor"]) == ("tiny", 1)
    assert 0 < found["completion_tokens"] <= 3
    assert found["sparse_moe"]["tokens"] == tokens
    for layer in found["sparse_moe"]["layers"]:
        assert layer["kept"] + layer["dropped"] == 2 * tokens
        assert sum(layer["load"]) == layer["kept"]
    assert "tokens" not in found


@needs_torch
def test_json_of_tokens(folder: str) -> None:
    found = json.loads(moa(folder, "--prompt", "Why?", "--by", "token", "--layer", "1", "--json").stdout)
    assert found["tokens"] == ["W", "h", "y", "?"]
    (choice,) = found["choices"]
    assert choice["layer"] == 1
    assert [len(row) for row in choice["experts"]] == [2] * 4
    every = json.loads(moa(folder, "--prompt", "Why?", "--by", "token", "--json").stdout)
    assert [one["layer"] for one in every["choices"]] == [0, 1]


@needs_torch
def test_tokens_by_experts(folder: str) -> None:
    result = moa(folder, "--prompt", "Why so?", "--by", "token", "--layer", "1")
    lines = result.stdout.splitlines()
    assert lines[0].endswith(": layer 1")
    assert [line.split()[0] for line in lines[5:12]] == ["W", "h", "y", "·", "s", "o", "?"]


@needs_torch
@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_an_image(folder: str, tmp_path: Path, suffix: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / f"map{suffix}"
    result = moa(folder, "--prompt", "Why?", "-o", str(file))
    assert (result.exit_code, result.stderr) == (0, f"moa: {file} is written\n")
    assert result.stdout.startswith("tiny, 2 MoE layers")
    assert file.read_bytes().startswith(begins)


@needs_torch
@pytest.mark.parametrize("words", [(), ("default",)])
def test_without_a_model_the_embedded_one(
    folder: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts, "default_directory", lambda view: Path(folder))
    assert moa(*words, "--prompt", "Why?").stdout.startswith("tiny, 2 MoE layers")


@needs_torch
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "expert"), "--by 'expert' is not valid; it must be one of layer, token"),
        (("--layer", "1"), "use it with --by token"),
        (("--by", "token", "--layer", "-1"), "--layer -1 is not valid"),
        (("--max-tokens", "-1"), "--max-tokens -1 is not valid"),
        (("--output", "map.pdf"), "must end in .png or .svg"),
        (("--output", "no/such/folder/map.png"), "does not exist"),
        (("--capacity-factor", "0"), "capacity_factor=0.0"),
        (("--capacity-factor", "much"), "--capacity-factor"),
        (("--capacity-block", "0"), "capacity_block=0"),
        (("--overflow", "burst"), "overflow='burst'"),
        (("--top-k", "0"), "top_k=0"),
        (("--prompt-file", "essay.txt"), "Both --prompt and --prompt-file"),
    ],
)
@pytest.mark.usefixtures("never_run")
def test_bad_input_is_refused_before_a_model_is_touched(words: tuple[str, ...], said: str) -> None:
    result = moa("--prompt", "Why?", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@needs_torch
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--top-k", "5"), 2, "top_k=5 is more than the 4 experts"),
        (("--by", "token", "--layer", "2"), 2, "tiny has MoE layers 0 to 1"),
        (("--max-tokens", "600"), 1, "exceed the context window of 512 by 92 tokens"),
    ],
)
def test_what_only_the_model_can_tell(folder: str, words: tuple[str, ...], status: int, said: str) -> None:
    result = moa(folder, "--prompt", "Why?", *words)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr


@needs_torch
def test_no_such_model() -> None:
    result = moa("nowhere", "--prompt", "Why?")
    assert result.exit_code == 2
    assert "no model directory at nowhere" in result.stderr


@pytest.mark.parametrize("text", ["", " \n"])
@pytest.mark.usefixtures("never_run")
def test_an_empty_prompt(text: str) -> None:
    result = moa("--prompt", text)
    assert result.exit_code == 2
    assert "The prompt is empty" in result.stderr


def test_a_prompt_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        prompt_from(None, tmp_path / "nowhere.txt", None)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigurationError, match="not text"):
        prompt_from(None, tmp_path / "binary", None)
    with pytest.raises(ConfigurationError, match="No prompt"):
        prompt_from(None, None, None)


def test_without_torch_the_extra_is_named() -> None:
    seen = _in_new_python("import sys; sys.modules['torch'] = None", "--prompt", "Why?")
    assert (seen.returncode, seen.stdout) == (2, "")
    assert "pip install 'llama-index-packs-mixture-of-agents[sparse-moe]'" in seen.stderr


def test_help_loads_nothing_heavy() -> None:
    look = "import atexit, sys; heavy = {'torch', 'transformers', 'matplotlib'}"
    tell = "atexit.register(lambda: print(sorted(heavy & {*sys.modules}), file=sys.stderr))"
    seen = _in_new_python(f"{look}; {tell}", "--help")
    assert (seen.returncode, seen.stderr) == (0, "[]\n")


def _in_new_python(first: str, *words: str) -> subprocess.CompletedProcess[str]:
    program = f"{first}; from llama_index.packs.mixture_of_agents.app.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "experts", *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_help_teaches_by_examples() -> None:
    assert "moa experts" in moa("--help").stdout.split("Example", 1)[1]
