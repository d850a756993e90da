"""Our experts forward, in transformers' own registry, and how a model takes it for one forward pass.

Within `routed`, the thread that entered it computes the given layers by its plan: another top-k, capacity, a
recorder. Every other thread that calls the same model meanwhile gets what the model does by itself, and
afterwards the model is what it was: no hook, no changed attribute. Knows nothing of requests, caches or text.

Shapes: T tokens, K experts per token, E experts, D model width, G capacity groups, S computed assignments.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.capacity import Placement, group_capacities
from llama_index.packs.mixture_of_agents.sparse_moe.computing import compute_experts
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer
from llama_index.packs.mixture_of_agents.sparse_moe.placement import place, placed_weights
from llama_index.packs.mixture_of_agents.sparse_moe.plans import (
    ForwardPlan,
    LayerRouting,
)
from llama_index.packs.mixture_of_agents.sparse_moe.router import check_top_k, with_top_k
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

IMPLEMENTATION = "mixture_of_agents"
"""Under which name transformers knows our experts forward."""

_thread = threading.local()
_attaching = threading.Lock()


class _Pass:
    """One forward pass of one thread: its plan, and what routers said on the way."""

    def __init__(self, layers: Sequence[MoELayer], plan: ForwardPlan) -> None:
        self.plan = plan
        self.layers = {id(layer.experts): layer for layer in layers}
        self.logits: dict[int, Tensor] = {}
        self._capacities: dict[tuple[int, int], tuple[int, ...]] = {}

    @property
    def asks_routers(self) -> bool:
        """Whether routers have to be listened to at all."""
        settings = self.plan.settings
        if self.plan.recorder is not None or settings.top_k is not None:
            return True
        # A capacity is at least 1: while decoding in "sequence" scope nothing is ever rerouted.
        return settings.reroutes and max(self.plan.group_sizes, default=0) > 1

    def capacities(self, top_k: int, num_experts: int) -> tuple[int, ...]:
        """C of each group; the same for all layers of one shape."""
        key = (top_k, num_experts)
        if key not in self._capacities:
            self._capacities[key] = group_capacities(self.plan.group_sizes, *key, self.plan.settings)
        return self._capacities[key]

    def compute(self, layer: MoELayer, hidden_TD: Tensor, experts_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """Compute one layer by the plan, and show it to the recorder."""
        self._check(layer, experts_TK)
        capacities = self.capacities(experts_TK.shape[1], layer.num_experts)
        logits_TE = self.logits.pop(layer.index, None)
        placement = place(layer, self.plan, capacities, experts_TK, weights_TK, logits_TE)
        if placement is not None:
            renormalize = self.plan.settings.renormalize
            weights_TK = placed_weights(
                layer, placement, experts_TK, weights_TK, logits_TE, renormalize=renormalize
            )
            experts_TK = placement.experts_TK
        if self.plan.recorder is not None:
            routing = _seen(layer, placement, experts_TK, weights_TK, logits_TE, capacities)
            self.plan.recorder.observe(layer, routing, self.plan)
        kept_TK = None if placement is None else placement.kept_TK
        return compute_experts(layer.experts, hidden_TD, experts_TK, weights_TK, kept_TK)

    def _check(self, layer: MoELayer, experts_TK: Tensor) -> None:
        tokens, top_k = experts_TK.shape
        if tokens != self.plan.groups_T.numel():
            raise SparseMoEError(
                f"The plan is for {self.plan.groups_T.numel()} tokens, but {tokens} reached {layer.name}; "
                "make a plan for exactly the tokens of this forward pass, padding included."
            )
        if self.plan.settings.top_k not in (None, top_k):
            raise SparseMoEError(
                f"{layer.name} was asked for {self.plan.settings.top_k} experts per token and chose {top_k}; "
                "check_routing tells beforehand which models take another top_k."
            )


class _RoutedConfig:
    """Stands in for an experts module's config and differs in one thing: whose experts forward is used."""

    _experts_implementation = IMPLEMENTATION

    def __init__(self, original: Any) -> None:
        self.original = original
        self.users = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy made meanwhile is a copy of the model as it is by itself.
        return _itself, (self.original,)


def _itself(config: Any) -> Any:
    return config


