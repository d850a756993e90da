"""pip's way in: the wheel in an empty environment, and the sdist from which the same wheel comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.built import build, sdist_files, unpack_sdist, wheel_files
from tests.policy.tree import PACKAGE_NAME, ROOT, all_files
from tests.ways_in.conversation import ANSWER, asking
from tests.ways_in.environments import INSTALL_SECONDS, Environment

# The first test of a session waits for pip.
pytestmark = [pytest.mark.timeout(INSTALL_SECONDS + 60), pytest.mark.network, pytest.mark.slow]

FOR_CONTRIBUTORS = ("tests", "examples", "benchmarks")
AT_THE_TOP = (
    "BUILD",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
)


def test_the_wheel_answers_in_an_empty_environment(installed: Environment) -> None:
    said = installed.ask(asking())
    assert said["answer"] == ANSWER
    assert said["proposals"] == ["draft a1", "draft a2", "draft b1", "draft b2"]
    assert said["degraded"] is False
    assert Path(said["file"]).is_relative_to(installed.site_packages)


def test_nothing_optional_came_with_it(installed: Environment) -> None:
    found = installed.ask(
        "from importlib.util import find_spec\n"
        "say([name for name in ('torch', 'transformers', 'typer', 'ipykernel') if find_spec(name)])"
    )
    assert found == []
    assert installed.run("python", "-m", "pip", "check").returncode == 0


def test_the_sparse_model_names_the_extra_it_needs(installed: Environment) -> None:
    message = installed.ask(
        f"from {PACKAGE_NAME}.sparse_moe import SparseMoELLM\n"
        "try:\n    SparseMoELLM(model='nowhere')\nexcept ImportError as error:\n    say(str(error))"
    )
    assert "pip install 'llama-index-packs-mixture-of-agents[sparse-moe]'" in message


def test_the_command_line_names_the_extra_it_needs(installed: Environment) -> None:
    done = installed.run("moa", "ask", "Why?")
    assert done.returncode == 2
    assert "pip install 'llama-index-packs-mixture-of-agents[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_sdist_holds_what_a_contributor_needs(built: dict[str, Path]) -> None:
    files = sdist_files(built["sdist"])
    assert set(AT_THE_TOP) <= set(files)
    for folder in FOR_CONTRIBUTORS:
        for path in all_files(ROOT / folder):
            if ".ipynb_checkpoints" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in files
    assert not [name for name in files if name.startswith(".venv") or "__pycache__" in name]


def test_the_sdist_makes_the_same_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    source = unpack_sdist(built["sdist"], tmp_path / "sdist")
    (rebuilt,) = build(source, tmp_path / "dist", "wheel")
    assert wheel_files(rebuilt) == wheel_files(built["wheel"])
