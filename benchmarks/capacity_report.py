"""The figures of `capacity_effect` as tables, a plot and a page.

python -m benchmarks.capacity_report FILE.json FOLDER

Every number in the page is taken from the figures, none is written by hand. It measures nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import in_a_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EQUAL, PARTED = "equal experts", "parted experts"
NO_LIMIT = "no limit"
POLICIES = {
    "drop": "#c0504d",
    "drop, by position": "#e0a03c",
    "drop, renormalised": "#4a7ebb",
    "reroute": "#3c8d5a",
}
"""What happens beyond the limit, and its colour."""
CEILING = 1000
"""Perplexities beyond are ruin; how much of it is not drawn."""
_STYLE: Any = {"font.size": 9, "axes.linewidth": 0.6, "svg.fonttype": "none", "svg.hashsalt": "capacity"}


@dataclass(frozen=True)
class CapacityFigure:
    """One model under one policy.

    Attributes:
        model: Its name here.
        policy: What happens to assignments beyond the limit, or `NO_LIMIT`.
        factor: Capacity factor; None without a limit.
        perplexity: Of all tokens but each window's first.
        dropped: Share of assignments that no expert computed.
        rerouted: Share of assignments that went to another expert than the router chose.
        bare: Share of tokens that no expert took, mean over layers.
        imbalance: Largest load of an expert over the mean, mean over layers.
    """

    model: str
    policy: str
    factor: float | None
    perplexity: float
    dropped: float
    rerouted: float
    bare: float
    imbalance: float


@dataclass(frozen=True)
class Measured:
    """A run of `capacity_effect`.

    Attributes:
        machine: What it ran on.
        base: The embedded default's name.
        redrawn: Share of units drawn anew in the parted experts.
        topics: Chapters that were read.
        tokens: Of all windows together.
        window: Tokens of one.
        block: Tokens that share a capacity.
        figures: What came out.
    """

    machine: dict[str, str]
    base: str
    redrawn: float
    topics: Sequence[str]
    tokens: int
    window: int
    block: int
    figures: Sequence[CapacityFigure]

    @classmethod
    def of(cls, found: dict[str, Any]) -> Measured:
        """Read what `asdict` made."""
        return cls(**{**found, "figures": [CapacityFigure(**one) for one in found["figures"]]})

    def at(self, model: str, policy: str, factor: float | None) -> CapacityFigure:
        """The figure of one model, policy and capacity factor."""
        wanted = (model, NO_LIMIT if factor is None else policy, factor)
        return next(one for one in self.figures if (one.model, one.policy, one.factor) == wanted)

    @property
    def models(self) -> list[str]:
        """In the order they were measured."""
        return list(dict.fromkeys(one.model for one in self.figures))

    @property
    def factors(self) -> list[float | None]:
        """Ascending, no limit last."""
        limits = sorted({one.factor for one in self.figures if one.factor is not None})
        return [*limits, None]


def shown(one: CapacityFigure) -> str:
    """A perplexity; beyond a thousand only its size matters."""
    if one.perplexity < 1000:
        return f"{one.perplexity:.1f}"
    digit, exponent = f"{one.perplexity:.0e}".split("e")
    return f"{digit}e{int(exponent)}"


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.1f}%"


def table(measured: Measured, cell: Callable[[CapacityFigure], str]) -> str:
    """A row for each model and policy, a column for each capacity factor.

    Args:
        measured: The figures.
        cell: What to tell of one.
    """
    heads = [NO_LIMIT if factor is None else f"{factor:g}" for factor in measured.factors]
    lines = [f"| experts | beyond the limit | {' | '.join(heads)} |", f"|---|---|{'---:|' * len(heads)}"]
    for model in measured.models:
        for policy in POLICIES:
            cells = [cell(measured.at(model, policy, factor)) for factor in measured.factors]
            lines.append(f"| {model} | {policy} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _lost(one: CapacityFigure) -> str:
    return percent(one.dropped) + (f" + {percent(one.rerouted)}" if one.policy == "reroute" else "")


TABLES: dict[str, Callable[[CapacityFigure], str]] = {
    "Perplexity": shown,
    "Assignments dropped (+ rerouted)": _lost,
    "Tokens that no expert took, mean over layers": lambda one: percent(one.bare),
}


def tables(measured: Measured) -> str:
    """All tables, each under its title."""
    return "\n\n".join(f"## {title}\n\n{table(measured, cell)}" for title, cell in TABLES.items())


def _seen(measured: Measured, model: str) -> str:
    """What the even share, a capacity factor of 1, does to one model."""
    free = measured.at(model, NO_LIMIT, None)
    cut, early, scaled, moved = (measured.at(model, policy, 1.0) for policy in POLICIES)
    return f"""\
