"""The router beside a layer's experts: asked for another top-k, and understood well enough to reroute.

Nothing is known by an architecture's name. How a router chooses and weighs experts is guessed from a short
list of rules, and believed only if the router's own answers to random hidden states follow it; otherwise
what would need it is refused with the reason. Knows nothing of capacity or of groups of tokens.

Shapes: T tokens, N tokens that look for another expert, K experts per token, E experts, D model width,
Q the router's groups of experts (DeepSeek-V3, arXiv 2412.19437).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.probing import RouterAnswer, ask, probe

_REROUTE = "overflow='reroute'"
_NO_ROUTER = "there is no router beside its experts that could be asked"
_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits_NE: logits_NE,
    "softmax": lambda logits_NE: torch.softmax(logits_NE, dim=-1),
    "sigmoid": torch.sigmoid,
    "sqrtsoftplus": lambda logits_NE: functional.softplus(logits_NE).sqrt(),
}
# What a router returns as "logits" may be probabilities already, hence the last.
_WEIGHINGS = ("softmax", "sigmoid", "sqrtsoftplus", "logits")


@dataclass(frozen=True)
class RouterRule:
    """How a router chooses and weighs, confirmed by its own answers.

    Args:
        weighing: By which score of its logits it weighs: `"softmax"`, `"sigmoid"`, `"sqrtsoftplus"`, or
            `"logits"`, as they are. A token's weights are in proportion to that.
        choosing: By which score it ranks experts,
        bias: after adding the tensor of this name, found in the router or beside it; None for none.
        groups: It chooses within some of so many groups of experts; 1 for no groups:
        topk_group: within so many,
        group_score: the best by the sum of their two best experts (`"top2"`) or their best one (`"max"`).
    """

    weighing: str
    choosing: str = "logits"
    bias: str | None = None
    groups: int = 1
    topk_group: int = 1
    group_score: str = "max"

    def choice_scores(self, logits_NE: Tensor, router: nn.Module, block: nn.Module) -> Tensor:
        """Return (N, E): what the router ranks experts by; -inf for those outside the token's groups."""
        scores_NE = _SCORES[self.choosing](logits_NE.float())
        if self.bias is not None:
            scores_NE = scores_NE + _biases(router, block)[self.bias].reshape(-1).float()
        if self.groups > 1:
            scores_NE = scores_NE.masked_fill(~self._in_groups(scores_NE), float("-inf"))
        return scores_NE

    def weight_ratio(self, new_logits: Tensor, old_logits: Tensor) -> Tensor:
        """Return by what a weight is multiplied when its assignment goes from one expert to another.

        The token's normaliser is the same for both, so it need not be known.
        """
        new_logits, old_logits = new_logits.float(), old_logits.float()
        if self.weighing == "softmax":
            return torch.exp(new_logits - old_logits)
        if self.weighing == "sigmoid":
            return torch.exp(functional.logsigmoid(new_logits) - functional.logsigmoid(old_logits))
        return _SCORES[self.weighing](new_logits) / _SCORES[self.weighing](old_logits)

    def _in_groups(self, scores_NE: Tensor) -> Tensor:
        size = scores_NE.shape[1] // self.groups
        best = min(2, size) if self.group_score == "top2" else 1
        scores_NQ = scores_NE.view(-1, self.groups, size).topk(best).values.sum(dim=-1)
        inside_NQ = torch.zeros_like(scores_NQ, dtype=torch.bool)
        inside_NQ = inside_NQ.scatter(1, scores_NQ.topk(self.topk_group).indices, True)
        return inside_NQ.repeat_interleave(size, dim=1)


def with_top_k(router: nn.Module, top_k: int) -> nn.Module:
    """Return a router that shares the weights but chooses so many experts; the given one is not touched.

    Args:
        router: A router that keeps its number in `top_k`.
        top_k: Experts per token.

    Returns:
        The copy. Call its `forward`: calling the module itself would run the hooks it shares.
    """
    changed = copy.copy(router)
    changed.top_k = top_k  # type: ignore[assignment]
    return changed


