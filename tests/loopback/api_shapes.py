"""What a model's answer looks like on the wire, in the five HTTP APIs the tests speak.

Knows formats only: neither sockets nor what is being tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"

PROMPT_TOKENS = 7
"""Every answer claims to have read so many tokens."""


def completion_tokens(text: str) -> int:
    """Every answer claims to have written as many tokens as it has words."""
    return len(text.split())


@dataclass(frozen=True)
class Wire:
    """A response's media type and the pieces its body is sent in."""

    media_type: str
    pieces: Sequence[bytes]


def answer(path: str, body: dict[str, Any], text: str) -> Wire:
    """A whole or streamed answer, in the format of the API that the path belongs to."""
    if path.startswith("/v1/chat/completions"):
        return _openai_stream(body, text) if body.get("stream") else _openai(body, text)
    if path.startswith("/v1/messages"):
        return _anthropic_stream(body, text) if body.get("stream") else _anthropic(body, text)
    if path.startswith("/api/chat"):
        return _ollama(body, text)
    if ":streamGenerateContent" in path:
        return Wire(SSE, _events(_google(word, count) for count, word in enumerate(words(text), 1)))
    if ":generateContent" in path:
        return _whole(_google(text, completion_tokens(text)))
    raise ValueError(f"no such API: {path}")


def words(text: str) -> list[str]:
    """The text in pieces that join to it."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def _whole(payload: dict[str, Any]) -> Wire:
    return Wire(JSON, [json.dumps(payload).encode()])


def _events(payloads: Iterable[dict[str, Any]]) -> list[bytes]:
    return [f"data: {json.dumps(payload)}\n\n".encode() for payload in payloads]


def _openai_usage(text: str) -> dict[str, int]:
    written = completion_tokens(text)
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": written,
        "total_tokens": PROMPT_TOKENS + written,
    }


def _openai(body: dict[str, Any], text: str) -> Wire:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "logprobs": None,
    }
    return _whole(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [choice],
            "usage": _openai_usage(text),
        }
    )


def _openai_stream(body: dict[str, Any], text: str) -> Wire:
    def chunk(choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        return {**head, "choices": choices, **more}

    def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}

    chunks = [chunk([choice({"role": "assistant", "content": ""})])]
    chunks += [chunk([choice({"content": word})]) for word in words(text)]
    # As the real services do: OpenAI counts in a chunk of its own and on request, Mistral in the last one.
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks += [chunk([choice({}, "stop")]), chunk([], usage=_openai_usage(text))]
    elif "mistral" in body["model"]:
        chunks += [chunk([choice({"content": ""}, "stop")], usage=_openai_usage(text))]
    else:
        chunks += [chunk([choice({}, "stop")])]
    return Wire(SSE, [*_events(chunks), b"data: [DONE]\n\n"])


def _anthropic_message(body: dict[str, Any], content: list[dict[str, Any]], written: int) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "end_turn" if content else None,
        "stop_sequence": None,
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": written},
    }


def _anthropic(body: dict[str, Any], text: str) -> Wire:
    return _whole(_anthropic_message(body, [{"type": "text", "text": text}], completion_tokens(text)))


def _anthropic_stream(body: dict[str, Any], text: str) -> Wire:
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        for word in words(text)
    ]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": _anthropic_message(body, [], 1)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": completion_tokens(text)},
        },
        {"type": "message_stop"},
    ]
    return Wire(SSE, [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events])


def _ollama(body: dict[str, Any], text: str) -> Wire:
    def line(piece: str, **more: Any) -> bytes:
        message = {"role": "assistant", "content": piece}
        payload = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "message": message, **more}
        return json.dumps(payload).encode() + b"\n"

    counts = {"prompt_eval_count": PROMPT_TOKENS, "eval_count": completion_tokens(text)}
    if not body.get("stream"):
        return Wire(JSON, [line(text, done=True, done_reason="stop", **counts)])
    pieces = [line(word, done=False) for word in words(text)]
    return Wire(NDJSON, [*pieces, line("", done=True, done_reason="stop", **counts)])


def _google(text: str, written: int) -> dict[str, Any]:
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {
            "promptTokenCount": PROMPT_TOKENS,
            "candidatesTokenCount": written,
            "totalTokenCount": PROMPT_TOKENS + written,
        },
        "modelVersion": "gemini",
    }
