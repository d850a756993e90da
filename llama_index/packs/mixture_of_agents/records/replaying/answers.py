"""Answers by what was asked: a key of a call's content, and the stores that answer by it.

Two calls have one key when they ask the same model the same, under the same name and settings, for the same
purpose. Their places in a run are not in it: who drops a proposer keeps the answers of the others. A
recorded run and a cache across runs use the same keys. It knows nothing of how calls are placed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.fingerprints import plain
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.traces.run_records import CallRecord
from llama_index.packs.mixture_of_agents.results import Missing, Proposal

KEY_VERSION = 1


def call_key(call: Call) -> str:
    """What a call asks, as a hash; equal for equal calls, in every process."""
    return content_key(
        call.task,
        call.turn,
        call.proposer,
        call.identity,
        call.sampling,
        call.messages,
        call.may_call_tools,
    )


def content_key(
    task: str,
    turn: int,
    proposer: str,
    identity: ModelIdentity,
    sampling: Sampling,
    messages: Sequence[ChatMessage],
    may_call_tools: bool,
) -> str:
    """The key of a call with this content; `proposers.Call` describes the arguments.

    The proposer's name and the seed keep several samples of one model apart.
    """
    asked = [plain(message) for message in messages]
    who = [proposer, identity.model_dump(), vars(sampling)]
    content = [KEY_VERSION, task, turn, who, asked, may_call_tools]
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Answers:
    """The outcomes of a recorded run's calls, by content.

    Args:
        calls: The calls; those without an outcome, or without messages, answer nothing.
    """

    def __init__(self, calls: Sequence[CallRecord]) -> None:
        self._known: defaultdict[str, dict[tuple[int, int, int], Proposal | Missing]] = defaultdict(dict)
        for call in calls:
            record = call.record
            if record is not None and call.messages:
                self._known[_recorded_key(call)][call.asked.place] = record

    def __len__(self) -> int:
        return sum(len(places) for places in self._known.values())

    def find(self, call: Call) -> Proposal | Missing | None:
        """What became of a call that asked the same; None where nobody did.

        Of several, the one in the same place, else in the nearest one: a round may ask what another asked
        before it, and be answered otherwise.
        """
        places = self._known.get(call_key(call))
        if not places:
            return None
        nearest = min(places, key=lambda place: (place != call.place, abs(place[0] - call.layer), place))
        return places[nearest]


def _recorded_key(call: CallRecord) -> str:
    # With the settings it was to go out with: a policy that changed them need not be there the next time.
    asked = call.asked
    return content_key(
        asked.task,
        asked.turn,
        asked.proposer,
        asked.identity,
        asked.sampling,
        call.messages,
        asked.may_call_tools,
    )
