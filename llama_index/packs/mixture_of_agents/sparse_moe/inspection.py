"""Look at one prompt's way through the experts: totals by layer, and every token's own choices.

One prompt at a time on the calling thread, for people who want to see; requests are the engine's. It
knows transformers, but neither LlamaIndex nor how the result is drawn.

Shapes: T tokens, K experts per token, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.local_model import LocalModel
from llama_index.packs.mixture_of_agents.sparse_moe.opening import open_directory
from llama_index.packs.mixture_of_agents.sparse_moe.options import check_room
from llama_index.packs.mixture_of_agents.sparse_moe.plans import plan_sequences
from llama_index.packs.mixture_of_agents.sparse_moe.recording import Observation, RoutingRecorder
from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving import row_caches
from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel, nan_error
from llama_index.packs.mixture_of_agents.sparse_moe.stats import LayerLabel, RoutingStats

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """Where each token went in one layer.

    Args:
        label: Which layer.
        experts_TK: The expert of each assignment, after rerouting.
        kept_TK: Whether it was computed.
        rerouted_TK: Whether the router had chosen another expert.
        weights_TK: The combine weights used; 0 where dropped.
    """

    label: LayerLabel
    experts_TK: Array
    kept_TK: Array
    rerouted_TK: Array
    weights_TK: Array

    def shares(self) -> Array:
        """Each token's combine weights as shares of their sum, by expert: (T, E); 0 where all are dropped."""
        shares_TE: Array = np.zeros((len(self.weights_TK), self.label.experts))
        np.add.at(shares_TE, (np.arange(len(shares_TE))[:, None], self.experts_TK), self.weights_TK)
        sums_T1 = shares_TE.sum(axis=1, keepdims=True)
        return shares_TE / np.where(sums_T1 > 0, sums_T1, 1)


@dataclass(frozen=True, eq=False)
class Inspection:
    """One prompt's way through a model.

    Args:
        model: The model's name.
        prompt: What was asked, without a chat template.
        token_ids: What was read, generated tokens included.
        token_texts: Each of them as text, special tokens too.
        prompt_tokens: How many of them are the prompt.
        stats: Totals by layer.
        layers: Every token's choices, layer by layer.
    """

    model: str
    prompt: str
    token_ids: tuple[int, ...]
    token_texts: tuple[str, ...]
    prompt_tokens: int
    stats: RoutingStats
    layers: tuple[LayerTrace, ...]


def inspect_prompt(
    directory: str | PathLike[str],
    prompt: str,
    settings: RoutingSettings,
    *,
    as_chat: bool = False,
    max_new_tokens: int = 0,
    tell: Callable[[str], None] = lambda stage: None,
) -> Inspection:
    """Load a model and look at how it routes a prompt, and the answer it begins to write.

    Args:
        directory: The model's directory.
        prompt: What it reads.
        settings: How tokens are routed.
        as_chat: Whether the prompt is a user's message in the chat template, or raw text.
        max_new_tokens: So many tokens are generated, always the likeliest, and looked at too.
        tell: Told what is being done.

    Returns:
        What was seen.

    Raises:
        ConfigurationError: Not a whole mixture-of-experts checkpoint, or it cannot be routed like that.
        ContextOverflowError: Prompt and answer do not fit the context window.
        SparseMoEError: It cannot be loaded, or returns NaN.
    """
    local = open_directory(directory, routing=settings)
    prompt_ids = _prompt_ids(local, prompt, as_chat=as_chat)
    check_room(len(prompt_ids), max_new_tokens, local.context_window)
    tell(f"Loading {local.name}")
    loaded = local.engine.load()
    tell(f"Reading {len(prompt_ids)} tokens")
    ids, stats, layers = inspect_routing(loaded, prompt_ids, settings, max_new_tokens, local.stop_ids)
    texts = tuple(_text_of(local, token_id) for token_id in ids)
    return Inspection(local.name, prompt, ids, texts, len(prompt_ids), stats, layers)


def inspect_routing(
    loaded: LoadedModel,
    prompt_ids: Sequence[int],
    settings: RoutingSettings,
    max_new_tokens: int = 0,
    stop_ids: Collection[int] = (),
) -> tuple[tuple[int, ...], RoutingStats, tuple[LayerTrace, ...]]:
    """Feed a prompt in one pass, then the likeliest tokens one by one, and write down where they went.

    Args:
        loaded: The model.
        prompt_ids: At least one token.
        settings: How tokens are routed.
        max_new_tokens: At most so many tokens are generated.
        stop_ids: Tokens that end the answer; they are not fed.

    Returns:
        The tokens that were fed, their totals, and their choices layer by layer.

    Raises:
        ConfigurationError: The model has no layers to look into, or cannot route like that.
        SparseMoEError: It returns NaN.
    """
    if loaded.without_layers is not None:
        raise loaded.without_layers
    loaded.check(settings)
    recorder = RoutingRecorder(loaded.layers)
    ids: list[int] = []
    pending, cache = list(prompt_ids), row_caches.new_cache(loaded.model)
    while pending:
        positions = [list(range(len(ids), len(ids) + len(pending)))]
        plan = plan_sequences(positions, [len(prompt_ids)], settings, loaded.model.device, recorder)
        logits_BV = loaded.run([pending], positions, cache, None, plan)
        ids += pending
        if bool(torch.isnan(logits_BV).any()):
            raise nan_error(loaded, ids)
        likeliest = int(logits_BV[0].argmax())
        has_room = len(ids) - len(prompt_ids) < max_new_tokens
        pending = [likeliest] if has_room and likeliest not in stop_ids else []
    layers = _traces(recorder.labels, recorder.observations)
    return tuple(ids), recorder.collect(1)[0], layers


def _prompt_ids(local: LocalModel, prompt: str, *, as_chat: bool) -> tuple[int, ...]:
    if as_chat:
        text = local.chat_prompt([{"role": "user", "content": prompt}])
        ids = local.encode(text, special_tokens=not local.has_chat_template)
    else:
        ids = local.encode(prompt, special_tokens=True)
    if not ids:
        raise ConfigurationError("the prompt has no tokens; write something the model can read")
    return ids


def _text_of(local: LocalModel, token_id: int) -> str:
    return str(local.tokenizer.decode([token_id], clean_up_tokenization_spaces=False))


def _traces(labels: Iterable[LayerLabel], seen: Sequence[Observation]) -> tuple[LayerTrace, ...]:
    return tuple(_trace(label, [one for one in seen if one.layer.index == label.index]) for label in labels)


def _trace(label: LayerLabel, seen: Sequence[Observation]) -> LayerTrace:
    """One layer's choices over all forwards; all have the same K."""

    def joined(name: str) -> Array:
        together: Array = torch.cat([getattr(one.routing, name) for one in seen]).float().cpu().numpy()
        return together

    return LayerTrace(
        label,
        joined("experts_TK").astype(np.int64),
        joined("kept_TK").astype(bool),
        joined("rerouted_TK").astype(bool),
        joined("weights_TK"),
    )
