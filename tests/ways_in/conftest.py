"""The built wheel and sdist, an empty environment, and one with the last core that downloads packs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.built import build
from tests.policy.tree import ROOT
from tests.ways_in.environments import Environment, constrained, create, kept

DISTRIBUTION = "llama-index-packs-mixture-of-agents"
DOWNLOADER = ("llama-index-core==0.14.20", "llama-index-cli==0.5.7", "hatchling")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist of this tree, by kind."""
    files = build(ROOT, tmp_path_factory.mktemp("dist"), "wheel", "sdist")
    return {"wheel" if file.suffix == ".whl" else "sdist": file for file in files}


@pytest.fixture(scope="session")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An empty environment into which only the wheel was installed."""
    folder = tmp_path_factory.mktemp("user") / "environment"
    return create(folder, *constrained("constraints.txt"), built["wheel"])


@pytest.fixture(scope="session")
def _downloading_environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    cache = request.config.cache
    if cache is None:
        pytest.skip("needs pytest's cache, where the environment is kept")
    arguments = [*constrained("constraints-core-0.14.20.txt"), *DOWNLOADER]
    with kept(cache.mkdir("downloader"), arguments) as environment:
        yield environment


@pytest.fixture(scope="module")
def downloader(_downloading_environment: Environment) -> Environment:
    """The last pair of core and command line that downloads packs; the pack is not installed in it."""
    _downloading_environment.uninstall(DISTRIBUTION)
    return _downloading_environment
