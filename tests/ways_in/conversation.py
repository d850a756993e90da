"""A question asked of the pack with scripted models, as code to run in another interpreter."""

from __future__ import annotations

ANSWER = "Forty-two, and both drafts say why."

# Two rounds of two proposers, then the synthesis. `{pack}` is how the class is come by.
ASK = """
{pack}
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

pack = MixtureOfAgentsPack(
    llm=ScriptedLLM(["Forty-two, and both drafts say why."], model="aggregator"),
    reference_llms=[
        ScriptedLLM(["draft a1", "draft a2"], model="a"),
        ScriptedLLM(["draft b1", "draft b2"], model="b"),
    ],
    num_layers=3,
)
response = pack.run("What is six times seven?")
import inspect, sys
say({{
    "answer": str(response),
    "proposals": sorted(proposal.text for proposal in response.proposals),
    "degraded": response.degraded,
    "file": inspect.getfile(type(pack)),
    "bases": [f"{{base.__module__}}.{{base.__qualname__}}" for base in type(pack).__mro__],
    "modules": sorted(sys.modules),
}})
"""

IMPORT = "from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack"


def asking(pack: str = IMPORT) -> str:
    """Code that asks the question and says what came of it."""
    return ASK.format(pack=pack)
