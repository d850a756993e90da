"""`pyproject.toml`, the constraints files, the changelog and the Makefile say the same thing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.policy.tree import PACKAGE_NAME, ROOT, pyproject

NAME = "llama-index-packs-mixture-of-agents"
CONSTRAINTS = sorted(ROOT.glob("constraints*.txt"))
EXTRAS = ("sparse-moe", "cli", "notebook", "dev", "all")


def _pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def _requirements(*extras: str) -> list[Requirement]:
    """The base requirements and those of `extras`, with extras that name other extras followed."""
    project = pyproject()["project"]
    texts = [*project["dependencies"]]
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    found = [Requirement(text) for text in texts]
    followed = [extra for one in found if one.name == NAME for extra in one.extras]
    own = [one for one in found if one.name != NAME]
    return own + (_requirements(*followed) if followed else [])


def _contradictions(path: Path, *extras: str) -> list[str]:
    pins = _pins(path)
    return [
        f"{one}: {pins.get(canonicalize_name(one.name), 'not pinned')}"
        for one in _requirements(*extras)
        if one.marker is None or one.marker.evaluate({"python_version": "3.11"})
        if not one.specifier.contains(pins.get(canonicalize_name(one.name), "0"), prereleases=True)
    ]


def test_the_names_are_kept() -> None:
    project = pyproject()["project"]
    assert project["name"] == NAME
    assert set(EXTRAS) <= set(project["optional-dependencies"])
    assert project["scripts"] == {"moa": f"{PACKAGE_NAME}.app.__main__:main"}


def test_the_hub_finds_the_pack() -> None:
    hub = pyproject()["tool"]["llamahub"]
    assert hub["import_path"] == PACKAGE_NAME
    assert set(hub["class_authors"]) == {"MixtureOfAgentsPack"}


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.name)
def test_every_pin_is_a_plain_public_version(path: Path) -> None:
    for name, version in _pins(path).items():
        assert re.fullmatch(r"[a-z0-9-]+", name), name
        assert Version(version).local is None, f"{name}=={version}"


def test_the_pins_satisfy_the_requirements() -> None:
    assert _contradictions(ROOT / "constraints.txt", "all", "dev") == []


def test_the_pins_of_the_oldest_core_satisfy_the_requirements() -> None:
    path = ROOT / "constraints-core-0.14.20.txt"
    assert _contradictions(path, "test") == []
    assert _pins(path)["llama-index-core"] == "0.14.20"
    assert _pins(path)["llama-index-cli"] == "0.5.7"


def test_torch_is_pinned_alike_everywhere() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"torch=={_pins(ROOT / 'constraints.txt')['torch']}" in makefile


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{pyproject()['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_makefile_has_the_promised_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test", "lint", "types", "bench", "format"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_ci_runs_what_the_readme_says() -> None:
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert steps[-3:] == ["make lint", "make types", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make test" in readme
    assert "make demo" in readme
