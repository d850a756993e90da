"""Hypothesis strategies: what a router may choose, and how tokens may be grouped."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
import torch
from torch import Tensor


@dataclass
class Choice:
    """A router's choice for some tokens, its scores, and the tokens' groups."""

    logits_TE: Tensor
    experts_TK: Tensor
    weights_TK: Tensor
    groups_T: Tensor

    @property
    def num_experts(self) -> int:
        return int(self.logits_TE.shape[1])

    @property
    def top_k(self) -> int:
        return int(self.experts_TK.shape[1])

    @property
    def group_sizes(self) -> tuple[int, ...]:
        groups = self.groups_T.tolist()
        return tuple(groups.count(group) for group in range(max(groups, default=-1) + 1))


def choice_of(logits_TE: Tensor, top_k: int, groups: list[int]) -> Choice:
    """The softmax top-k of some logits."""
    weights_TK, experts_TK = logits_TE.softmax(-1).topk(top_k)
    return Choice(logits_TE, experts_TK, weights_TK, torch.tensor(groups, dtype=torch.long))


@st.composite
def choices(draw: st.DrawFn, *, padding: bool = True, ties: bool = True) -> Choice:
    """Odd sizes among them: one token, one expert, K = E, one favourite expert, equal scores, padding."""
    num_experts = draw(st.integers(1, 6))
    top_k = draw(st.integers(1, num_experts))
    groups = draw(st.lists(st.integers(-1 if padding else 0, 2), min_size=1, max_size=14))
    present = sorted({group for group in groups if group >= 0})
    renumbered = [present.index(group) if group >= 0 else -1 for group in groups]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    logits_TE = torch.randn(len(groups), num_experts, generator=generator)
    if ties and draw(st.booleans()):
        logits_TE = (logits_TE * 2).round()
    if draw(st.booleans()):
        logits_TE[:, draw(st.integers(0, num_experts - 1))] += 10
    return choice_of(logits_TE, top_k, renumbered)
