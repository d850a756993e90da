"""What calls cost: prices of models by provider, with a caller's own prices over them.

Prices come from genai-prices, whose data is in its package: nothing is fetched. A price nobody knows is
None, never 0. Where a provider reports no tokens they are counted here and marked as estimated; but not
for agents: how often they ask their models is not seen here. This module makes no calls and knows no
mixtures.

    Prices({"gpt-4o": {"input": 2.5, "output": 10, "cached_input": 1.25}})
    Prices({"OpenAILike:*": {"input": 0, "output": 0}})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.spending.counting import counted, counted_text
from llama_index.packs.mixture_of_agents.records.spending.price_list import (
    Listed,
    Tokens,
    dearest_cost,
    listed_cost,
)
from llama_index.packs.mixture_of_agents.records.spending.rates import Rate, rates_from
from llama_index.packs.mixture_of_agents.results import Usage

PROVIDERS: Mapping[str, str] = {
    "OpenAI": "openai",
    "OpenAIResponses": "openai",
    "AzureOpenAI": "azure",
    "MistralAI": "mistral",
    "Anthropic": "anthropic",
    "GoogleGenAI": "google",
    "Gemini": "google",
    "Vertex": "google",
    "Groq": "groq",
    "OpenRouter": "openrouter",
    "TogetherLLM": "together",
    "DeepSeek": "deepseek",
    "Perplexity": "perplexity",
    "Cohere": "cohere",
    "Fireworks": "fireworks",
    "Cerebras": "cerebras",
    "Bedrock": "aws",
    "BedrockConverse": "aws",
    "NovitaAI": "novita",
    "MoonshotLLM": "moonshotai",
}
"""Name of an LLM's class -> who is paid for it, as genai-prices calls them."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "MistralAI": ("mistralai",),
    "GoogleGenAI": ("google-genai", "gemini"),
    "OpenAILike": ("openai-like",),
    "Ollama": ("ollama",),
    "HuggingFaceLLM": ("huggingface",),
    "SparseMoELLM": ("sparse-moe",),
}
"""Name of an LLM's class -> further names of its provider that a caller's prices may use."""

RUN_HERE: frozenset[str] = frozenset({"SparseMoELLM", "HuggingFaceLLM", "LlamaCPP"})
"""LLM classes that compute within this process, so nobody charges: 0 USD. Servers are not among them, not
even Ollama's: nobody here knows who pays for them."""

FREE = Rate(input=0.0, output=0.0)


def _utc_now() -> datetime:
    # Not a lambda: a pack can be pickled, and its prices with it.
    return datetime.now(timezone.utc)


