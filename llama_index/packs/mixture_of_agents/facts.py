"""A mixture as plain facts: what a trace keeps, a budget and a plan reckon with, and a replay rebuilds from.

Frozen records that serialise to JSON; no live model, no key. They do not know how a mixture is run.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True)


class ModelIdentity(BaseModel):
    """Which model answers: the class that calls it, and the model's own name.

    Attributes:
        class_name: Of the LLM or agent, "OpenAI" for instance.
        model: The model's name, "gpt-4o" for instance.
        is_agent: An agent; how often it asks its model, and which, nobody knows beforehand.
        settings: Of the LLM object's own settings, those that are not its class's usual ones, as a hash: its
            server's address, a temperature, a system prompt. Empty for none.
    """

    model_config = _FROZEN

    class_name: str = ""
    model: str = ""
    is_agent: bool = False
    settings: str = ""

    def __str__(self) -> str:
        return f"{self.class_name}({self.model})"


class SeatFacts(BaseModel):
    """Who sits in one place, with all settings resolved.

    Attributes:
        name: As results call it.
        identity: Which model it is.
        role: Its system message; None for nobody in particular.
        takes_role: A role written for the question takes the place of `role`.
        temperature: None leaves the LLM's own.
        max_tokens: Longest answer, in tokens; None leaves the LLM's own.
        seed: None for none.
        timeout: Seconds for one answer; None for no limit of its own.
        context_window: Tokens of prompt and answer; None where nobody knows.
        num_output: The longest answer by the LLM's own word, in tokens; None where it does not say.
        shares_prefix: Others of its layer have the same local model, so their prompts begin alike.
    """

    model_config = _FROZEN

    name: str
    identity: ModelIdentity
    role: str | None = None
    takes_role: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    timeout: float | None = None
    context_window: int | None = None
    num_output: int | None = None
    shares_prefix: bool = False

    @property
    def longest_answer(self) -> int | None:
        """Most tokens one answer can have; None where nobody knows."""
        return self.max_tokens if self.max_tokens is not None else self.num_output


class MixtureFacts(BaseModel):
    """A whole mixture.

    Attributes:
        layers: Who sits in each round of proposers.
        aggregator: Who writes the answer.
        role_writer: Who writes roles for the question; None where roles are given or there are none.
        roles_per: Roles are written once per "run", or per "layer".
        finish: How the last round becomes an answer: its `name`, and its settings.
        pass_on: What the next round reads: all "proposals", or one "condensed" text.
        stop_early: When remaining rounds are skipped: a `name` and settings; None for never.
        gate: Who decides whom to ask: its `name`, and its settings; None where all are asked.
        timeout: Seconds for a whole run; None for no limit.
        layer_timeout: Seconds for a round; None for no limit.
        max_retries: Tries after the first, for transient failures.
        options: The remaining options of the run that are plain values, by name.
        config: The configuration file's content this mixture was built from; None for none.
    """

    model_config = _FROZEN

    layers: list[list[SeatFacts]]
    aggregator: SeatFacts
    role_writer: SeatFacts | None = None
    roles_per: str = "run"
    finish: dict[str, Any] = Field(default_factory=lambda: {"name": "synthesize"})
    pass_on: str = "proposals"
    stop_early: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    timeout: float | None = None
    layer_timeout: float | None = None
    max_retries: int = 2
    options: dict[str, Any] = Field(default_factory=dict)
    config: dict[str, Any] | None = None

    def roles_to_write(self, layer: int) -> int:
        """How many roles are to be written before that round, by `role_writer`; 0 for none."""
        if self.role_writer is None or (self.roles_per == "run" and layer > 1):
            return 0
        rounds = self.layers if self.roles_per == "run" else self.layers[layer - 1 : layer]
        return max((sum(seat.takes_role for seat in seats) for seats in rounds), default=0)

    @property
    def num_layers(self) -> int:
        """Rounds of proposers and the finish, as the paper counts."""
        return len(self.layers) + 1
