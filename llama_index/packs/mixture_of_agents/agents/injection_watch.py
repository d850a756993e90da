"""Watches a mixture for texts that look like orders to the model that reads them.

Proposals are fenced in any case; this tells the caller of those that try. It changes nothing in a run.

    watch = InjectionWatch()
    pack = MixtureOfAgentsPack(llm, [a, agent], policies=[watch])
    response = pack.run("...")
    watch.warnings(response.run_id)
"""

from __future__ import annotations

from collections import OrderedDict

from llama_index.packs.mixture_of_agents.agents.injections import suspicions
from llama_index.packs.mixture_of_agents.agents.results import Suspicion
from llama_index.packs.mixture_of_agents.policies import IdleWatch, RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Usage

_MOST_RUNS = 1_000


class InjectionWatch:
    """A run policy that looks at every proposal, and at what agents' tools brought.

    It keeps what it found of the last thousand runs.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[str, list[Suspicion]] = OrderedDict()

    def for_run(self, start: RunStart) -> _RunWatch:
        """The part that watches one run."""
        found: list[Suspicion] = []
        self._found[start.run_id] = found
        while len(self._found) > _MOST_RUNS:
            self._found.popitem(last=False)
        return _RunWatch(found)

    def warnings(self, run_id: str) -> list[Suspicion]:
        """What looked suspicious in a run, in the order it came in; each finding once."""
        return list(dict.fromkeys(self._found.get(run_id, [])))


class _RunWatch(IdleWatch):
    """Watches one run."""

    def __init__(self, found: list[Suspicion]) -> None:
        self._found = found

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """Look at a proposal, and at the tools it rests on."""
        if not isinstance(record, Proposal):
            return
        about = f"{record.proposer} in layer {record.layer}"
        for use in record.details.get("tool_calls", ()):
            where = f"the output of {use.get('tool')} of {about}"
            self._found += suspicions(str(use.get("output", "")), where)
        self._found += suspicions(record.text, f"the text of {about}")
