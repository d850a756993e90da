"""The gating network trained, by torch: who is right on a question, with a pull towards balanced load.

The loss is the cross-entropy of each model's being right, plus Switch Transformers' load-balancing term
(arXiv 2101.03961, equation 4) on the softmax over models, which keeps the gate from sending every question
to one. Everything drawn comes from the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llama_index.packs.mixture_of_agents.errors import MissingExtraError
from llama_index.packs.mixture_of_agents.gate.ballots import Floats
from llama_index.packs.mixture_of_agents.gate.network import GatingNetwork

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN = 8
BALANCE = 0.01
"""The paper's factor of the load-balancing term."""
_DECAY = 5.0
_STEPS = 100
_RATE = 0.01
_LEAST_SPREAD = 0.6
"""A hashed word is rare: at full spread, hundreds of them would drown the few things that are counted."""


def train_network(rows: Floats, right: Floats, seed: int, balance: float = BALANCE) -> GatingNetwork:
    """Learn from questions and who was right on them.

    Args:
        rows: A row of features a question.
        right: A row a question, a column a model: 1 for right, 0 for wrong, NaN for not asked.
        seed: Of the weights at the start.
        balance: Factor of the load-balancing term; 0 for none.

    Raises:
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("Training a gating network", "gate") from error
    threads = torch.get_num_threads()
    # So small a network is slower on several threads, far slower on a busy machine, and how many there are
    # may show in the last bits of its weights.
    torch.set_num_threads(1)
    try:
        return _trained(rows, right, seed, balance)
    finally:
        torch.set_num_threads(threads)


def _trained(rows: Floats, right: Floats, seed: int, balance: float) -> GatingNetwork:
    import torch

    mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), _LEAST_SPREAD)
    inputs, known = torch.tensor((rows - mean) / spread), torch.tensor(~np.isnan(right))
    target = torch.tensor(np.nan_to_num(right))
    weights = _beginning(rows.shape[1], right, seed)
    pulled: list[dict[str, Any]] = [{"params": weights[0::2]}, {"params": weights[1::2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(pulled, lr=_RATE, weight_decay=_DECAY)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        logits = torch.tanh(inputs @ weights[0] + weights[1]) @ weights[2] + weights[3]
        _loss(logits, target, known, balance).backward()
        optimizer.step()
    return GatingNetwork(mean, spread, *(weight.detach().numpy() for weight in weights))


def _beginning(width: int, right: Floats, seed: int) -> list[Any]:
    """Small weights, and each model's log-odds as its bias."""
    import torch

    draw = np.random.default_rng(seed)
    share = np.clip(np.nanmean(right, axis=0), 0.01, 0.99)
    start = (
        draw.normal(0, 0.1 / np.sqrt(width), (width, HIDDEN)),
        np.zeros(HIDDEN),
        draw.normal(0, 0.1, (HIDDEN, right.shape[1])),
        np.log(share / (1 - share)),
    )
    return [torch.tensor(array, requires_grad=True) for array in start]


def _loss(logits: Tensor, target: Tensor, known: Tensor, balance: float) -> Tensor:
    from torch.nn.functional import binary_cross_entropy_with_logits

    wrong = binary_cross_entropy_with_logits(logits, target, reduction="none")
    return wrong[known].mean() + balance * load_balance(logits)


def load_balance(logits: Tensor) -> Tensor:
    """E times the sum over models of the share of questions sent there times its mean probability.

    1 when questions are spread evenly, E when all go to one. The share is a count and has no gradient.
    """
    chances = logits.softmax(dim=1)
    count = chances.shape[1]
    share = chances.argmax(dim=1).bincount(minlength=count).to(chances.dtype) / len(chances)
    return count * (share * chances.mean(dim=0)).sum()
