"""Routers are understood by asking them, and refused where they are not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.probing import RouterAnswer, ask, probe
from llama_index.packs.mixture_of_agents.sparse_moe.router import (
    RouterRule,
    check_top_k,
    learn_rule,
    with_top_k,
)

EXPERTS, WIDTH = 8, 16


class Router(nn.Module):
    """As plain as transformers' own: scores, then the K best of them."""

    def __init__(self, top_k: int = 2, *, num_group: int = 1, topk_group: int = 1) -> None:
        super().__init__()
        self.top_k, self.num_group, self.topk_group = top_k, num_group, topk_group
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(EXPERTS, WIDTH, generator=generator) * 0.5)
        self.correction_bias = nn.Buffer(torch.randn(EXPERTS, generator=generator) * 0.3)

    def forward(self, hidden_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits_TE = hidden_TD.reshape(-1, WIDTH) @ self.weight.T
        return self.answer(logits_TE)

    def answer(self, logits_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights_TK, experts_TK = logits_TE.softmax(-1).topk(self.top_k)
        return logits_TE, weights_TK, experts_TK


class SigmoidRouter(Router):
    def answer(self, logits_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores_TE = logits_TE.sigmoid()
        experts_TK = (scores_TE + self.correction_bias).topk(self.top_k).indices
        weights_TK = scores_TE.gather(1, experts_TK)
        return logits_TE, 2.5 * weights_TK / weights_TK.sum(-1, keepdim=True), experts_TK


class BiasBesideRouter(Router):
    """Takes its bias as an argument; the block keeps it."""

    def forward(self, hidden_TD: Tensor, offset_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        logits_TE = hidden_TD @ self.weight.T
        experts_TK = (logits_TE.sigmoid() + offset_bias).topk(self.top_k).indices
        return logits_TE, logits_TE.sigmoid().gather(1, experts_TK), experts_TK


class StubbornRouter(Router):
    """Always picks two."""

    def answer(self, logits_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights_TK, experts_TK = logits_TE.softmax(-1).topk(2)
        return logits_TE, weights_TK, experts_TK


class RepeatingRouter(Router):
    def answer(self, logits_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        best_T1 = logits_TE.argmax(-1, keepdim=True)
        experts_TK = best_T1.expand(-1, self.top_k)
        return logits_TE, logits_TE.gather(1, experts_TK), experts_TK


class WorstRouter(Router):
    def answer(self, logits_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        experts_TK = (-logits_TE).topk(self.top_k).indices
        return logits_TE, logits_TE.softmax(-1).gather(1, experts_TK), experts_TK


class OddlyWeighingRouter(Router):
    def answer(self, logits_TE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        experts_TK = logits_TE.topk(self.top_k).indices
        return logits_TE, logits_TE.gather(1, experts_TK).square().softmax(-1), experts_TK


class HashRouter(Router):
    def forward(self, hidden_TD: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        raise NotImplementedError


class BatchRouter(Router):
    """Unpacks batch and sequence, as some do."""

    def forward(self, hidden_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, _ = hidden_BSD.shape
        return self.answer((hidden_BSD @ self.weight.T).reshape(batch * tokens, EXPERTS))


def block_of(router: nn.Module, **tensors: Tensor) -> nn.Module:
    block = nn.Module()
    block.gate = router
    for name, tensor in tensors.items():
        block.register_buffer(name, tensor)
    return block


def rule_of(router: Router, **tensors: Tensor) -> RouterRule:
    return learn_rule(router, block_of(router, **tensors), WIDTH, EXPERTS)


def answer_of(router: nn.Module, **tensors: Tensor) -> RouterAnswer:
    answer = ask(router, block_of(router, **tensors), probe(router, WIDTH))
    assert isinstance(answer, RouterAnswer)
    return answer


OFFSET = torch.linspace(-0.4, 0.4, EXPERTS)


@pytest.mark.parametrize(
    ("router", "tensors", "weighing", "bias"),
    [
        (Router(), {}, "softmax", None),
        (Router(1), {}, "softmax", None),
        (BatchRouter(), {}, "softmax", None),
        (SigmoidRouter(), {}, "sigmoid", "correction_bias"),
        (SigmoidRouter(1), {}, "sigmoid", "correction_bias"),
        (BiasBesideRouter(), {"offset_bias": OFFSET}, "sigmoid", "offset_bias"),
    ],
)
def test_a_rule_is_found(router: Router, tensors: dict[str, Tensor], weighing: str, bias: str | None) -> None:
    rule = rule_of(router, **tensors)
    assert (rule.weighing, rule.bias) == (weighing, bias)


@pytest.mark.parametrize("make", [Router, SigmoidRouter, BatchRouter])
def test_the_next_best_is_whom_the_router_would_take_next(make: Callable[[int], Router]) -> None:
    """The oracle is the router itself, asked for one expert more."""
    router, wider = make(2), make(3)
    rule, answer, expected = rule_of(router), answer_of(router), answer_of(wider)
    scores_TE = rule.choice_scores(answer.logits_TE, router, block_of(router))
    third_T1 = scores_TE.scatter(1, answer.experts_TK, -torch.inf).argmax(1, keepdim=True)
    assert torch.equal(third_T1, expected.experts_TK[:, 2:])
    logits_TK = answer.logits_TE.gather(1, expected.experts_TK)
    ratio_T1 = rule.weight_ratio(logits_TK[:, 2:], logits_TK[:, :1])
    torch.testing.assert_close(expected.weights_TK[:, :1] * ratio_T1, expected.weights_TK[:, 2:])


def test_a_bias_is_read_anew_each_time() -> None:
    router = SigmoidRouter()
    rule, logits_TE = rule_of(router), answer_of(router).logits_TE
    before = rule.choice_scores(logits_TE, router, block_of(router))
    router.correction_bias.add_(1)
    torch.testing.assert_close(rule.choice_scores(logits_TE, router, block_of(router)), before + 1)


def test_a_new_models_bias_of_zeros_is_still_the_bias() -> None:
    router = SigmoidRouter()
    router.correction_bias.zero_()
    assert rule_of(router).bias == "correction_bias"


def test_half_precision_is_understood_too() -> None:
    assert rule_of(SigmoidRouter().bfloat16()).weighing == "sigmoid"
    assert rule_of(Router().bfloat16()).weighing == "softmax"


def test_with_one_expert_there_is_nothing_to_learn() -> None:
    assert learn_rule(None, nn.Module(), WIDTH, 1) == RouterRule("softmax")


@pytest.mark.parametrize(
    ("router", "reason"),
    [
        (WorstRouter(), "how WorstRouter ranks its experts is unfamiliar"),
        (OddlyWeighingRouter(), "the weights of OddlyWeighingRouter are in proportion to no known function"),
        (HashRouter(), "HashRouter also needs input_ids, which only a running model has"),
        (nn.Linear(WIDTH, EXPERTS), "Linear does not return its scores, weights and experts"),
        (None, "there is no router beside its experts"),
    ],
)
def test_what_is_not_understood_cannot_reroute(router: nn.Module | None, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"overflow='reroute' is not available .*{reason}"):
        learn_rule(router, nn.Module(), WIDTH, EXPERTS)


def test_one_expert_only_by_nature_is_never_weighed_against_another() -> None:
    router = StubbornRouter(1)
    router.answer = lambda logits_TE: Router.answer(router, logits_TE[:, :])  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match="never weighs two experts"):
        learn_rule(router, block_of(router), WIDTH, EXPERTS)


@pytest.mark.parametrize("top_k", [1, 3, EXPERTS])
def test_another_top_k_is_chosen(top_k: int) -> None:
    router = Router()
    check_top_k(router, block_of(router), WIDTH, EXPERTS, top_k)
    assert answer_of(with_top_k(router, top_k)).experts_TK.shape[1] == top_k


@pytest.mark.parametrize(
    ("router", "top_k", "reason"),
    [
        (Router(), 9, "top_k is 9, but the model has 8 experts; use 8 or fewer"),
        (StubbornRouter(), 3, "StubbornRouter chooses 2 experts per token when asked for 3"),
        (StubbornRouter(), 1, "StubbornRouter chooses 2 experts per token when asked for 1"),
        (RepeatingRouter(), 3, "asked for 3 experts per token, chooses the same one twice"),
        (Router(num_group=4, topk_group=2), 5, "within 2 of 4 groups of experts, which hold 4, so .* 5"),
        (HashRouter(), 1, "HashRouter also needs input_ids"),
        (nn.Linear(WIDTH, EXPERTS), 1, "Linear does not keep its number of experts per token"),
        (None, 1, "there is no router beside its experts"),
    ],
)
def test_another_top_k_is_refused_with_the_reason(router: Any, top_k: int, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        check_top_k(router, nn.Module(), WIDTH, EXPERTS, top_k)


def test_changing_top_k_leaves_the_router_alone() -> None:
    router = Router()
    before = copy.deepcopy(router.__dict__)
    changed = with_top_k(router, 3)
    assert changed.weight is router.weight
    assert router.top_k == 2
    assert router.__dict__.keys() == before.keys()


def test_a_sigmoid_near_zero_still_has_a_ratio() -> None:
    ratio = RouterRule("sigmoid").weight_ratio(torch.tensor(-200.0), torch.tensor(-199.0))
    assert float(ratio) == pytest.approx(0.36788, abs=1e-4)
