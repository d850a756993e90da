"""The quickstart notebook, run by a real kernel: as it is, and in a loop patched by nest_asyncio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebooks import EXAMPLES, install_kernel, shown

QUICKSTART = EXAMPLES / "quickstart.ipynb"
ANSWER = "Air scatters the short, blue waves of sunlight most"
EXPECTED = {
    "models": [],
    "run": [ANSWER],
    "table": ["physicist", "Rayleigh", "answer"],
    "timing": ["s of thinking in", "tokens written"],
    "reads": ["draft 1\nAir molecules", "draft 2\nSunlight", "draft 3\nViolet", "Why is the sky blue?"],
    "arun": ["5 answers in"],
    "astream": [
        "[layer 1] asked physicist",
        "[layer 2] answered sceptic",
        "[layer 3] synthesis editor",
        ANSWER,
    ],
    "query-engine": [ANSWER],
    "degraded": ["degraded: True", "missing: broken, layer 1: ConnectionRefusedError: nobody listens"],
    "nothing-survived": ["No model of the mixture answered:\n- broken, layer 1"],
    "refused": ["quorum is 3", "at most 2"],
    "gate": ["blue? ['physicist', 'teacher']", "violet? ['sceptic']"],
    "crew": ["└─ t3 writer", "t1 tables ['wavelength: 450 nm'] Blue has 450 nm.", "t3 writer [] Of what air"],
}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of this very interpreter that finds this very package."""
    return install_kernel(tmp_path, monkeypatch)


def load() -> Any:
    return nbformat.read(QUICKSTART, as_version=4)


def test_it_is_stored_valid_and_without_outputs() -> None:
    notebook = load()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code] == list(EXPECTED)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("patched", [False, True], ids=["as it is", "with nest_asyncio"])
def test_a_real_kernel_runs_it_offline_from_top_to_bottom(kernel: str, patched: bool, tmp_path: Path) -> None:
    notebook = load()
    if patched:
        patch = "import nest_asyncio\nnest_asyncio.apply()"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(patch, id="patch"))
    client = NotebookClient(
        notebook, timeout=40, kernel_name=kernel, resources={"metadata": {"path": str(tmp_path)}}
    )

    client.execute()

    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    for name, parts in EXPECTED.items():
        text = shown(cells[name])
        assert [part for part in parts if part not in text] == [], text
    assert shown(cells["table"]).startswith("<table>")
