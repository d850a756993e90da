"""A mixture as data: a TOML, YAML or JSON file, and the same object in Python.

    config = load_config("moa.toml")
    config = MixtureConfig(models_layer=["gpt-4o-mini", "mistral-small"], layer=2, layer_strategy="role")
    print(config.pack().run("Why is the sky blue?"))

A configuration holds no secrets and no live objects, so every run can record it whole.
"""

from llama_index.packs.mixture_of_agents.config.faults import Fault, RefusedError
from llama_index.packs.mixture_of_agents.config.files import NAMES, find_config, load_config
from llama_index.packs.mixture_of_agents.config.mixture_config import MixtureConfig
from llama_index.packs.mixture_of_agents.config.tables import (
    BudgetConfig,
    FinishConfig,
    LimitsConfig,
    ModelConfig,
    PriceConfig,
    ProposerConfig,
    StopConfig,
    TraceConfig,
)

__all__ = [  # noqa: RUF022 (sorted as Python sorts, capitals with the rest)
    "BudgetConfig",
    "Fault",
    "FinishConfig",
    "LimitsConfig",
    "MixtureConfig",
    "ModelConfig",
    "NAMES",
    "PriceConfig",
    "ProposerConfig",
    "RefusedError",
    "StopConfig",
    "TraceConfig",
    "find_config",
    "load_config",
]
