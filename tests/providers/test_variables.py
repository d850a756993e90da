"""Variables from the environment and a `.env` file, and which key goes where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import llm_named, variables


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with nothing in it."""
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, *lines: str) -> None:
    (folder / ".env").write_text("\n".join(lines), encoding="utf-8")


def test_the_environment_stands_over_the_file(folder: Path) -> None:
    write(folder, "A=file", "B=file", "# comment", "export C='quoted value'", "D", "E=")
    found = variables(folder, {"A": "here", "B": " "})
    assert dict(found) == {"A": "here", "B": "file", "C": "quoted value"}
    assert [found.source(name) for name in ("A", "B", "Z")] == ["environment", str(folder / ".env"), ""]


def test_reading_changes_nothing(folder: Path) -> None:
    write(folder, "OPENAI_API_KEY=from-file", "OTHER=x")
    before = dict(os.environ)
    llm: Any = llm_named("gpt-4o")
    assert llm.api_key == "from-file"
    assert dict(os.environ) == before


def test_without_a_file_there_is_the_environment_alone(folder: Path) -> None:
    found = variables(folder, {"A": "1"})
    assert (dict(found), found.path) == ({"A": "1"}, None)


def test_what_windows_puts_in_front_is_no_part_of_a_name(folder: Path) -> None:
    (folder / ".env").write_bytes(b"\xef\xbb\xbfA=1\r\nB=2\r\n")
    assert dict(variables(folder, {})) == {"A": "1", "B": "2"}


def test_the_switch_leaves_the_file_out(folder: Path) -> None:
    write(folder, "A=1")
    assert "A" not in variables(folder, {"PYTHON_DOTENV_DISABLED": "1"})


def test_a_file_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / ".env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigurationError, match="must be UTF-8"):
        variables(folder, {})


def test_values_are_not_shown(folder: Path) -> None:
    write(folder, "A=sesame")
    assert "sesame" not in repr(variables(folder, {"B": "sesame"}))


@pytest.mark.parametrize(
    ("provider", "variable"),
    [("openai:gpt-4o", "OPENAI_API_KEY"), ("mistralai:mistral-small-latest", "MISTRAL_API_KEY")],
)
def test_a_key_may_be_in_the_file_alone(folder: Path, provider: str, variable: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        llm_named(provider)
    write(folder, f"{variable}=from-file")
    assert llm_named(provider).metadata.model_name == provider.partition(":")[2]


def test_given_variables_are_the_only_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    with pytest.raises(ConfigurationError, match="needs a key"):
        llm_named("gpt-4o", env={})
    llm: Any = llm_named("gpt-4o", env={"OPENAI_API_KEY": "given"})
    assert llm.api_key == "given"


class TestKeysOfServersOfOnesOwn:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("llama_index.llms.openai_like")

    @pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_LIKE_API_KEY"])
    def test_the_environments_key_goes_to_no_address_of_a_file(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        write(folder, "OPENAI_API_BASE=http://127.0.0.1:9/v1")
        monkeypatch.setenv(variable, "from-environment")
        llm: Any = llm_named("openai-like:m")
        assert (llm.api_base, llm.api_key) == ("http://127.0.0.1:9/v1", "none")

    def test_a_files_key_goes_to_the_files_address(self, folder: Path) -> None:
        write(folder, "OPENAI_API_BASE=http://127.0.0.1:9/v1", "OPENAI_API_KEY=from-file")
        llm: Any = llm_named("openai-like:m")
        assert llm.api_key == "from-file"

    def test_an_openai_key_does_not_follow_a_files_address(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(folder, "OPENAI_API_BASE=http://127.0.0.1:9/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
        llm: Any = llm_named("gpt-4o")
        assert llm.api_base == "https://api.openai.com/v1"
