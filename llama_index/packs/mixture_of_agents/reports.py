"""What a provider reports with its answer: token counts and why it ended, wherever it puts them.

It knows field names only; it makes no calls and knows no prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatResponse

from llama_index.packs.mixture_of_agents.results import Usage

_PROMPT_NAMES = ("prompt_tokens", "input_tokens", "prompt_token_count", "prompt_eval_count")
_COMPLETION_NAMES = ("completion_tokens", "output_tokens", "candidates_token_count", "eval_count")
_CACHED_NAMES = ("cached_tokens", "cache_read_input_tokens", "cached_content_token_count")
_REASONING_NAMES = ("reasoning_tokens", "thoughts_token_count")
_DETAILS = (
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
)
_CUT = ("length", "model_length", "max_tokens")
_ENDINGS = ("finish_reason", "stop_reason", "done_reason")


def usage_of(response: ChatResponse) -> Usage:
    """Token counts from wherever this provider puts them; None where it gives none."""
    return usage_in(response.raw, response.additional_kwargs)


def usage_in(raw: Any, more: Mapping[str, Any]) -> Usage:
    """Token counts, likewise.

    Args:
        raw: What the provider answered, as its class keeps it.
        more: What the class says beside it.

    Anthropic counts what it read from its cache, or wrote to it, apart from what else it read, and Google
    counts thinking apart from the answer: both are added, so that one field means one thing.
    """
    holders = _there(
        _part(raw, "usage"),
        _part(raw, "usage_metadata"),
        _part(_part(raw, "data"), "usage"),  # MistralAI's streams
        more,
        raw,
    )
    inner = _there(*(_part(holder, name) for holder in holders for name in _DETAILS))
    apart = _sum_of(holders, ("cache_read_input_tokens", "cache_creation_input_tokens"))
    thought = _sum_of(holders, ("thoughts_token_count",))
    return Usage(
        prompt_tokens=_plus(_first_count(holders, _PROMPT_NAMES), apart),
        completion_tokens=_plus(_first_count(holders, _COMPLETION_NAMES), thought),
        cached_tokens=_first_count([*inner, *holders], _CACHED_NAMES),
        reasoning_tokens=_first_count([*inner, *holders], _REASONING_NAMES),
    )


def details_of(response: ChatResponse) -> dict[str, Any]:
    """What else is known of an answer, as JSON: why it ended, and how a sparse model routed it."""
    raw = response.raw
    holders = _there(_first(_part(raw, "choices")), _first(_part(raw, "candidates")), _part(raw, "data"), raw)
    endings = (_part(holder, name) for holder in holders for name in _ENDINGS)
    ending = next((getattr(end, "value", end) for end in endings if isinstance(end, str)), None)
    details = {} if ending is None else {"finish_reason": str(ending)}
    routing = raw.get("sparse_moe") if isinstance(raw, dict) else None
    return details if routing is None else {**details, "sparse_moe": routing}


def was_cut(details: Mapping[str, Any]) -> bool:
    """Whether an answer ended because it was as long as it might be, going by its `details_of`."""
    return str(details.get("finish_reason")).lower() in _CUT


def _there(*holders: Any) -> list[Any]:
    """Those that hold anything: every answer is searched, so empty places are left out at once."""
    return [held for held in holders if held is not None and not (isinstance(held, dict) and not held)]


def _first_count(holders: Sequence[Any], names: Sequence[str]) -> int | None:
    counts = (_part(holder, name) for holder in holders for name in names)
    return next((count for count in counts if isinstance(count, int) and not isinstance(count, bool)), None)


def _sum_of(holders: Sequence[Any], names: Sequence[str]) -> int:
    return sum(_first_count(holders, [name]) or 0 for name in names)


def _plus(count: int | None, more: int) -> int | None:
    return None if count is None else count + more


def _first(listed: Any) -> Any:
    return listed[0] if isinstance(listed, (list, tuple)) and listed else None


def _part(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)
