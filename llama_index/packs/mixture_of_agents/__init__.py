"""Mixture of agents for LlamaIndex: several models propose, one writes the answer.

Public names only. The local sparse-MoE model is in `.sparse_moe` (extra `sparse-moe`), scripted models
for tests in `.testing`.
"""

from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import (
    ConfigurationError,
    MixtureError,
    MixtureTimeoutError,
)
from llama_index.packs.mixture_of_agents.events import DeltaEvent, ProgressEvent
from llama_index.packs.mixture_of_agents.llm import MixtureOfAgentsLLM
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage
from llama_index.packs.mixture_of_agents.workflow import MixtureOfAgentsWorkflow

__all__ = [
    "ConfigurationError",
    "DeltaEvent",
    "Missing",
    "MixtureError",
    "MixtureOfAgentsLLM",
    "MixtureOfAgentsPack",
    "MixtureOfAgentsWorkflow",
    "MixtureResponse",
    "MixtureTimeoutError",
    "ProgressEvent",
    "Proposal",
    "Proposer",
    "Usage",
]
