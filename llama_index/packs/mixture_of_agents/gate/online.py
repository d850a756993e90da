"""A gate that goes on learning from what came true of its answers. Off unless you wrap a gate in it.

    online = OnlineGate(load_gate("gate"), "gate/outcomes.sqlite")
    pack = MixtureOfAgentsPack(llm, models, gate=online, policies=[online])
    response = pack.run("What is 6 * 7?")
    online.feedback(response, right=True)  # or answer="42", or verifier=check

Each proposer, and each stage of a cascade, has a posterior (`beliefs`); by what its mean differs from what
the trained gate expected, the gate's log-odds are moved (`expectations`). The bound a gate was trained for no
longer holds once it has been moved. It learns of answers it was shown, and calls nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.checks import has_methods, number, shown, text
from llama_index.packs.mixture_of_agents.checks import path as checked_path
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import SeatFacts
from llama_index.packs.mixture_of_agents.gate.attendance import Attendance, Questions
from llama_index.packs.mixture_of_agents.gate.beliefs import Beliefs, Estimate
from llama_index.packs.mixture_of_agents.gate.capped_gate import CappedGate
from llama_index.packs.mixture_of_agents.gate.expectations import (
    PROPOSER,
    Expectation,
    expectations,
    moved,
    reader_of,
)
from llama_index.packs.mixture_of_agents.gate.outcomes import Key, Outcome, OutcomeStore, Source
from llama_index.packs.mixture_of_agents.gate.protocol import Gate, GateDecision, load_gate, question_of
from llama_index.packs.mixture_of_agents.gate.witnesses import (
    Check,
    Witness,
    by_answer,
    by_check,
    by_majority,
    by_word,
    check_told,
)
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.results import Decision, MixtureResponse, Proposal

PRIOR_WEIGHT = 50.0
STORE = "outcomes.sqlite"
"""What a store is called in a gate's folder."""
_DAY = 86_400.0


