"""The calls a run makes when nothing fails: who is asked in which order, and how much each reads.

One layout for a plan and for a budget: they differ in how a prompt is measured and how long answers are
taken to be. Everything is arithmetic on sizes; no answer is made up. This module knows no prices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llama_index.packs.mixture_of_agents.facts import MixtureFacts, SeatFacts
from llama_index.packs.mixture_of_agents.prompts import sliding_windows
from llama_index.packs.mixture_of_agents.records.spending.frames import Frames
from llama_index.packs.mixture_of_agents.results import Task

Kept = Mapping[int, Sequence[int]]
"""Layer from 1 -> who of it is asked, by index; nobody for a layer that is skipped."""
Lengths = Callable[[SeatFacts, Task, int], int]
"""(who, what for, how many roles are wanted) -> tokens of the answer."""

WINDOW_MARGIN = 1.15
"""How much more than counted a draft is taken to be where drafts are split over passes."""
DRAFT_FRAME = 16
"""Tokens of the markers around a draft, as far as the splitting reckons."""
ROLE_TOKENS = 60
"""What a written role is taken to be: a name, a sentence of perspective, one or two of instructions."""


@dataclass(frozen=True)
class PlannedCall:
    """One call of a run.

    Attributes:
        task: What it is for.
        layer: As `proposers.Call` has it; index and turn, too.
        index: Its place in the layer.
        turn: Which pass.
        seat: Who is asked.
        reads: Size of its prompt.
        writes: Tokens of its answer.
    """

    task: Task
    layer: int
    index: int
    turn: int
    seat: SeatFacts
    reads: int
    writes: int


@dataclass(frozen=True)
class Course:
    """How a mixture goes about a question.

    Attributes:
        facts: The mixture.
        frames: Sizes of its prompts.
        lengths: Tokens of its answers.
        scale: Size of an answer as a draft in a prompt, per token of it.
        must_hold: Sizes are for the worst case, in which anyone may be told as missing.
    """

    facts: MixtureFacts
    frames: Frames
    lengths: Lengths
    scale: float = 1.0
    must_hold: bool = False

    @property
    def everyone(self) -> dict[int, list[int]]:
        """All proposers of all layers."""
        return {layer: list(range(len(seats))) for layer, seats in enumerate(self.facts.layers, 1)}

    def calls(
        self,
        kept: Kept,
        drafts: Sequence[int] = (),
        *,
        longest_answer: int | None = None,
        extras: bool = True,
    ) -> Iterator[PlannedCall]:
        """The calls of the layers in `kept`, in order, and of the finish.

        Args:
            kept: Who is asked; layers not in it are over.
            drafts: Sizes of what the first of these layers reads.
            longest_answer: Of the finish, in tokens; None for as long as it may be.
            extras: With the calls a run can do without: roles, condensing.
        """
        asked = sorted(layer for layer, indices in kept.items() if indices)
        reads = list(drafts)
        for layer in asked:
            yield from self._roles(layer) if extras else ()
            calls = [self.proposal(layer, index, reads) for index in kept[layer]]
            yield from calls
            drafts = reads = [self.draft(call.writes) for call in calls]
            if extras and layer != asked[-1] and self.facts.pass_on == "condensed":
                condensing = list(self._condensing(layer, drafts))
                yield from condensing
                reads = [self.draft(condensing[-1].writes)]
        yield from self.finish(drafts, longest_answer)

    def proposal(self, layer: int, index: int, drafts: Sequence[int]) -> PlannedCall:
        """The call of one proposer that reads drafts of these sizes."""
        seat = self.facts.layers[layer - 1][index]
        written_role = self.draft(ROLE_TOKENS) if seat.takes_role else 0
        reads = self.frames.size("propose", seat, drafts, self._absent(layer - 1, drafts)) + written_role
        return PlannedCall("propose", layer, index, 0, seat, reads, self.lengths(seat, "propose", 0))

    def finish(self, drafts: Sequence[int], longest_answer: int | None = None) -> Iterator[PlannedCall]:
        """The calls that make the answer of drafts of these sizes."""
        name = self.facts.finish.get("name")
        if (name == "vote" and drafts) or (name == "rank" and len(drafts) == 1):
            return
        task: Task = "rank" if name == "rank" and drafts else "synthesize"
        writes = self.lengths(self.facts.aggregator, task, 0)
        if longest_answer is not None:
            writes = min(writes, longest_answer)
        most = self.facts.finish.get("window") if name == "sequential" else None
        yield from self._passes(task, (self.facts.num_layers, 0), drafts, writes, most)

    def draft(self, tokens: int) -> int:
        """The size an answer of so many tokens has in a prompt."""
        return int(tokens * self.scale)

    def _roles(self, layer: int) -> Iterator[PlannedCall]:
        wanted, writer = self.facts.roles_to_write(layer), self.facts.role_writer
        if writer is not None and wanted:
            reads, writes = self.frames.size_for_roles(wanted), self.lengths(writer, "roles", wanted)
            yield PlannedCall("roles", layer, -1, 0, writer, reads, writes)

    def _condensing(self, layer: int, drafts: Sequence[int]) -> Iterator[PlannedCall]:
        place = (layer, len(self.facts.layers[layer - 1]))
        return self._passes("condense", place, drafts, self.lengths(self.facts.aggregator, "condense", 0))

    def _passes(
        self,
        task: Task,
        place: tuple[int, int],
        drafts: Sequence[int],
        writes: int,
        most: int | None = None,
    ) -> Iterator[PlannedCall]:
        """The aggregator's calls that read these drafts, as many at a time as it can or may."""
        seat, carried = self.facts.aggregator, self.draft(writes)
        absent = self._absent(len(self.facts.layers), drafts)
        for turn, window in enumerate(self._windows(task, seat, drafts, most) or [[]]):
            read = [*([self._carried(task, drafts, carried)] if turn else []), *(drafts[n] for n in window)]
            reads = self.frames.size(task, seat, read, absent)
            yield PlannedCall(task, *place, turn, seat, reads, writes)

    def _carried(self, task: Task, drafts: Sequence[int], written: int) -> int:
        """What a pass hands on: what it wrote, or the draft it chose."""
        return max(drafts) if task == "rank" else written

    def _windows(
        self, task: Task, seat: SeatFacts, drafts: Sequence[int], most: int | None
    ) -> list[list[int]]:
        """Drafts per pass, as they will be split: by number, and by the reader's context window."""
        if not drafts or seat.context_window is None or seat.context_window <= 0:
            return sliding_windows([0] * len(drafts), 1, 0, most)
        room = max(1, seat.context_window - (seat.max_tokens or max(0, seat.num_output or 0)))
        frame = self.frames.size(task, seat, (0,)) / self.scale
        sizes = [int(draft / self.scale * WINDOW_MARGIN) + DRAFT_FRAME for draft in drafts]
        budget = int(room - frame * WINDOW_MARGIN)
        return sliding_windows(sizes, budget, carried=max(sizes), most=most)

    def _absent(self, layer: int, drafts: Sequence[int]) -> list[str]:
        """Names that a prompt may tell as missing: where a size must hold, anyone's may be there."""
        if not (self.must_hold and drafts and 0 < layer <= len(self.facts.layers)):
            return []
        return [seat.name for seat in self.facts.layers[layer - 1]]
