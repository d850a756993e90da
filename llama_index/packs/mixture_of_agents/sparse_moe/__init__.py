"""A sparse mixture-of-experts model on this machine, as a LlamaIndex LLM.

Importing this package loads neither torch nor transformers; both are imported when a model is opened or
made, and the missing extra is named only then. It knows nothing of the mixture of agents but its tree
of errors.
"""

from llama_index.packs.mixture_of_agents.sparse_moe.llm import SparseMoELLM
from llama_index.packs.mixture_of_agents.sparse_moe.upcycle import upcycle

__all__ = ["SparseMoELLM", "upcycle"]
