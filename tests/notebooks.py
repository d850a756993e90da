"""Notebooks in tests: a kernel that finds this package, and what a cell showed.

Knows no notebook.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def install_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set up a kernel of this very interpreter, for this test only; return its name."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "tested",
        "language": "python",
        "env": {"PYTHONPATH": str(ROOT)},
    }
    place = folder / "kernels" / "tested"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    return place.name


def shown(cell: Any) -> str:
    """All a cell printed or displayed, an HTML table in place of its plain text."""
    texts = []
    for output in cell.outputs:
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output.text
        data = output.get("data", {})
        texts.append(output.get("text") or data.get("text/html") or data.get("text/plain", ""))
    return "".join(texts)


def pictures(cell: Any) -> int:
    """How many pictures a cell displayed."""
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)