def check_top_k(router: nn.Module | None, block: nn.Module, width: int, num_experts: int, top_k: int) -> None:
    """Refuse a number of experts per token that a router does not choose when asked to.

    Args:
        router: The router, or None where a layer has none.
        block: The module that holds it.
        width: D.
        num_experts: E.
        top_k: The number asked for.

    Raises:
        ConfigurationError: With the reason.
    """
    if top_k > num_experts:
        raise ConfigurationError(
            f"top_k is {top_k}, but the model has {num_experts} experts; use {num_experts} or fewer."
        )
    if router is None:
        raise _refusal("top_k", _NO_ROUTER)
    name = type(router).__name__
    if not isinstance(getattr(router, "top_k", None), int):
        raise _refusal(
            "top_k", f"{name} does not keep its number of experts per token where it can be changed"
        )
    groups, topk_group = _groups(router)
    if top_k > (reachable := num_experts // groups * topk_group):
        within = f"within {topk_group} of {groups} groups of experts, which hold {reachable}"
        raise _refusal("top_k", f"{name} chooses {within}, so it cannot choose {top_k}")
    answer = _ask("top_k", with_top_k(router, top_k), block, probe(router, width), num_experts)
    if answer.experts_TK.shape[1] != top_k:
        chosen = answer.experts_TK.shape[1]
        raise _refusal("top_k", f"{name} chooses {chosen} experts per token when asked for {top_k}")
    if not answer.distinct:
        raise _refusal("top_k", f"{name}, asked for {top_k} experts per token, chooses the same one twice")


def learn_rule(router: nn.Module | None, block: nn.Module, width: int, num_experts: int) -> RouterRule:
    """Find out by which rule a router chooses and weighs experts.

    Args:
        router: The router, or None where a layer has none.
        block: The module that holds it.
        width: D.
        num_experts: E.

    Returns:
        A rule that the router's answers to random hidden states follow.

    Raises:
        ConfigurationError: None does, so nothing can be rerouted as the architecture would have it.
    """
    if num_experts == 1:
        return RouterRule("softmax")
    if router is None:
        raise _refusal(_REROUTE, _NO_ROUTER)
    hidden_TD = probe(router, width)
    answer = _ask(_REROUTE, router, block, hidden_TD, num_experts)
    several = answer
    if answer.experts_TK.shape[1] == 1:
        # One weight per token is in proportion to anything.
        several = _ask(_REROUTE, with_top_k(router, 2), block, hidden_TD, num_experts)
    weighing = _learn_weighing(type(router).__name__, several)
    rules = list(_possible_rules(router, block, weighing, num_experts))
    agreement = [_agreement(rule, router, block, answer) for rule in rules]
    if max(agreement) < 1.0:
        raise _refusal(_REROUTE, f"how {type(router).__name__} ranks its experts is unfamiliar")
    return rules[agreement.index(1.0)]


def _ask(what: str, router: nn.Module, block: nn.Module, hidden_TD: Tensor, num_experts: int) -> RouterAnswer:
    answer = ask(router, block, hidden_TD)
    if isinstance(answer, str):
        raise _refusal(what, answer)
    if answer.logits_TE.shape[1] != num_experts:
        scored = f"scores {answer.logits_TE.shape[1]} destinations, not the {num_experts} experts"
        raise _refusal(what, f"{type(router).__name__} {scored}")
    return answer


def _learn_weighing(name: str, answer: RouterAnswer) -> str:
    if answer.experts_TK.shape[1] == 1:
        raise _refusal(_REROUTE, f"{name} never weighs two experts against each other")
    logits_TK = answer.logits_TE.gather(1, answer.experts_TK)
    weights_TK, tolerance = answer.weights_TK.float(), answer.tolerance
    for weighing in _WEIGHINGS:
        expected_TK = weights_TK[:, :1] * RouterRule(weighing).weight_ratio(logits_TK, logits_TK[:, :1])
        if torch.allclose(weights_TK, expected_TK, rtol=tolerance, atol=tolerance / 100):
            return weighing
    raise _refusal(
        _REROUTE,
        f"the weights of {name} are in proportion to no known function of its scores, so what another "
        "expert would weigh is unknown",
    )


def _possible_rules(
    router: nn.Module, block: nn.Module, weighing: str, num_experts: int
) -> Iterator[RouterRule]:
    groups, topk_group = _groups(router)
    biases = [name for name, bias in _biases(router, block).items() if bias.numel() == num_experts]
    # With a bias first: while it is all zeros, as in a new model, rules with and without agree.
    for bias in [*biases, None]:
        if bias is None and groups == 1:
            yield RouterRule(weighing)
            continue
        for choosing in dict.fromkeys((weighing, *_SCORES)):
            for group_score in ("top2", "max") if groups > 1 else ("max",):
                yield RouterRule(weighing, choosing, bias, groups, topk_group, group_score)


def _agreement(rule: RouterRule, router: nn.Module, block: nn.Module, answer: RouterAnswer) -> float:
    """Return the share of tokens whose chosen experts are the best by the rule, near-ties allowed."""
    scores_TE = rule.choice_scores(answer.logits_TE, router, block)
    chosen_TE = torch.zeros_like(scores_TE, dtype=torch.bool).scatter(1, answer.experts_TK, True)
    worst_chosen_T = scores_TE.masked_fill(~chosen_TE, float("inf")).amin(dim=1)
    best_other_T = scores_TE.masked_fill(chosen_TE, float("-inf")).amax(dim=1)
    slack_T = answer.tolerance / 3 * best_other_T.abs().nan_to_num(posinf=0.0)
    return float((worst_chosen_T >= best_other_T - slack_T).float().mean())


def _groups(router: nn.Module) -> tuple[int, int]:
    """Return how many groups a router divides its experts into, and within how many a token chooses."""
    groups, topk_group = getattr(router, "num_group", None), getattr(router, "topk_group", None)
    if not isinstance(groups, int) or not isinstance(topk_group, int) or groups <= topk_group:
        return 1, 1
    return groups, topk_group


def _biases(router: nn.Module, block: nn.Module) -> dict[str, Tensor]:
    own = [*router.named_parameters(), *router.named_buffers()]
    beside = [*block.named_parameters(recurse=False), *block.named_buffers(recurse=False)]
    return {name: tensor for name, tensor in beside + own if "bias" in name}


def _refusal(what: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{what} is not available for this model: {reason}. Leave it at its default.")
