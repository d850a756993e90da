"""A run in the words of OpenTelemetry's conventions for generative AI: span names and attributes.

The source is https://opentelemetry.io/docs/specs/semconv/gen-ai (in development, as of v1.41); what the
conventions have no word for begins with `moa.`. Plain values in, plain values out: it makes no spans,
imports no OpenTelemetry, and lets no key through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.prices import RUN_HERE
from llama_index.packs.mixture_of_agents.records.traces.redaction import scrubbed
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage

Attributes = dict[str, str | bool | int | float | list[str]]

AGENT = "mixture_of_agents"
OTHER_ERROR = "_OTHER"
"""The conventions' word for an error that has no class of its own."""

_PROVIDERS = {
    "Anthropic": "anthropic",
    "AnthropicBedrock": "aws.bedrock",
    "AnthropicVertex": "gcp.vertex_ai",
    "AzureAICompletionsModel": "azure.ai.inference",
    "AzureOpenAI": "azure.ai.openai",
    "AzureOpenAIResponses": "azure.ai.openai",
    "Bedrock": "aws.bedrock",
    "BedrockConverse": "aws.bedrock",
    "Cohere": "cohere",
    "DeepSeek": "deepseek",
    "Gemini": "gcp.gemini",
    "GoogleGenAI": "gcp.gemini",
    "Groq": "groq",
    "MistralAI": "mistral_ai",
    "OpenAI": "openai",
    "OpenAIResponses": "openai",
    "Perplexity": "perplexity",
    "Vertex": "gcp.vertex_ai",
    "WatsonX": "ibm.watsonx.ai",
    "WatsonxLLM": "ibm.watsonx.ai",
    "xAI": "x_ai",
}
# How `retries.describe` begins: the error's class, and a colon where it said something.
_ERROR_CLASS = re.compile(r"([A-Za-z_]\w*(?:Error|Exception|Timeout|Cancelled|Exit|Interrupt))\b(?=:| <-|$)")


def provider_of(identity: ModelIdentity) -> str:
    """The provider, in the conventions' words where they have one, else by the LLM's class ("ollama")."""
    known = _PROVIDERS.get(identity.class_name)
    return known or identity.class_name.lower().removesuffix("llm") or "unknown"


def is_in_process(identity: ModelIdentity) -> bool:
    """Whether the model runs in this process: an agent does, as far as one can see, and a local model."""
    return identity.is_agent or identity.class_name in RUN_HERE


def run_name() -> str:
    """The name of a run's span."""
    return f"invoke_agent {AGENT}"


def step_name(call: Call) -> str:
    """The name of a step's span: what a call is for, and whose it is."""
    return clean(f"{call.task} {call.proposer}")


def call_name(call: Call) -> str:
    """The name of the span of a call that goes out: "chat gpt-4o"."""
    return clean(f"{_operation(call.identity)} {call.identity.model or call.proposer}")


def _operation(identity: ModelIdentity) -> str:
    return "invoke_agent" if identity.is_agent else "chat"


def start_attributes(start: RunStart) -> Attributes:
    """What is known of a run when it begins."""
    facts = start.mixture
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": AGENT,
        "gen_ai.provider.name": "llama_index",
        "moa.run_id": clean(start.run_id),
        "moa.num_layers": facts.num_layers,
        "moa.finish": clean(str(facts.finish.get("name", ""))),
        "moa.aggregator": clean(facts.aggregator.name),
    }


def place_attributes(call: Call) -> Attributes:
    """Where a call stands in its run."""
    place: Attributes = {
        "moa.layer": call.layer,
        "moa.index": call.index,
        "moa.task": call.task,
        "moa.proposer": clean(call.proposer),
    }
    return place | {"moa.turn": call.turn} if call.turn else place


def model_attributes(identity: ModelIdentity) -> Attributes:
    """Who is called; known before the call, so that samplers can go by it."""
    named = {"gen_ai.agent.name" if identity.is_agent else "gen_ai.request.model": clean(identity.model)}
    return _known(
        {
            "gen_ai.operation.name": _operation(identity),
            "gen_ai.provider.name": provider_of(identity),
            **{name: model for name, model in named.items() if model},
        }
    )


def request_attributes(call: Call) -> Attributes:
    """The settings that travel with a call; what is left to the model is left out."""
    return _known({f"gen_ai.request.{name}": value for name, value in call.sampling.given().items()})


def usage_attributes(usage: Usage) -> Attributes:
    """Tokens and money; what nobody knows is left out, never 0."""
    return _known(
        {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            "moa.cost_usd": usage.cost_usd,
            "moa.usage_estimated": usage.estimated or None,
        }
    )


def answer_attributes(record: Proposal) -> Attributes:
    """What an answered call says of itself besides its usage."""
    reason = record.details.get("finish_reason")
    return _known(
        {
            "gen_ai.response.finish_reasons": None if reason is None else [clean(str(reason))],
            "moa.retries": record.details.get("retries"),
        }
    )


def response_attributes(response: MixtureResponse) -> Attributes:
    """What a run came to."""
    return {
        **usage_attributes(response.usage),
        **_known(
            {
                "moa.synthesizer": clean(response.synthesizer),
                "moa.degraded": response.degraded,
                "moa.proposals": len(response.proposals),
                "moa.missing": len(response.missing),
                "moa.stopped_after": response.stopped_after,
            }
        ),
    }


def event_attributes(event: ProgressEvent) -> Attributes:
    """A retry, an agreement or a gate's decision, as an event on a span."""
    routing = event.routing
    told = {
        "moa.wait_seconds": event.seconds or None,
        "moa.reason": clean(event.reason) or None,
        "moa.gate.asked": None if routing is None else routing.asked,
        "moa.gate.confidence": None if routing is None else routing.confidence,
    }
    return _known(told)


def error_type(failed: Missing | ProgressEvent) -> str:
    """Why a call or a try failed, as one of few words: an HTTP status, an error's class, "timeout"."""
    if failed.status is not None:
        return str(failed.status)
    if named := _ERROR_CLASS.match(failed.reason):
        return named.group(1)
    return "timeout" if "timeout" in failed.reason else OTHER_ERROR


def input_messages(messages: Sequence[ChatMessage]) -> str:
    """A conversation as the JSON the conventions give; pictures and files by their kind alone."""
    return _as_json({"role": message.role.value, "parts": _parts(message)} for message in messages)


def output_messages(text: str, finish_reason: Any = None) -> str:
    """An answer, likewise."""
    answer: dict[str, Any] = {"role": "assistant", "parts": [_text_part(text)]}
    return _as_json([answer if finish_reason is None else {**answer, "finish_reason": str(finish_reason)}])


def _parts(message: ChatMessage) -> list[dict[str, str]]:
    return [
        _text_part(block.text) if block.block_type == "text" else {"type": block.block_type}
        for block in message.blocks
    ]


def _text_part(text: str) -> dict[str, str]:
    return {"type": "text", "content": scrubbed(text)}


def _as_json(messages: Iterable[dict[str, Any]]) -> str:
    return json.dumps(list(messages))  # ASCII, so that no exporter meets half a surrogate pair


def clean(text: str) -> str:
    """A text that any exporter can encode, without what looks like a key."""
    return scrubbed(text.encode("utf-8", "replace").decode())


def _known(values: dict[str, Any]) -> Attributes:
    return {name: value for name, value in values.items() if value is not None}
