"""Measure what an architecture can do: build a tiny random model of it and try everything.

What is measured is whether routing is right, not whether text is good.

Shapes: T tokens, K experts per token, E experts, G capacity groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.experts import check_routing
from llama_index.packs.mixture_of_agents.sparse_moe.moe_layers import MoELayer, find_moe_layers
from llama_index.packs.mixture_of_agents.sparse_moe.plans import LayerRouting
from llama_index.packs.mixture_of_agents.sparse_moe.probing import RouterAnswer, ask, probe
from llama_index.packs.mixture_of_agents.sparse_moe.quantize import quantize_model
from llama_index.packs.mixture_of_agents.sparse_moe.router import with_top_k
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from tests.sparse_moe import oracle
from tests.sparse_moe.architectures import TOP_K, Architecture, build
from tests.sparse_moe.seeing import Seen, random_ids, routed_logits, stock_logits

PARITY = 1e-4
# Of the logits' own size; a token that 8 bits send to another expert counts in full.
INT8_ERROR = 0.08
INT8_SAME = 0.8
IDS = random_ids(2, 40)
BLOCK = 16
GROUPS = [row * 3 + position // BLOCK for row in range(2) for position in range(40)]
DROP = RoutingSettings(capacity_factor=0.75, capacity_block=BLOCK)
REROUTE = RoutingSettings(capacity_factor=0.75, capacity_block=BLOCK, overflow="reroute")
UNREACHABLE = RoutingSettings(capacity_factor=1000.0, capacity_block=BLOCK)


@dataclass(frozen=True)
class Verdict:
    """Works, or does not and why.

    Args:
        ok: Whether the check passed; a refusal at the door is no failure but no pass either.
        text: What the table says.
        refusal: The reason, where it is refused.
    """

    ok: bool
    text: str
    refusal: str | None = None


@dataclass(frozen=True)
class Row:
    """What was measured of one architecture."""

    name: str
    router: str
    parity: float
    capacity: Verdict
    reroute: Verdict
    top_k: Verdict
    int8: Verdict


def measure(architecture: Architecture) -> Row:
    """Build a tiny model and try everything."""
    model = build(architecture)
    router = _describe(find_moe_layers(model)[0])
    parity = float((routed_logits(model, IDS) - stock_logits(model, IDS)).abs().max())
    return Row(
        architecture.name,
        router,
        parity,
        _capacity(model),
        _reroute(model),
        _top_k(architecture, model),
        _int8(model),
    )


def _capacity(model: PreTrainedModel) -> Verdict:
    """Nothing changes while nothing binds; when it does, the plan is the oracle's."""
    unlimited = (routed_logits(model, IDS, UNREACHABLE) - stock_logits(model, IDS)).abs().max() < PARITY
    seen = Seen()
    logits = routed_logits(model, IDS, DROP, seen)
    right = bool(unlimited and logits.isfinite().all()) and all(map(_within_capacity, seen.routings))
    first, before = seen.routings[0], _first_choice(model)
    experts, weights = before.experts_TK.numpy(), before.weights_TK.float().numpy()
    kept = oracle.keep(experts, weights, GROUPS, first.capacity_G.tolist())
    right &= bool((first.kept_TK.numpy() == kept).all())
    return _verdict(right and not kept.all())


def _reroute(model: PreTrainedModel) -> Verdict:
    """The plan is the oracle's, by the scores that the router chooses by."""
    layers = find_moe_layers(model)
    try:
        check_routing(layers, REROUTE)
    except ConfigurationError as refusal:
        return Verdict(False, "refused", str(refusal))
    seen = Seen()
    logits = routed_logits(model, IDS, REROUTE, seen)
    right = bool(logits.isfinite().all()) and all(map(_within_capacity, seen.routings))
    right &= all(map(_next_best_is_the_routers, layers))
    first, before = seen.routings[0], _first_choice(model)
    assert first.logits_TE is not None
    scores = layers[0].choice_scores(first.logits_TE).numpy()
    experts, weights = before.experts_TK.numpy(), before.weights_TK.float().numpy()
    plan = oracle.reroute(experts, weights, GROUPS, first.capacity_G.tolist(), scores)
    right &= bool((first.kept_TK.numpy() == plan.kept).all())
    right &= bool((first.experts_TK.numpy() == plan.experts).all())
    return _verdict(right and bool(plan.rerouted.any()))


