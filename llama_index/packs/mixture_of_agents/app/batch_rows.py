"""Rows of a batch: prompts as they come in, answers as they go out. Reads text, asks nobody."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from pydantic import ValidationError

from llama_index.packs.mixture_of_agents.checks import shortened, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.results import MixtureResponse
from llama_index.packs.mixture_of_agents.runs.live_run import conversation

_FORM = (
    'A row is {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}, an "id" beside it if '
    "you like, or a line of plain text that does not begin with {."
)


@dataclass(frozen=True)
class Row:
    """One prompt.

    Attributes:
        number: Its place among the rows, from 1; empty lines don't count.
        digest: Of its bytes, so that a changed row is noticed.
        question: What to ask; empty where that cannot be.
        marks: What goes over to its answer as it is: "id", where it has one.
        fault: Why it cannot be asked; empty where it can.
    """

    number: int
    digest: str
    question: tuple[ChatMessage, ...] = ()
    marks: Mapping[str, Any] | None = None
    fault: str = ""


def rows_in(content: bytes) -> list[Row]:
    """The rows of a file, one for each line that is not empty; a bad one is a row with a fault."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return list(_rows(line for line in lines if line.strip()))


def _rows(lines: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        digest = sha256(line.strip()).hexdigest()[:16]
        marks: dict[str, Any] = {}
        try:
            yield Row(number, digest, tuple(_question(line, marks)), marks)
        except ConfigurationError as fault:
            yield Row(number, digest, marks=marks, fault=str(fault))


def _question(line: bytes, marks: dict[str, Any]) -> list[ChatMessage]:
    """What a line asks; what it is marked with is noted first, so that a bad row can be told, too."""
    try:
        text = line.decode("utf-8").strip()
        row = _row(text)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"The row is not text in UTF-8 ({error}).") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"The row is not JSON ({shortened(str(error))}). {_FORM}") from error
    if "id" in row:
        marks["id"] = row["id"]
    if ("prompt" in row) == ("messages" in row):
        raise ConfigurationError(f"The row has {_listed(row)}. {_FORM}")
    return _prompt(row["prompt"]) if "prompt" in row else _messages(row["messages"])


def _row(text: str) -> Any:
    if text.startswith("{"):
        return json.loads(text, parse_constant=_refuse_constant)
    if text in ("[", "]") or (text.startswith("[{") and text.rstrip(",").endswith(("}", "]"))):
        raise ConfigurationError(f"The row is part of a list in JSON; write its objects one a line. {_FORM}")
    return {"prompt": text}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value in JSON")


def _listed(row: Mapping[str, Any]) -> str:
    if "prompt" in row:
        return "both a prompt and messages"
    return f"neither a prompt nor messages, but {', '.join(map(shown, row)) or 'nothing at all'}"


def _prompt(prompt: object) -> list[ChatMessage]:
    if not isinstance(prompt, str):
        raise ConfigurationError(f"prompt is {shown(prompt)}, and must be a text. {_FORM}")
    return conversation(prompt, None)


def _messages(messages: object) -> list[ChatMessage]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ConfigurationError(f"messages are {shown(messages)}, and must be a list of objects. {_FORM}")
    try:
        return conversation(None, [ChatMessage.model_validate(message) for message in messages])
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"The messages cannot be read ({shortened(said)}). {_FORM}") from error


def answer_row(row: Row, response: MixtureResponse) -> dict[str, Any]:
    """An answered row, as JSON."""
    told = response.model_dump(
        mode="json",
        include={"usage", "latency_seconds", "run_id", "synthesizer", "finish", "decision", "missing"},
    )
    degraded = response.degraded
    routed = response.model_dump(mode="json", include={"routed"}) if response.routed else {}
    return {
        **(row.marks or {}),
        "row": row.number,
        "text": response.text,
        "error": None,
        "degraded": degraded,
    } | {**told, **routed}


def failed_row(row: Row, error: BaseException | str) -> dict[str, Any]:
    """A row without an answer, and why, as JSON."""
    kind = "ConfigurationError" if isinstance(error, str) else type(error).__name__
    told = {"type": kind, "message": str(error)}
    return {**(row.marks or {}), "row": row.number, "text": None, "error": told}


def line_of(row: Mapping[str, Any]) -> bytes:
    """A row as a line of a file."""
    try:
        return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # half a character: escaped, it stays what it is
        return json.dumps(row).encode("ascii") + b"\n"
