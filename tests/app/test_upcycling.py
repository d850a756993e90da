"""`moa upcycle`: options reach the maker, prompts come from a file, bad ones are refused before anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llama_index.packs.mixture_of_agents.app.commands import app


def moa(*words: str) -> Result:
    return CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the maker was called with."""
    calls: list[dict[str, Any]] = []

    def make(source: Path, destination: Path, **options: Any) -> Path:
        options.pop("progress")("layer 1 of 1")
        calls.append({"source": source, "destination": destination, **options})
        return destination

    monkeypatch.setattr("llama_index.packs.mixture_of_agents.sparse_moe.upcycle", make)
    return calls


DEFAULTS: dict[str, Any] = {
    "source": Path("src"),
    "destination": Path("dst"),
    "experts": 4,
    "top_k": 2,
    "noise": 0.0,
    "reinitialize": 0.0,
    "router": "random",
    "prompts": None,
    "seed": 0,
}


def test_without_options_the_makers_defaults_hold(made: list[dict[str, Any]]) -> None:
    result = moa("upcycle", "src", "dst")
    assert result.exit_code == 0
    assert made == [DEFAULTS]
    assert result.stdout.startswith("dst: 4 experts, 2 per token, 0.00 GB, made in ")


def test_options_reach_the_maker(made: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("Why is it so?\n\n   \ndef f(x): return x\r\nWarum, François?\n", encoding="utf-8")
    words = ["--experts", "8", "--top-k", "3", "--noise", "0.05", "--reinitialize", "0.5", "--seed", "7"]
    result = moa("upcycle", "src", "dst", *words, "--router", "kmeans", "--prompts", str(file))
    assert result.exit_code == 0
    changed = {
        "experts": 8,
        "top_k": 3,
        "noise": 0.05,
        "reinitialize": 0.5,
        "router": "kmeans",
        "seed": 7,
        "prompts": ["Why is it so?", "def f(x): return x", "Warum, François?"],
    }
    assert made == [DEFAULTS | changed]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"cannot be read"),
        (b"\xff\xfe\x00 not text", "name a UTF-8 text file with one prompt a line"),
        (b"", "holds no prompts; write one a line, or leave --prompts out"),
        (b"\n  \n\t\n", "holds no prompts"),
    ],
)
def test_a_bad_prompts_file_is_refused_before_anything(
    made: list[dict[str, Any]], tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    result = moa("upcycle", "src", "dst", "--router", "kmeans", "--prompts", str(file))
    assert (result.exit_code, result.stdout, made) == (2, "", [])
    assert "prompts.txt" in result.stderr
    assert said in result.stderr


def test_a_folder_is_no_prompts_file(made: list[dict[str, Any]], tmp_path: Path) -> None:
    result = moa("upcycle", "src", "dst", "--router", "kmeans", "--prompts", str(tmp_path))
    assert (result.exit_code, made) == (2, [])
    assert "cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--noise", "-0.1"), "noise=-0.1 is not valid"),
        (("--noise", "nan"), "noise=nan is not valid"),
        (("--reinitialize", "1.5"), "reinitialize=1.5 is not valid; it must be a share between 0 and 1"),
        (("--router", "best"), "router='best' is not valid; it must be 'random' or 'kmeans'"),
        (("--seed", "-1"), "seed=-1 is not valid"),
        (("--seed", "x"), "--seed"),
    ],
)
def test_bad_options_are_refused_by_the_maker_itself(words: tuple[str, ...], said: str) -> None:
    result = moa("upcycle", "nowhere", "there", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_prompts_for_a_random_router_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("Why?", encoding="utf-8")
    result = moa("upcycle", "nowhere", "there", "--prompts", str(file))
    assert result.exit_code == 2
    assert "router='random' does not read any" in result.stderr