class OnlineGate:
    """A gate whose odds move with outcomes. With none, it decides as the gate it wraps.

    Args:
        gate: The trained gate, or one of your own.
        store: A file for what is learned, shared by one user's processes; None keeps it in memory.
        prior_weight: How many outcomes the training is worth.
        half_life_days: After so many days an outcome counts half; None for never.
        learn_from: "agreement" takes what most proposers of a run say for right. That is a biased witness:
            it teaches to trust whoever goes with the majority, also where that is wrong. Needs the gate
            among `policies`.
        extract: What an answer is, for a gate that does not know.
        clock: Seconds since 1970.

    Raises:
        ConfigurationError: One of these cannot work, or the store is something else.
    """

    name = "online"

    def __init__(
        self,
        gate: Gate,
        store: str | os.PathLike[str] | None = None,
        *,
        prior_weight: float = PRIOR_WEIGHT,
        half_life_days: float | None = None,
        learn_from: Literal["agreement"] | None = None,
        extract: str = "answer",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not has_methods(gate, "decide", "weights", "described") or has_methods(gate, "for_run"):
            raise ConfigurationError(f"gate must be a gate that is to learn; found {shown(gate)}.")
        if isinstance(gate, CappedGate):
            raise ConfigurationError("Limits go around what learns: CappedGate(OnlineGate(gate), capacity).")
        number("prior_weight", prior_weight, 1, 1e6)
        number("half_life_days", half_life_days, 1e-3, 1e5, none="for never")
        if learn_from not in (None, "agreement"):
            raise ConfigurationError(f"learn_from must be 'agreement' or None; found {shown(learn_from)}.")
        if not callable(clock):
            raise ConfigurationError(f"clock must be a function that says the time; found {shown(clock)}.")
        self._gate, self._prior_weight, self._half_life = gate, float(prior_weight), half_life_days
        self._learn_from = learn_from
        self._reader = reader_of(gate, extract)
        lasting = None if half_life_days is None else half_life_days * _DAY
        kept = OutcomeStore(
            None if store is None else checked_path("store", store), _digest(gate), lasting, clock
        )
        self._beliefs = Beliefs(kept, self._prior_weight)
        self._questions = Questions()
        self._moved: tuple[Mapping[Key, Estimate], Any] = ({}, gate)

    @property
    def inner(self) -> Gate:
        """The gate as it was trained."""
        return self._gate

    def check(self, names: Sequence[str]) -> None:
        """The other gate's; nothing where it has none."""
        inner: Any = self._gate
        if has_methods(inner, "check"):
            inner.check(names)

    def described(self) -> dict[str, Any]:
        """Its kind and settings, as JSON; what it has learned is not among them."""
        return {
            "name": self.name,
            "gate": self._gate.described(),
            "prior_weight": self._prior_weight,
            "half_life_days": self._half_life,
            "learn_from": self._learn_from,
        }

    async def decide(
        self, messages: Sequence[ChatMessage], candidates: Sequence[SeatFacts], proposals: Sequence[Proposal]
    ) -> GateDecision:
        """As the gate with its odds moved; who has no score there has what was learned of it.

        Raises:
            ConfigurationError: The gate was made for others, or is to learn from runs it takes no part in.
        """
        if self._learn_from is not None and not self._questions.has(question_of(messages)):
            raise ConfigurationError(
                "A gate that learns from agreement must see how runs end, and takes no part in this one. "
                "Pass it to the mixture twice: gate=online, policies=[online]."
            )
        decision: GateDecision = await self._now().decide(messages, candidates, proposals)
        learned = {
            about: one.chance for (kind, about), one in self._beliefs.now().items() if kind == PROPOSER
        }
        known = {
            seat.name: learned[seat.name]
            for seat in candidates
            if seat.name in learned and seat.name not in decision.scores
        }
        return decision.model_copy(update={"scores": {**decision.scores, **known}}) if known else decision

    def weights(
        self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]
    ) -> dict[str, float] | None:
        """Those of the gate with its odds moved."""
        found: dict[str, float] | None = self._now().weights(messages, proposals)
        return found

    def verdict(self, messages: Sequence[ChatMessage], proposals: Sequence[Proposal]) -> Decision | None:
        """That of the gate with its odds moved; None where it gives none."""
        judge = self._now()
        if not has_methods(judge, "verdict"):
            return None
        decision: Decision | None = judge.verdict(messages, proposals)
        return decision

    def for_run(self, start: RunStart) -> Attendance:
        """Take part in a run: remember its question, and learn from its end where that was asked for."""
        return Attendance(start.run_id, question_of(start.messages), self._questions, self._ended)

    def feedback(
        self,
        response: MixtureResponse,
        *,
        right: bool | None = None,
        answer: str | None = None,
        verifier: Check | None = None,
        question: str | None = None,
    ) -> list[Outcome]:
        """Tell what was right of a run. A later word on the same run takes the place of the earlier.

        Only the answers of its first round are learned from: later ones have read each other. An answer
        that nobody can tell from `right` or wrong is left out.

        Args:
            response: Of the run.
            right: Whether its answer is right.
            answer: Or: the right answer.
            verifier: Or: says of a question and a text whether it is right; called once for each text,
                however many gave it.
            question: What was asked; needed of a run this object took no part in.

        Returns:
            What was learned; empty where nothing can be told.

        Raises:
            ConfigurationError: Not exactly one of the three is given, it is of another type, or an answer
                cannot be read, or the store cannot be written.
        """
        check_told(right, answer, verifier)
        asked = self._question(response, question)
        heard = _first_round(response)
        if verifier is not None:
            judge = by_check(verifier, asked, {p.proposer: p.text for p in heard})
        elif answer is not None:
            judge = by_answer(self._read(answer, "The right answer", "Name it as proposers would."))
        else:
            final = self._read(response.text, "The run's answer", "Pass the right one as answer=.")
            judge = by_word(final, right is True)
        expected = list(expectations(self._gate, asked, heard, self._reader))
        source: Source = "feedback" if verifier is None else "verifier"
        outcomes = _outcomes(response.run_id, expected, judge, source)
        self._beliefs.learn(outcomes)
        return outcomes

    def estimates(self) -> dict[Key, Estimate]:
        """What is believed, by ("proposer", name) and ("stage", number); nothing of those never judged.

        Raises:
            ConfigurationError: The store cannot be read.
        """
        return dict(self._beliefs.known())

    def reset(self) -> int:
        """Forget all that was learned; how many outcomes there were.

        Raises:
            ConfigurationError: The store cannot be written.
        """
        return self._beliefs.reset()

    def _now(self) -> Any:
        """The gate as it decides now."""
        believed = self._beliefs.now()
        if believed is not self._moved[0]:
            shifts = {key: estimate.shift for key, estimate in believed.items()}
            self._moved = (believed, moved(self._gate, shifts) if shifts else self._gate)
        return self._moved[1]

    def _ended(self, question: str, response: MixtureResponse) -> None:
        if self._learn_from is not None:
            heard = _first_round(response)
            expected = list(expectations(self._gate, question, heard, self._reader))
            judge = by_majority(expected)
            self._beliefs.learn_later(_outcomes(response.run_id, expected, judge, "agreement"))

    def _question(self, response: MixtureResponse, given: str | None) -> str:
        if not isinstance(response, MixtureResponse):
            raise ConfigurationError(f"response must be what a run gave; found {shown(response)}.")
        text("question", given, or_empty=True)
        known = given if given is not None else self._questions.of(response.run_id)
        if known is None or not response.run_id:
            raise ConfigurationError(
                f"The run {response.run_id or '(without an id)'} is not known here. Pass its question=, or "
                "let the gate take part in runs: policies=[online]."
            )
        return known

    def _read(self, text: str, what: str, hint: str) -> str:
        found = self._reader.answer(text)
        if found is None:
            raise ConfigurationError(
                f"{what}, {shown(text)}, says nothing that {self._reader.extract!r} can read as an answer. "
                f"{hint}"
            )
        return found


def load_online(folder: str | os.PathLike[str]) -> OnlineGate:
    """A gate of `moa gate train` with what `moa gate feedback` told of it, in the same folder.

    Raises:
        ConfigurationError: As `protocol.load_gate`, or the store is something else.
    """
    return OnlineGate(load_gate(folder), Path(folder) / STORE)


def _outcomes(run_id: str, expected: Sequence[Expectation], judge: Witness, source: Source) -> list[Outcome]:
    judged = [(one, judge(one)) for one in expected]
    return [Outcome(run_id, one.key, one.chance, said, source) for one, said in judged if said is not None]


def _first_round(response: MixtureResponse) -> list[Proposal]:
    return [proposal for proposal in response.proposals if proposal.layer == 1]


def _digest(gate: Gate) -> str:
    """Tells a trained gate from others."""
    facts: Mapping[str, Any] = getattr(gate, "facts", {})
    said = json.dumps([gate.described(), dict(facts)], sort_keys=True, default=str)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]
