"""Importing the package does nothing but import: no handlers, no sockets, no threads, no heavy libraries.

Each look is a fresh interpreter, since this one has imported everything already.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.policy.tree import PACKAGE_NAME

LOOK = """
import json, logging, os, socket, sys, threading, warnings

opened = []
create = socket.socket.__init__
def counted(self, *args, **kwargs):
    opened.append(args)
    create(self, *args, **kwargs)
socket.socket.__init__ = counted

# What these do at import is their own affair (httpx loads its command line where rich is installed).
import httpx, llama_index.core, llama_index.core.workflow
loaded = set(sys.modules)
before = (list(logging.root.handlers), logging.root.level, threading.active_count(),
          dict(os.environ), list(warnings.filters))
opened.clear()
for name in sys.argv[1:]:
    __import__(name)
after = (list(logging.root.handlers), logging.root.level, threading.active_count(),
         dict(os.environ), list(warnings.filters))
package = logging.getLogger("llama_index.packs.mixture_of_agents")
print(json.dumps({
    "changed": [i for i in range(len(before)) if before[i] != after[i]],
    "sockets": len(opened),
    "handlers": [type(h).__name__ for h in package.handlers if not isinstance(h, logging.NullHandler)],
    "modules": sorted(set(sys.modules) - loaded),
}))
"""
HEAVY = ("torch", "transformers", "gguf", "typer", "rich", "IPython", "ipykernel", "nest_asyncio", "openai")


def _look(*modules: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-c", LOOK, *modules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize("module", [PACKAGE_NAME, f"{PACKAGE_NAME}.testing"])
def test_importing_has_no_side_effects(module: str) -> None:
    seen = _look(module)
    assert seen["changed"] == [], "of: root handlers, root level, threads, environment, warning filters"
    assert seen["sockets"] == 0
    assert seen["handlers"] == []


@pytest.mark.parametrize("module", [PACKAGE_NAME, f"{PACKAGE_NAME}.testing", f"{PACKAGE_NAME}.sparse_moe"])
def test_importing_loads_nothing_optional(module: str) -> None:
    loaded = {name.partition(".")[0] for name in _look(module)["modules"]}
    assert not loaded & set(HEAVY)


def test_importing_loads_no_model_client() -> None:
    """Core and workflows alone are enough to import it; a client is imported when it is named."""
    clients = [name for name in _look(PACKAGE_NAME)["modules"] if name.startswith("llama_index.llms.")]
    assert clients == []
