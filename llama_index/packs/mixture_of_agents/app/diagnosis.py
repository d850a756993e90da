"""What `moa doctor` found, and the words for it: as lines, as one JSON document, as explanations.

Pure: findings go in, text comes out. A key is known here by its variable's name alone. It asks nobody
and draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Examination:
    """What was found out about one model.

    Attributes:
        model: Its name.
        package: What its class comes from; empty where this package brings it.
        version: Of that; None where it is not installed.
        key: The variable that holds its key; empty where there is none.
        key_source: Where that variable is set.
        seconds: How long it took to write one token; None where it was not asked.
        problem: What is wrong and what to do; empty where nothing is.
    """

    model: str
    package: str = ""
    version: str | None = None
    key: str = ""
    key_source: str = ""
    seconds: float | None = None
    problem: str = ""

    @property
    def package_text(self) -> str:
        """The package and its version."""
        if not self.package:
            return "part of this package"
        return f"{self.package} {self.version or 'missing'}"

    @property
    def key_text(self) -> str:
        """Which key it has, and where from."""
        return f"{self.key} ({self.key_source})" if self.key else "no key"

    @property
    def answer_text(self) -> str:
        """Whether it answered."""
        if self.problem:
            return "failed"
        return "not asked" if self.seconds is None else f"one token in {self.seconds:.2f} s"


@dataclass(frozen=True)
class Machine:
    """What models are asked from.

    Attributes:
        python: Its version.
        packages: Distributions and their versions; None where one is not installed.
        default_model: Whether the embedded default is there, in words.
        has_default_model: The same as a fact.
        dotenv: The `.env` file that was read; empty where there is none.
    """

    python: str
    packages: Mapping[str, str | None]
    default_model: str
    has_default_model: bool
    dotenv: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Everything `moa doctor` found.

    Attributes:
        machine: This one.
        models: Those that were looked at, in order.
        notes: What else there is to say.
    """

    machine: Machine
    models: tuple[Examination, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def is_well(self) -> bool:
        """Whether no model has a problem."""
        return not any(one.problem for one in self.models)


def lines(found: Diagnosis) -> list[str]:
    """The diagnosis in plain lines."""
    return [*machine_lines(found.machine), *map(_model_line, found.models), *found.notes]


def machine_lines(machine: Machine) -> list[str]:
    """What models are asked from."""
    return [
        f"Python {machine.python}",
        *(f"{name} {version or 'not installed'}" for name, version in machine.packages.items()),
        f"default model: {machine.default_model}",
        f".env file: {machine.dotenv or 'none here'}",
    ]


def _model_line(one: Examination) -> str:
    mark = "FAILED" if one.problem else "ok"
    return f"{mark} {one.model}: {one.package_text}; {one.key_text}; {one.problem or one.answer_text}"


def document(found: Diagnosis) -> dict[str, Any]:
    """The diagnosis as one JSON document."""
    machine = found.machine
    return {
        "ok": found.is_well,
        "python": machine.python,
        "packages": dict(machine.packages),
        "default_model": {"ready": machine.has_default_model, "note": machine.default_model},
        "dotenv": machine.dotenv or None,
        "models": [_entry(one) for one in found.models],
        "notes": list(found.notes),
    }


def _entry(one: Examination) -> dict[str, Any]:
    return {
        "model": one.model,
        "ok": not one.problem,
        "package": one.package or None,
        "version": one.version,
        "key": {"variable": one.key, "source": one.key_source} if one.key else None,
        "latency_seconds": one.seconds,
        "problem": one.problem or None,
    }


def explained(status: int | None, said: str, key: str, *, is_unreachable: bool = False) -> str:
    """Why a model did not answer, and what to do.

    Args:
        status: The HTTP status; None where there was no answer.
        said: The error in a line.
        key: The variable that holds the key it was asked with; empty for none.
        is_unreachable: Whether nobody answered at all.
    """
    if status in (401, 403):
        cure = f"check {key}" if key else "set the key it wants"
        return f"the server refused the key ({status}); {cure}. It said: {said}"
    if status == 404:
        return f"the server does not know this model or path (404); check its name. It said: {said}"
    if status == 429:
        return f"too many requests, or no quota left (429); wait, or check the account. It said: {said}"
    if status is None and is_unreachable:
        return f"the server cannot be reached; check its address and the network. It said: {said}"
    return f"the call failed. It said: {said}"


def keys_without_model(variables: Sequence[tuple[str, str]]) -> list[str]:
    """Notes for keys that are set while no model is known to try them with.

    Args:
        variables: Variable and provider of each.
    """
    return [
        f"{variable} is set; to try it, name a model: moa doctor {provider}:MODEL"
        for variable, provider in variables
    ]
