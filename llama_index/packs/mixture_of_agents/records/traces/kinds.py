"""Every kind of line a trace may have, and how its fields are read."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field, TypeAdapter

from llama_index.packs.mixture_of_agents.records.traces.crew_schema import CrewDid, CrewEnded, CrewStarted
from llama_index.packs.mixture_of_agents.records.traces.schema import (
    CallAnswered,
    CallAsked,
    CallMissing,
    CallRetried,
    GateRouted,
    MessageKept,
    RoundAgreed,
    RunEnded,
    RunStarted,
)

OfMixture = (
    RunStarted | CallAsked | CallRetried | CallAnswered | CallMissing | RoundAgreed | GateRouted | RunEnded
)
OfCrew = CrewStarted | CrewDid | CrewEnded
Entry = MessageKept | OfMixture | OfCrew

KINDS: frozenset[str] = frozenset(one.model_fields["kind"].default for one in get_args(Entry))

ENTRIES: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])
"""Reads the fields of a line's kind."""