def _next_best_is_the_routers(layer: MoELayer) -> bool:
    """Whom a token is sent to, and with which weight, is what the router says when asked for one more."""
    assert layer.router is not None
    hidden_TD = probe(layer.router, layer.width)
    answer = ask(layer.router, layer.block, hidden_TD)
    wider = ask(with_top_k(layer.router, layer.top_k + 1), layer.block, hidden_TD)
    assert isinstance(answer, RouterAnswer)
    assert isinstance(wider, RouterAnswer)
    scores_TE = layer.choice_scores(answer.logits_TE).scatter(1, answer.experts_TK, -torch.inf)
    next_T1 = scores_TE.argmax(1, keepdim=True)
    is_next_TK = wider.experts_TK == next_T1
    if not is_next_TK.any(1).all():
        return False
    next_weight_T = wider.weights_TK[is_next_TK]
    # Any of the others will do to compare with: take the one chosen first of both.
    old_T1 = torch.where(
        wider.experts_TK[:, :1] == next_T1, wider.experts_TK[:, 1:2], wider.experts_TK[:, :1]
    )
    old_weight_T = wider.weights_TK[wider.experts_TK == old_T1]
    logits_TE = answer.logits_TE
    ratio_T1 = layer.rule.weight_ratio(logits_TE.gather(1, next_T1), logits_TE.gather(1, old_T1))
    return torch.allclose(next_weight_T, old_weight_T * ratio_T1[:, 0], rtol=1e-3, atol=1e-6)


def _top_k(architecture: Architecture, model: PreTrainedModel) -> Verdict:
    """One fewer and one more: what a stock model of the same weights says that was made with that number."""
    right = True
    for top_k in (TOP_K - 1, TOP_K + 1):
        routing = RoutingSettings(top_k=top_k)
        try:
            check_routing(find_moe_layers(model), routing)
        except ConfigurationError as refusal:
            return Verdict(False, "refused", str(refusal))
        other = build(architecture, top_k=top_k)
        other.load_state_dict(model.state_dict())
        difference = (routed_logits(model, IDS, routing) - stock_logits(other, IDS)).abs().max()
        right &= bool(difference < PARITY)
    return _verdict(right)


def _int8(model: PreTrainedModel) -> Verdict:
    """Logits are close where tokens go the same ways, and the most likely token is mostly the same anyway.

    Random models have many near-ties in routing, which 8 bits decide otherwise; so both are looked at.
    """
    quantized = quantize_model(model, "int8")
    exact, free = routed_logits(model, IDS), routed_logits(quantized, IDS)
    with _same_ways(model, quantized):
        pinned = routed_logits(quantized, IDS)
    error = float((pinned - exact).norm() / exact.norm())
    same = float((pinned.argmax(-1) == exact.argmax(-1)).float().mean())
    same_free = float((free.argmax(-1) == exact.argmax(-1)).float().mean())
    right = error < INT8_ERROR and same > INT8_SAME
    return Verdict(right, f"{'ok' if right else 'wrong'} ({error:.1%}, {same_free:.0%})")


@contextmanager
def _same_ways(model: PreTrainedModel, other: PreTrainedModel) -> Iterator[None]:
    """Let the other model's routers answer what the model's routers answer to the same input."""
    answers: dict[int, Any] = {}

    def note(index: int) -> Callable[..., None]:
        return lambda module, args, output: answers.update({index: output})

    def repeat(index: int) -> Callable[..., Any]:
        return lambda module, args, output: answers[index]

    with _router_hooks(model, note):
        stock_logits(model, IDS)
    with _router_hooks(other, repeat):
        yield


@contextmanager
def _router_hooks(model: PreTrainedModel, hook_of: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
    with ExitStack() as leaving:
        for layer in find_moe_layers(model):
            assert layer.router is not None
            leaving.callback(layer.router.register_forward_hook(hook_of(layer.index)).remove)
        yield


def _first_choice(model: PreTrainedModel) -> LayerRouting:
    """What the first layer's router chooses; behind it, limits change the hidden states."""
    seen = Seen()
    routed_logits(model, IDS, recorder=seen)
    return seen.routings[0]


def _within_capacity(routing: LayerRouting) -> bool:
    """No expert above its capacity, none twice for a token."""
    groups_TK = torch.tensor(GROUPS).unsqueeze(1).expand_as(routing.experts_TK)
    for group, capacity in enumerate(routing.capacity_G.tolist()):
        load_E = torch.bincount(routing.experts_TK[routing.kept_TK & (groups_TK == group)], minlength=1)
        if int(load_E.max()) > capacity:
            return False
    return all(
        len(set(experts_K[kept_K].tolist())) == int(kept_K.sum())
        for experts_K, kept_K in zip(routing.experts_TK, routing.kept_TK, strict=True)
    )


def _describe(layer: MoELayer) -> str:
    name = f"`{type(layer.router).__name__}`"
    try:
        rule = layer.rule
    except ConfigurationError:
        return name
    parts = ["as returned" if rule.weighing == "logits" else rule.weighing]
    parts += ["bias"] if rule.bias else []
    parts += [f"{rule.topk_group} of {rule.groups} groups"] if rule.groups > 1 else []
    return f"{name}: {', '.join(parts)}"


def _verdict(right: bool) -> Verdict:
    return Verdict(right, "ok" if right else "wrong")
