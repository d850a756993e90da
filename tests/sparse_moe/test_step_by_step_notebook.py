"""The tutorial on mixtures of experts, run by a real kernel on a machine without the default model."""

from __future__ import annotations

import re
from typing import Any

import matplotlib.font_manager  # noqa: F401  - builds its cache here, not in the kernel, where it would warn
import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebooks import EXAMPLES, install_kernel, pictures, shown

STEP_BY_STEP = EXAMPLES / "mixture_of_experts_step_by_step.ipynb"
PICTURES = ("curves", "specialise", "capacity-plot")
EXPECTED = {
    "route": ["p(expert 3)", "goes to"],
    "cap": ["capacity 3; 11 of 12 assignments kept"],
    "dispatch": ["expert 3 gets tokens [0, 2, 3]"],
    "layer": ["same output: True", "same plan:   True"],
    "cost": ["128           805 M                   13 M"],
    "agents-route": ["no agent takes more than 3", "physicist, (cook is full)"],
    "agents-dispatch": ["asked gardener", "answered cook", "synthesis editor", "answer: A little"],
    "agents-combine": ["draft 2\nSoil changes"],
    "agents-cap": ["6 proposals, never more in flight at once than 2", "dropped: slow, layer 1"],
    "local": ["a tiny mixture with random weights"],
    "local-mixture": ["local mixture (40 tokens)", "cook (7 tokens)"],
}

Cells = dict[str, Any]


def code_cells(notebook: Any) -> Cells:
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """The code cells after one run from top to bottom."""
    notebook, folder = nbformat.read(STEP_BY_STEP, as_version=4), tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOA_CACHE_DIR", str(folder / "empty"))
        kernel = install_kernel(folder, patch)
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=90, kernel_name=kernel, resources=resources).execute()
    return code_cells(notebook)


def test_it_is_stored_valid_and_without_outputs() -> None:
    notebook = nbformat.read(STEP_BY_STEP, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook).values()
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_real_kernel_runs_it_offline_from_top_to_bottom(executed: Cells) -> None:
    texts = {name: shown(cell) for name, cell in executed.items()}
    missing = {name: part for name, parts in EXPECTED.items() for part in parts if part not in texts[name]}
    assert not missing, [texts[name] for name in missing]
    assert {name: pictures(cell) for name, cell in executed.items() if pictures(cell)} == dict.fromkeys(
        PICTURES, 1
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_experts_specialise_and_the_balancing_loss_wakes_the_idle_ones(executed: Cells) -> None:
    found = re.findall(
        r"error ([\d.]+), busiest expert (\d+)%, idle experts (\d)", shown(executed["specialise"])
    )
    (error, busiest, idle), (balanced_error, balanced_busiest, balanced_idle) = found
    assert (int(idle) > 0, int(balanced_idle)) == (True, 0)
    assert int(balanced_busiest) < 25 < int(busiest)
    assert float(balanced_error) < float(error)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_capacity_drops_less_the_more_there_is_and_the_more_even_the_load(executed: Cells) -> None:
    rows = [line.split() for line in shown(executed["capacity"]).splitlines()[1:]]
    dropped = {name: [float(row[3]) for row in rows if row[1] == name] for name in ("mixture", "balanced")}
    assert all(shares == sorted(shares, reverse=True) and shares[-1] == 0 for shares in dropped.values())
    assert dropped["mixture"][2] > dropped["balanced"][2] + 0.1  # at capacity factor 1


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_local_model_tells_what_its_limit_dropped(executed: Cells) -> None:
    lines = shown(executed["local-routing"]).splitlines()[1:]
    rows = [[int(number) for number in re.findall(r"\d+", line)] for line in lines]
    assert len(rows) == 3
    for _, *loads, capacity, dropped in rows:
        free, limited = loads[:4], loads[4:]
        assert max(limited) <= capacity
        assert sum(free) == sum(limited) + dropped
    assert sum(row[-1] for row in rows) > 0
