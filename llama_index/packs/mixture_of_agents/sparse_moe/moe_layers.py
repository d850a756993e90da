"""The mixture-of-experts layers of a model: where its experts are, and the router beside them.

A layer is known by transformers' experts interface, not by its architecture's name. Knows nothing of capacity
or of how experts are computed.

Shapes: N tokens, E experts, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.router import RouterRule, learn_rule

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# What transformers' decorator gives every experts class that takes the interface.
_INTERFACE = ("config", "has_gate", "has_bias", "is_transposed", "_is_expert_parallel", "_apply_gate")
_ROUTER_NAMES = ("gate", "router")
_TOP_K_SETTINGS = ("num_experts_per_tok", "moe_topk", "top_k_experts")


@dataclass(frozen=True)
class MoELayer:
    """One mixture-of-experts layer.

    Args:
        index: Its number among the model's MoE layers.
        name: The path of the block that holds router and experts, such as `model.layers.3.mlp`.
        experts: The module that takes transformers' experts interface.
        router: The module beside it that chooses experts, where there is one.
        num_experts: How many experts it has.
        top_k: How many a token uses, by the checkpoint.
        block: The module that holds both.
    """

    index: int
    name: str
    experts: Module
    router: Module | None
    num_experts: int
    top_k: int
    block: Module

    @property
    def width(self) -> int:
        """D, of the hidden states that the router reads."""
        config: Any = self.experts.config
        return int(config.get_text_config().hidden_size)

    @cached_property
    def rule(self) -> RouterRule:
        """How the router chooses and weighs, learnt by asking it once.

        Raises:
            ConfigurationError: It follows no rule known here, so nothing can be rerouted.
        """
        return learn_rule(self.router, self.block, self.width, self.num_experts)

    def choice_scores(self, logits_NE: Tensor) -> Tensor:
        """Return (N, E): what the router chooses by, given its logits; -inf where a token may not go."""
        if self.router is None:
            raise ConfigurationError(f"{self.name} has no router.")
        return self.rule.choice_scores(logits_NE, self.router, self.block)


def find_moe_layers(model: Module) -> tuple[MoELayer, ...]:
    """Find the layers whose experts can be computed by another function than the model's own.

    Args:
        model: Any transformers model.

    Returns:
        Its MoE layers, from input to output.

    Raises:
        ConfigurationError: It has none, or its experts are spread over several processes.
    """
    names = [name for name, module in model.named_modules() if _takes_interface(module)]
    if not names:
        raise ConfigurationError(
            f"{type(model).__name__} does not take transformers' experts interface, so capacity_factor, "
            "top_k and routing statistics are not available for it. Leave them at their defaults, or use an "
            "architecture that does (Mixtral, OLMoE, Qwen-MoE, Granite-MoE, GPT-OSS, DeepSeek, ...)."
        )
    return tuple(_layer(model, index, name) for index, name in enumerate(names))


def expert_count(experts: Module) -> int:
    """Return E of an experts module."""
    count = getattr(experts, "num_experts", None)
    return int(count) if isinstance(count, int) else int(experts.down_proj.shape[0])  # type: ignore[index]


def _takes_interface(module: Module) -> bool:
    forward = type(module).forward
    return hasattr(forward, "__wrapped__") and all(hasattr(module, name) for name in _INTERFACE)


def _layer(model: Module, index: int, experts_name: str) -> MoELayer:
    block_name = experts_name.rpartition(".")[0]
    block, experts = model.get_submodule(block_name), model.get_submodule(experts_name)
    if experts._is_expert_parallel:
        raise ConfigurationError(
            f"The experts of {block_name} are spread over several processes; load the model without a "
            "tensor or expert parallel plan."
        )
    router = next((child for name, child in block.named_children() if name in _ROUTER_NAMES), None)
    return MoELayer(index, block_name, experts, router, expert_count(experts), _top_k(router, experts), block)


def _top_k(router: Module | None, experts: Module) -> int:
    candidates = [
        getattr(router, "top_k", None),
        *(getattr(experts.config, name, None) for name in _TOP_K_SETTINGS),
    ]
    return next((value for value in candidates if isinstance(value, int)), 1)
