"""Questions with the answers that models gave and the right answer: what gates learn from.

The form is one JSON object a line, with `question`, `answer` (the right one) and `responses` (name of a
model -> its text); `id` may be there. A model may lack a response to some of them. What is learned is not
known here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llama_index.packs.mixture_of_agents.checks import shortened
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_FORM = (
    'Each line is one JSON object: {"id": ..., "question": ..., "answer": ..., '
    '"responses": {model: text, ...}}'
)


class Sample(BaseModel):
    """A question that models answered.

    Attributes:
        id: Tells it from others.
        question: As the models read it.
        answer: The right answer.
        responses: Name of each model that was asked -> its whole text; who is not there was not asked, or
            failed.
    """

    model_config = ConfigDict(frozen=True)

    id: str = ""
    question: str
    answer: str
    responses: dict[str, str] = Field(default_factory=dict)


def read_samples(path: str | os.PathLike[str]) -> list[Sample]:
    """The samples of a file, in its order.

    Raises:
        ConfigurationError: It cannot be read, is empty, or a line is not of the form.
    """
    place = Path(path)
    try:
        lines = place.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{place} cannot be read ({error}). Pass a JSONL file. {_FORM}.") from error
    samples = [_sample(place, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not samples:
        raise ConfigurationError(f"{place} is empty: there is nothing to learn from. {_FORM}.")
    return samples


def models_of(samples: Iterable[Sample]) -> list[str]:
    """Everyone who answered anything, in the order of their first appearance."""
    return list(dict.fromkeys(name for sample in samples for name in sample.responses))


def _sample(path: Path, number: int, line: str) -> Sample:
    try:
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
        return Sample.model_validate(_plain(found, number))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{path}: line {number} is not of the form: {shortened(_fault(error))}. {_FORM}."
        ) from error


def _plain(found: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Numbers may stand as numbers; a response that is null was not given."""
    plain = {key: value for key, value in found.items() if value is not None}
    plain["id"] = str(plain.get("id", number))
    if "answer" in plain:
        plain["answer"] = _as_text(plain["answer"])
    if isinstance(plain.get("responses"), dict):
        given = {name: text for name, text in plain["responses"].items() if text is not None}
        plain["responses"] = {name: _as_text(text) for name, text in given.items()}
    return plain


def _as_text(value: Any) -> Any:
    """A number as it is written; anything else as it is."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _fault(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