@contextmanager
def routed(layers: Sequence[MoELayer], plan: ForwardPlan) -> Iterator[None]:
    """Compute the layers' experts by a plan, on this thread, until the block ends.

    Args:
        layers: What `find_moe_layers` found, or some of it.
        plan: For exactly the tokens of the forward pass made inside.

    Raises:
        SparseMoEError: Inside, by the forward pass: the plan is for another number of tokens, or a router did
            not choose as many experts as `top_k` asks for.
    """
    # Registering is idempotent, and not done at import so that importing has no effect on transformers.
    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _experts_forward)
    this_pass = _Pass(layers, plan)
    outer = getattr(_thread, "this_pass", None)
    with ExitStack() as leaving:
        for layer in layers:
            leaving.callback(_attach(layer.experts))
            if this_pass.asks_routers and layer.router is not None:
                leaving.callback(_listen(layer, layer.router, this_pass))
        _thread.this_pass = this_pass
        try:
            yield
        finally:
            _thread.this_pass = outer


def check_routing(layers: Sequence[MoELayer], settings: RoutingSettings) -> None:
    """Refuse at the door what these layers cannot do.

    Routers are asked about random hidden states, once per layer; a few milliseconds each.

    Args:
        layers: What `find_moe_layers` found.
        settings: What is asked for.

    Raises:
        ConfigurationError: `top_k` is more than there are experts, or the architecture's router does not
            choose as many, or not within its groups; or its way of scoring is not known well enough to
            reroute.
    """
    for layer in layers:
        if settings.top_k is not None:
            check_top_k(layer.router, layer.block, layer.width, layer.num_experts, settings.top_k)
        if settings.reroutes:
            _ = layer.rule


def _attach(experts: nn.Module) -> Callable[[], None]:
    """Let a module's calls come to us; return how to end that.

    Threads may overlap: the last one out tidies up.
    """
    attributes = experts.__dict__
    with _attaching:
        if not isinstance(attributes["config"], _RoutedConfig):
            attributes["config"] = _RoutedConfig(attributes["config"])
        attributes["config"].users += 1

    def detach() -> None:
        with _attaching:
            config = attributes["config"]
            config.users -= 1
            if not config.users:
                attributes["config"] = config.original

    return detach


def _listen(layer: MoELayer, router: nn.Module, this_pass: _Pass) -> Callable[[], None]:
    """Note what a router scores, and answer in its place where `top_k` is changed; return how to end that."""
    top_k = this_pass.plan.settings.top_k
    changed = None if top_k is None or top_k == layer.top_k else with_top_k(router, top_k)

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if getattr(_thread, "this_pass", None) is not this_pass:
            return None
        answer = output if changed is None else changed.forward(*args, **kwargs)
        this_pass.logits[layer.index] = answer[0]
        return answer

    return router.register_forward_hook(hook, with_kwargs=True).remove


def _experts_forward(
    module: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """Take a call from transformers: by this thread's plan if there is one, else as the model would."""
    this_pass: _Pass | None = getattr(_thread, "this_pass", None)
    layer = None if this_pass is None else this_pass.layers.get(id(module))
    if this_pass is None or layer is None:
        return _stock_forward(module, hidden_states, top_k_index, top_k_weights)
    return this_pass.compute(layer, hidden_states, top_k_index, top_k_weights)


def _seen(
    layer: MoELayer,
    placement: Placement | None,
    experts_TK: Tensor,
    weights_TK: Tensor,
    logits_TE: Tensor | None,
    capacities: Sequence[int],
) -> LayerRouting:
    """Put together what a recorder gets to see."""
    if placement is None:
        kept_TK = torch.ones_like(experts_TK, dtype=torch.bool)
        placement = Placement(experts_TK, kept_TK, torch.zeros_like(kept_TK))
    if logits_TE is not None and logits_TE.shape[-1] != layer.num_experts:
        # Zaya also scores a way around the experts.
        logits_TE = None
    capacity_G = torch.tensor(capacities, dtype=torch.long, device=experts_TK.device)
    return LayerRouting(
        experts_TK, placement.kept_TK, placement.rerouted_TK, weights_TK, logits_TE, capacity_G
    )


def _stock_forward(module: Any, *args: Tensor) -> Tensor:
    config = module.config
    own = config.original if isinstance(config, _RoutedConfig) else config
    forward = ALL_EXPERTS_FUNCTIONS.get_interface(
        own._experts_implementation, type(module).forward.__wrapped__
    )
    output: Tensor = forward(module, *args)
    return output
