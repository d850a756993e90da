"""How a recorded run finished and when it stopped, as objects a mixture takes.

Functions and embedding models of the caller's own are not in a record: what they decided is, and stands for
them where the texts are the same. It calls no model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.packs.mixture_of_agents.agreement import Agreement, EarlyStop
from llama_index.packs.mixture_of_agents.answers.extracting import extractor_named
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, TraceError
from llama_index.packs.mixture_of_agents.finishes import FINISHES, Finish, Sequential, Vote
from llama_index.packs.mixture_of_agents.prompts import as_reference
from llama_index.packs.mixture_of_agents.records.replaying.recording import Recording

_logger = logging.getLogger(__name__)


def recorded_finish(recording: Recording) -> Finish:
    """The way the run finished.

    Raises:
        TraceError: It was an object of the caller's own.
    """
    facts = recording.mixture.finish
    name = str(facts.get("name"))
    if name not in FINISHES:
        raise TraceError(
            f"The run finished by {name!r}, a way of its caller's own; such a run is replayed in Python, "
            "with that object as finish."
        )
    if name == "vote":
        return Vote(_extractor(facts.get("extract"), recording), facts.get("weights"))
    return Sequential(facts["window"]) if name == "sequential" and "window" in facts else FINISHES[name]()


def _extractor(label: object, recording: Recording) -> str | Callable[[str], str | None]:
    if isinstance(label, str):
        try:
            extractor_named(label)
            return label
        except ConfigurationError:  # a function's name: what it found is in the record
            _logger.debug("the extractor %s is not here; what it found is", label)
    known = recording.extracted()

    def as_recorded(text: str) -> str | None:
        return known.get(as_reference(text))

    return as_recorded


def recorded_stop(recording: Recording) -> EarlyStop | None:
    """The rule by which rounds were skipped, where there was one."""
    facts = recording.mixture.stop_early
    if facts is None:
        return None
    decided = _decided(recording)
    if facts.get("name") == "agreement" and isinstance(facts.get("extract"), str):
        try:
            rule = Agreement(facts["extract"], facts.get("share", 1.0))
            return RecordedStop(facts, decided, rule)
        except ConfigurationError:  # a function's name
            _logger.debug("the extractor %s is not here; what was decided is", facts["extract"])
    return RecordedStop(facts, decided, None)


def _decided(recording: Recording) -> dict[tuple[str, ...], str | None]:
    """Each round's texts, and why they agreed."""
    agreed = recording.run.agreed
    rounds = range(1, recording.mixture.num_layers)
    return {
        _as_key([proposal.text for proposal in recording.run.proposals(layer)]): agreed.reason
        if agreed is not None and agreed.layer == layer
        else None
        for layer in rounds
    }


def _as_key(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(as_reference(text) for text in texts)


class RecordedStop:
    """Stops where the run stopped; on other texts by its rule, where that is known, else never.

    Args:
        facts: The rule, as recorded.
        decided: What was decided of which texts.
        rule: For other texts.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        decided: Mapping[tuple[str, ...], str | None],
        rule: EarlyStop | None,
    ) -> None:
        self._facts, self._decided, self._rule = facts, decided, rule

    def described(self) -> dict[str, Any]:
        """The rule as plain values."""
        return dict(self._facts)

    async def agreed(self, texts: Sequence[str]) -> str | None:
        """Why these proposals agree, in words; None where they do not."""
        key = _as_key(texts)
        if key in self._decided:
            return self._decided[key]
        return None if self._rule is None else await self._rule.agreed(texts)
