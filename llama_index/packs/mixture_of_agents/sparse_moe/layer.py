"""`SparseMoELayer`: a mixture-of-experts layer of our own in plain torch, for training and for study.

Small enough to read, and it trains: gate, top-k, capacity, dispatch, experts, combine, and the losses that
keep a gate in balance. A forward leaves nothing on the module: what the gate decided comes back beside the
output. It does not know transformers, checkpoints or engines.

Shapes: B sequences, S tokens each, T tokens without padding, D model width, F expert width, E experts,
K experts per token, P assignments that are computed, N of them at one expert.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.checks import require, require_count
from llama_index.packs.mixture_of_agents.sparse_moe.dispatch import combine, dispatch
from llama_index.packs.mixture_of_agents.sparse_moe.gating import Routing, SoftmaxGate
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings


def _like_linear(experts: int, outputs: int, inputs: int) -> Tensor:
    """First weights, each expert's as `nn.Linear` draws them."""
    bound = 1 / math.sqrt(inputs)
    return torch.empty(experts, outputs, inputs).uniform_(-bound, bound)


class SwiGLUExperts(nn.Module):
    """Gated feed-forward networks side by side: silu(gate) * up (arXiv 2002.05202), as in Mixtral.

    Weights are stacked in 3D parameters, named and shaped as transformers does it; there are no biases.

    Args:
        width: D.
        expert_width: F.
        experts: E.
    """

    def __init__(self, width: int, expert_width: int, experts: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(_like_linear(experts, 2 * expert_width, width))
        self.down_proj = nn.Parameter(_like_linear(experts, width, expert_width))

    def forward(self, expert: int, hidden_ND: Tensor) -> Tensor:
        """What one expert makes of the tokens it was sent."""
        gate_NF, up_NF = functional.linear(hidden_ND, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return functional.linear(functional.silu(gate_NF) * up_NF, self.down_proj[expert])


class ReLUExperts(nn.Module):
    """Feed-forward networks side by side, with a ReLU between their two matrices, as in Switch.

    Args:
        width: D.
        expert_width: F.
        experts: E.
    """

    def __init__(self, width: int, expert_width: int, experts: int) -> None:
        super().__init__()
        self.up_proj = nn.Parameter(_like_linear(experts, expert_width, width))
        self.down_proj = nn.Parameter(_like_linear(experts, width, expert_width))

    def forward(self, expert: int, hidden_ND: Tensor) -> Tensor:
        """What one expert makes of the tokens it was sent."""
        inner_NF = functional.relu(functional.linear(hidden_ND, self.up_proj[expert]))
        return functional.linear(inner_NF, self.down_proj[expert])


EXPERT_KINDS = {"swiglu": SwiGLUExperts, "relu": ReLUExperts}


class SparseMoELayer(nn.Module):
    """A sparse mixture-of-experts layer: of its experts, each token uses `top_k`.

    Its state dict has the names and shapes of transformers' `MixtralSparseMoeBlock`, whose output it gives
    for the same weights.

    Args:
        width: D, of hidden states in and out.
        expert_width: F, inside an expert.
        experts: E. One expert is a dense network.
        top_k: Experts per token.
        kind: What an expert is: "swiglu", silu(gate) * up, as in Mixtral; or "relu", as in Switch.
        normalize: Whether the weights of a token's chosen experts are scaled to sum to 1. None: yes where
            there are several, no where there is one: a weight that is always 1 gives the gate no gradient.
        capacity_factor: This and the following are as in `RoutingSettings`; None means no limit.
        min_capacity: No expert's limit is lower.
        overflow: "drop" or "reroute" what is beyond a limit. A token that keeps no expert gets zeros.
        capacity_scope: "batch", all tokens of a forward share one limit, as is usual in training; or
            "sequence", each block of `capacity_block` tokens of a sequence has its own.
        capacity_block: Tokens per block.
        capacity_priority: "weight" or "position": who is kept first.
        renormalize: Rescale the weights that a token keeps to the sum they had before.

    Raises:
        ConfigurationError: A value cannot work.

    Example:
        layer = SparseMoELayer(width=64, expert_width=128, experts=8, top_k=2, capacity_factor=1.25)
        output_BSD, routing = layer(hidden_BSD)
        loss = task_loss(output_BSD) + 0.01 * routing.load_balancing_loss + 0.001 * routing.router_z_loss
    """

    def __init__(
        self,
        width: int,
        expert_width: int,
        experts: int,
        top_k: int = 2,
        *,
        kind: str = "swiglu",
        normalize: bool | None = None,
        capacity_factor: float | None = None,
        min_capacity: int = 1,
        overflow: str = "drop",
        capacity_scope: str = "batch",
        capacity_block: int = 128,
        capacity_priority: str = "weight",
        renormalize: bool = False,
    ) -> None:
        super().__init__()
        for name, value in {"width": width, "expert_width": expert_width, "experts": experts}.items():
            require_count(name, value)
        require(kind in EXPERT_KINDS, "kind", kind, " or ".join(map(repr, EXPERT_KINDS)))
        require(normalize in (None, True, False), "normalize", normalize, "True, False or None")
        self.gate = SoftmaxGate(width, experts, normalize)
        self.experts = EXPERT_KINDS[kind](width, expert_width, experts)
        self.settings = RoutingSettings(
            top_k=top_k,
            capacity_factor=capacity_factor,
            min_capacity=min_capacity,
            overflow=overflow,
            capacity_scope=capacity_scope,
            capacity_block=capacity_block,
            capacity_priority=capacity_priority,
            renormalize=renormalize,
        )

    @property
    def settings(self) -> RoutingSettings:
        """How tokens are routed. May be replaced between forwards (`dataclasses.replace`)."""
        return self._settings

    @settings.setter
    def settings(self, settings: RoutingSettings) -> None:
        top_k, (experts, _) = settings.top_k, self.gate.weight.shape
        valid = f"a whole number from 1 to {experts}, the number of experts"
        require(top_k is not None and top_k <= experts, "top_k", top_k, valid)
        self._settings = settings

    def forward(self, hidden_BSD: Tensor, real_BS: Tensor | None = None) -> tuple[Tensor, Routing]:
        """Send each token to its experts and sum what they answer.

        Args:
            hidden_BSD: Hidden states.
            real_BS: False for padding, which takes no expert's room, counts nowhere and gets zeros; None
                means that every token is real.

        Returns:
            What the experts answered, (B, S, D), without the residual path; and what the gate decided.

        Raises:
            SparseMoEError: The tensors do not have these shapes.
        """
        real_BS = self._checked(hidden_BSD, real_BS)
        hidden_TD = hidden_BSD[real_BS]
        routing = self.gate(hidden_TD, real_BS.sum(dim=1).tolist(), self.settings)
        receipt = dispatch(routing.experts_TK, len(self.gate.weight), routing.kept_TK)
        inbox_PD = hidden_TD[receipt.tokens_S]
        outputs = [self.experts(expert, inbox_PD[part]) for expert, part in receipt.slices()]
        if not outputs:
            return torch.zeros_like(hidden_BSD), routing
        mixed_TD = combine(torch.cat(outputs), receipt, routing.weights_TK)
        return torch.zeros_like(hidden_BSD).index_put((real_BS,), mixed_TD), routing

    def _checked(self, hidden_BSD: Tensor, real_BS: Tensor | None) -> Tensor:
        shape, width = tuple(hidden_BSD.shape), self.gate.weight.shape[1]
        if len(shape) != 3 or shape[-1] != width:
            raise SparseMoEError(
                f"hidden states have the shape {shape}; they must be (batch, sequence, {width})"
            )
        if real_BS is None:
            return torch.ones(shape[:2], dtype=torch.bool, device=hidden_BSD.device)
        if tuple(real_BS.shape) != shape[:2] or real_BS.dtype != torch.bool:
            found = f"{real_BS.dtype} of the shape {tuple(real_BS.shape)}"
            raise SparseMoEError(f"real_BS is {found}; it must be bool of the shape {shape[:2]}")
        return real_BS
