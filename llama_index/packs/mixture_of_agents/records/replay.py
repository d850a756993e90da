"""Answering a run's calls from a record of an earlier one.

Strictly, nothing goes out: what is not in the record is missing, and says so. Otherwise the rest goes out.
It knows neither mixtures nor files.
"""

from __future__ import annotations

import os
import threading

from llama_index.packs.mixture_of_agents.errors import TraceError
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.replaying.answers import Answers
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord, choose_run
from llama_index.packs.mixture_of_agents.results import Missing, Proposal

FROM_RECORD = "record"
"""Stands in `details["source"]` of a proposal that was answered from a record. Its usage is that of the call
that was recorded; now it took nothing."""


class ReplayPolicy:
    """A `CallPolicy` that answers what a record knows.

    Args:
        answers: What it knows.
        strict: Whether calls that it does not know are refused; else they go out.
        with_failures: Whether recorded failures are repeated, too; else those calls are placed anew.

    Attributes:
        answered: How many calls were answered from the record, repeated failures among them.
        unknown: The calls it did not know, in words.
    """

    def __init__(self, answers: Answers, *, strict: bool = True, with_failures: bool = True) -> None:
        self._answers, self._strict, self._with_failures = answers, strict, with_failures
        self._lock = threading.Lock()
        self.answered = 0
        self.unknown: list[str] = []

    async def before(self, call: Call) -> Proposal | Missing | None:
        """Answer it from the record, or let it go out, or refuse it."""
        known = self._answers.find(call)
        if isinstance(known, Missing) and not self._with_failures:
            known = None
        with self._lock:
            if known is None:
                self.unknown.append(f"{call.proposer}, layer {call.layer} ({call.task})")
            else:
                self.answered += 1
        if isinstance(known, Proposal):
            return known.model_copy(
                update={"layer": call.layer, "details": {**known.details, "source": FROM_RECORD}}
            )
        if known is not None:
            return known.model_copy(update={"layer": call.layer})
        return call.missing("is not in the record, and a strict replay asks nobody") if self._strict else None

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """Nothing to keep: the record stays as it is."""


def answers_of(run: RunRecord) -> Answers:
    """What a recorded run can answer.

    Raises:
        TraceError: Its contents were redacted.
    """
    if run.started.redacted:
        raise TraceError(
            f"The contents of run {run.run_id} were redacted before they were written, so nothing can be "
            "answered from them. Record a run with redact=False to replay it."
        )
    return Answers(run.calls)


def resuming(path: str | os.PathLike[str], run_id: str | None = None) -> ReplayPolicy:
    """A policy with which a mixture goes on where a killed run stopped.

    What was answered is not asked again; failures are, and what had no answer yet. Pass it to a mixture
    like the first: `MixtureOfAgentsPack(..., policies=[resuming(path)])`.

    Args:
        path: The trace of the run.
        run_id: Which run, where the trace has several.

    Raises:
        TraceError: The trace cannot be read, or has no such run, or was redacted.
    """
    run = choose_run(read_trace(path), run_id)
    return ReplayPolicy(answers_of(run), strict=False, with_failures=False)