class Prices:
    """Knows what calls cost; a `policies.Meter`.

    Args:
        overrides: Model -> {"input", "output", "cached_input"} in USD per million tokens. A model is named
            as its metadata does, or with its class or provider before it ("OpenAI:gpt-4o",
            "openai:gpt-4o"); "*" and "?" stand for any text and any character. A name without them goes
            before one with them, then the earlier before the later.
        now: Tells the time with its zone; some prices are another at night.

    Raises:
        ConfigurationError: A price is no finite number >= 0, or a key is unknown.
    """

    def __init__(
        self,
        overrides: Mapping[str, Any] | None = None,
        *,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        rates = rates_from(overrides)
        exact = {name: rate for name, rate in rates.items() if not _is_pattern(name)}
        self._overrides = {**exact, **rates}
        self._now = now

    def measured(self, call: Call, text: str, usage: Usage) -> Usage:
        """What a call used, with its price, and with estimates for what its provider did not report.

        Args:
            call: The call, as it went out.
            text: The answer.
            usage: As the provider reported it; a cost it names stays.
        """
        return self.of_answer(call.identity, call.messages, text, usage)

    def of_answer(
        self, identity: ModelIdentity, messages: Sequence[ChatMessage], text: str, usage: Usage
    ) -> Usage:
        """Likewise, of an answer to these messages by this model."""
        if not identity.is_agent:
            usage = _with_estimates(usage, messages, text)
        return self.priced(identity, usage)

    def priced(self, identity: ModelIdentity, usage: Usage) -> Usage:
        """What an answer of this model took, with its price; a cost that is there stays."""
        cost = self._cost_of(identity, usage) if usage.cost_usd is None else usage.cost_usd
        return usage if cost is None else usage.model_copy(update={"cost_usd": cost})

    def _cost_of(self, identity: ModelIdentity, usage: Usage) -> float | None:
        own = self._own_rate(identity)
        if own is not None and own.is_free:
            return 0.0  # whatever it read and wrote
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        return self.cost(
            identity,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        )

    def cost(
        self,
        identity: ModelIdentity,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int | None = None,
        *,
        reasoning_tokens: int | None = None,
    ) -> float | None:
        """USD of one call; None where no price is known.

        Args:
            identity: Which model.
            prompt_tokens: Tokens read, cached ones among them.
            completion_tokens: Tokens written, thinking among them.
            cached_tokens: Those read that the provider had read before, which most sell for less.
            reasoning_tokens: Those written that were thinking; only few sell them at another price.
        """
        cached = min(cached_tokens or 0, prompt_tokens)
        own = self._own_rate(identity)
        if own is not None:
            return own.cost(prompt_tokens, completion_tokens, cached)
        listed, thinking = _listed(identity), min(reasoning_tokens or 0, completion_tokens)
        if listed is None:
            return None
        return listed_cost(listed, Tokens(prompt_tokens, completion_tokens, cached, thinking), self._now())

    def bound(
        self, identity: ModelIdentity, prompt_tokens: int, completion_tokens: int | None
    ) -> float | None:
        """USD that one call costs at most: nothing cached, at the dearest hour; None where nobody knows.

        Args:
            identity: Which model.
            prompt_tokens: Most tokens it reads.
            completion_tokens: Most tokens it writes; None where nobody knows.
        """
        own = self._own_rate(identity)
        if own is not None and own.is_free:
            return 0.0
        if completion_tokens is None:
            return None
        if own is not None:
            return max(own.cost(prompt_tokens, completion_tokens, cached) for cached in (0, prompt_tokens))
        listed = _listed(identity)
        return listed and dearest_cost(listed, prompt_tokens, completion_tokens, self._now())

    def is_known(self, identity: ModelIdentity) -> bool:
        """Whether a price is known."""
        return self.bound(identity, 1, 1) is not None

    def _own_rate(self, identity: ModelIdentity) -> Rate | None:
        """The caller's price, or that of a model that runs here; None where the list says it."""
        names = _names_of(identity)
        for key, rate in self._overrides.items():
            if key in names or (_is_pattern(key) and any(fnmatchcase(name, key) for name in names)):
                return rate
        return FREE if identity.class_name in RUN_HERE and not identity.is_agent else None


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _names_of(identity: ModelIdentity) -> list[str]:
    """What a caller's prices may call this model."""
    kind = identity.class_name
    before = [kind, *([PROVIDERS[kind]] if kind in PROVIDERS else []), *NAMES.get(kind, ())]
    return [identity.model, *(f"{name}:{identity.model}" for name in before)]


def _listed(identity: ModelIdentity) -> Listed | None:
    """Where the list may have its price."""
    provider = PROVIDERS.get(identity.class_name)
    if provider is None or identity.is_agent:
        return None
    return Listed(provider, identity.model.removeprefix("models/"))


def _with_estimates(usage: Usage, messages: Sequence[ChatMessage], text: str) -> Usage:
    guessed: dict[str, Any] = {}
    if usage.prompt_tokens is None:
        guessed["prompt_tokens"] = counted(messages)
    if usage.completion_tokens is None:
        guessed["completion_tokens"] = counted_text(text)
    return usage.model_copy(update={**guessed, "estimated": True}) if guessed else usage
