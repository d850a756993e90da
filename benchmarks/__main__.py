"""Run the benchmark of orchestration: a table on the terminal, JSON beside it.

python -m benchmarks [FILE.json]

Those of the local model need its extra, and run by themselves: `benchmarks.local_batching`,
`benchmarks.local_layout` and `benchmarks.capacity_effect`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import in_a_line, machine
from benchmarks.orchestration import measure
from benchmarks.profile import shares

DEFAULT = Path(__file__).parent / "results" / "orchestration.json"


def table(figures: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table: a row a scenario, a column a contender."""
    names = list(dict.fromkeys(figure["contender"] for figure in figures))
    scenarios = list(dict.fromkeys(figure["scenario"] for figure in figures))
    cells = {(figure["scenario"], figure["contender"]): _cell(figure) for figure in figures}
    head = f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}"
    rows = [
        f"| {scenario} | {' | '.join(cells[scenario, name] for name in names)} |" for scenario in scenarios
    ]
    return "\n".join([head, *rows])


def _cell(figure: dict[str, Any]) -> str:
    if figure["ratio"] is None:
        return f"{1000 * figure['seconds']:.2f} ms"
    collected = f", gc {figure['gc_seconds']:.2f} s" if figure["gc_seconds"] >= 0.05 else ""
    return f"{figure['seconds']:.2f} s ({figure['ratio']:.2f} x{collected})"


def main() -> None:
    """Measure, print, write."""
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    about = machine()
    print(in_a_line(about), flush=True)
    figures, spent = asyncio.run(measure()), shares()
    print(table(figures))
    print("\nOwn code, ms a run under the profiler (which slows it):")
    print("\n".join(f"  {milliseconds:6.2f}  {owner}" for owner, milliseconds in spent.items()))
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(json.dumps({"machine": about, "figures": figures, "profile_ms": spent}, indent=1) + "\n")
    print(f"\nWritten to {where}")


if __name__ == "__main__":
    main()
