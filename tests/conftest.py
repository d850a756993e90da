"""What holds for every test: its marks, a clean environment, and no way out to the network.

Knows the folders of the tests, not what is in them.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent

# Read when the libraries are imported, so set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads take the time of whom they wait for

# Two busy cores make single examples slow, never wrong; CI draws the same examples each time.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

MARK_OF_FOLDER = {"sparse_moe": "sparse_moe", "ways_in": "ways_in"}
NEEDED_BY_FOLDER = {
    "sparse_moe": ("torch", "transformers"),
    "policy": ("build", "hatchling"),
    "ways_in": ("build", "hatchling", "cryptography"),
}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a folder whose libraries this environment was set up without."""
    if collection_path.parent != TESTS:
        return None
    needed = NEEDED_BY_FOLDER.get(collection_path.name, ())
    return True if any(find_spec(name) is None for name in needed) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with what its folder stands for."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARK_OF_FOLDER:
            item.add_marker(MARK_OF_FOLDER[folder])


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's keys must neither be spent by a test nor make one pass."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE", "_API_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "1")


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to any address but this machine's own is an error in the test that made it."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded_connect(self: socket.socket, address: object) -> None:
        _refuse_outside(self.family, address)
        connect(self, address)  # type: ignore[arg-type]

    def guarded_connect_ex(self: socket.socket, address: object) -> int:
        _refuse_outside(self.family, address)
        return connect_ex(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)


def _refuse_outside(family: int, address: object) -> None:
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return
    host = str(address[0]).partition("%")[0]
    try:
        outside = not ipaddress.ip_address(host).is_loopback
    except ValueError:
        outside = host != "localhost"
    if outside:
        pytest.fail(f"a test tried to connect to {host!r}; tests reach loopback only")