- **{model}**: over the whole text, the fullest expert of a layer gets {free.imbalance:.2f} times its even
  share (mean over layers). At a capacity factor of 1 there is no room for {percent(cut.dropped)} of the
  assignments. Dropping them takes the perplexity from {shown(free)} to {shown(cut)}; keeping the earliest
  tokens instead of the largest weights, to {shown(early)}; with the kept weights renormalised, to
  {shown(scaled)}. Rerouting finds another expert for {percent(moved.rerouted)} of all and drops
  {percent(moved.dropped)}: {shown(moved)}."""


def page(measured: Measured) -> str:
    """The figures as a page, with a plot `capacity.svg` beside it."""
    return f"""\
# What a limit on experts costs

Written by `python -m benchmarks.capacity_effect`, on: {in_a_line(measured.machine)}.

Perplexity of {measured.tokens} tokens of English with some code: the first {measured.window} tokens of each
of {len(measured.topics)} chapters of Python's own documentation ({", ".join(measured.topics)}), each read in
one pass. Assignments beyond an expert's capacity in a block of {measured.block} tokens are dropped or
rerouted; those with the largest combine weights are kept, except where it says "by position".

- **{EQUAL}**: the embedded default, {measured.base}. Its experts are copies of one
  network, and its router is random.
- **{PARTED}**: the same dense model, with {percent(measured.redrawn)} of each expert's units drawn anew
  (drop-upcycling), and a router fitted by k-means. Neither model was trained further.

![Perplexity and dropped assignments by capacity factor](capacity.svg)

{tables(measured)}

## What is seen

{chr(10).join(_seen(measured, model) for model in measured.models)}

How to read this:

- A dropped assignment takes its combine weight with it, so the feed-forward networks add less for that
  token. Among equal experts this is all that happens: with the kept weights renormalised, a token is hurt
  only where it loses every expert.
- Keeping the largest weights first leaves nearly every token its first expert, as that has at least half
  of its weight. By position, tokens late in a block find the popular experts full and lose both of theirs.
- Rerouting costs the difference between the experts, and the weight that the router gives to the next
  best. Below a capacity factor of 1 there is not room for everybody, wherever they go.
- With 4 experts of which each token takes 2, an expert can get at most twice its even share: a capacity
  factor of 2 never binds, and gives the figures without a limit.
- These experts were never trained apart. Where experts have learned different things, losing one costs
  more: measure with the model that you mean to run.
"""


def plot(measured: Measured, kind: str) -> bytes:
    """Draw perplexity above, the share of dropped assignments below; a column for each model.

    Args:
        measured: The figures.
        kind: "svg" or "png".
    """
    # Not at the top: of an extra, and slow.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4 * len(measured.models), 5.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, len(measured.models), sharex=True, sharey="row", squeeze=False)
        for column, model in enumerate(measured.models):
            axes[0][column].set_title(model)
            _draw(axes[0][column], measured, model, lambda one: one.perplexity)
            _draw(axes[1][column], measured, model, lambda one: 100 * one.dropped)
            axes[1][column].set_xlabel("capacity factor")
        axes[0][0].set_yscale("log")
        axes[0][0].set_ylim(10, CEILING)
        axes[0][0].set_ylabel(f"perplexity, up to {CEILING}")
        axes[1][0].set_ylabel("dropped, % of assignments")
        axes[0][-1].legend(frameon=False)
        figure.savefig(file, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _draw(axis: Axes, measured: Measured, model: str, value: Callable[[CapacityFigure], float]) -> None:
    names = [NO_LIMIT if factor is None else f"{factor:g}" for factor in measured.factors]
    for policy, colour in POLICIES.items():
        values = [value(measured.at(model, policy, factor)) for factor in measured.factors]
        axis.plot(names, values, marker="o", markersize=3, linewidth=1.2, label=policy, color=colour)
    axis.grid(axis="y", linewidth=0.3)


def write(measured: Measured, folder: Path) -> None:
    """Write the page and its plot."""
    (folder / "capacity.md").write_text(page(measured), encoding="utf-8")
    (folder / "capacity.svg").write_bytes(plot(measured, "svg"))


def main() -> None:
    """Read the JSON, write the page and the plot."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m benchmarks.capacity_report FILE.json FOLDER")
    measured = Measured.of(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    write(measured, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
