"""The table of architectures in the documentation.

`python -m tests.sparse_moe.architectures_table` measures everything and writes `docs/architectures.md` anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils import logging

from tests.sparse_moe.architectures import ARCHITECTURES, EXPERTS, TOP_K
from tests.sparse_moe.measuring import Row, measure

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
HEADER = """\
| architecture | router | parity | capacity | reroute | top-k override | int8 |
|---|---|---|---|---|---|---|"""
COLUMNS = 7
INTRODUCTION = f"""\
# Architectures

What a sparse model can do here depends on its architecture's router, and is tried out rather than assumed.
This table is written by `python -m tests.sparse_moe.architectures_table` from tiny random models ({EXPERTS}
experts, {TOP_K} per token unless its kind allows only another number); a test holds it to what it says.

- **router**: its class, and how it weighs experts: in proportion to which score of its logits, whether a bias
  is added where it chooses, and within how many groups of experts a token chooses. This is found by asking
  the router about random hidden states.
- **parity**: largest difference of a logit from transformers' own eager forward, without limits.
- **capacity**: nothing changes while no expert is full; when some are, who is kept agrees with a slow oracle.
- **reroute**: who goes where agrees with the oracle, by the score that the router itself chooses by, with the
  weight it would give: the same it gives the expert when asked for one more.
- **top-k override**: one expert fewer and one more per token give the logits of a stock model made so.
- **int8**: in brackets, the size of the error in the logits where tokens go the same ways, and the share of
  tokens whose most likely successor is the same where 8 bits decide the ways too. Random models have many
  near-ties; trained ones have fewer.
"""


def render(rows: Sequence[Row]) -> str:
    """Write the page."""
    lines = [
        f"| {row.name} | {row.router} | {_short(row.parity)} | {row.capacity.text} | {row.reroute.text} "
        f"| {row.top_k.text} | {row.int8.text} |"
        for row in rows
    ]
    reasons = [
        f"- {row.name}: {verdict.refusal}"
        for row in rows
        for verdict in (row.reroute, row.top_k)
        if verdict.refusal
    ]
    return "\n".join([INTRODUCTION, HEADER, *lines, "", "## What is refused, and why", "", *reasons, ""])


def verdicts(page: str) -> list[str]:
    """Keep of a page what does not depend on the last digit of a float."""
    kept = []
    for line in page.splitlines():
        cells = line.split(" | ")
        if len(cells) == COLUMNS and cells[2][0].isdigit():
            line = " | ".join(re.sub(r"\(.*\)", "", cell) for cell in cells[:2] + cells[3:])
        kept.append(line)
    return kept


def _short(difference: float) -> str:
    return f"{difference:.0e}" if difference else "0"


def main() -> None:
    """Measure everything and write the page."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render([measure(architecture) for architecture in ARCHITECTURES]), encoding="utf-8")


if __name__ == "__main__":
    main()
