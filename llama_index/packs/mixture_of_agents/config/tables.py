"""The tables inside a configuration: models, finish, early stop, budget, limits, trace, prices.

They hold data; how it becomes a finish or a budget is not known here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.config import fields
from llama_index.packs.mixture_of_agents.config.plain_data import Table
from llama_index.packs.mixture_of_agents.errors import ConfigurationError


class ModelConfig(Table):
    """A model and its settings. Written as a text, it is the model alone.

    Attributes:
        model: A model's name, or that of an entry of `models`.
        temperature: Sampling temperature, 0 to 2.
        max_tokens: Longest answer, in tokens.
        seed: The sampler's seed.
        timeout: Seconds for one answer.
        settings: Arguments of the LLM's class.
    """

    model: fields.Name = Field(
        description="A model's name, such as 'openai:gpt-4o-mini', or that of an entry of models."
    )
    temperature: fields.Temperature = Field(default=None, description="Sampling temperature, 0 to 2.")
    max_tokens: fields.Tokens = Field(default=None, description="Longest answer, in tokens.")
    seed: fields.Seed = Field(default=None, description="Seed of the sampler, where the model has one.")
    timeout: fields.Seconds = Field(
        default=None, description="Seconds for one answer, retries and waits within."
    )
    settings: fields.Settings = Field(
        default_factory=dict, description="Arguments of the LLM's class, such as context_window."
    )

    def over(self, below: ModelConfig) -> Self:
        """This entry with the model of `below`, and its settings where this one says nothing."""
        own = ("temperature", "max_tokens", "seed", "timeout")
        inherited = {name: getattr(below, name) for name in own if getattr(self, name) is None}
        settings = {**below.settings, **self.settings}
        return self.model_copy(update={**inherited, "model": below.model, "settings": settings})


class ProposerConfig(ModelConfig):
    """A model in a place of the mixture.

    Attributes:
        name: What results and traces call it.
        role: Who it is, for its system message.
    """

    name: fields.OptionalName = Field(default=None, description="What results and traces call it.")
    role: fields.Role = Field(default=None, description="Who it is: the beginning of its system message.")


class _Kind(Table):
    """A table whose `kind` says which of its other keys mean something."""

    def _only(self, kind: str, owners: dict[str, str]) -> None:
        for key, owner in owners.items():
            if owner != kind and getattr(self, key) is not None:
                raise ConfigurationError(f": {key} is for kind = {owner!r}; found kind = {kind!r}.")


class FinishConfig(_Kind):
    """How the last round becomes an answer. Written as a text, it is the kind alone.

    Attributes:
        kind: "synthesize", "sequential", "rank" or "vote".
        window: For "sequential": drafts in one pass.
        extract: For "vote": what counts as a draft's answer.
        weights: For "vote": what each proposer's vote is worth, by name.
    """

    kind: Annotated[str, fields.one_of("synthesize", "sequential", "rank", "vote")] = Field(
        default="synthesize", description="'synthesize', 'sequential', 'rank' or 'vote'."
    )
    window: fields.Window = Field(default=None, description="For sequential: drafts in one pass, 2 or more.")
    extract: fields.Extract = Field(
        default=None,
        description="For vote: what counts: 'answer', 'number', 'choice', 'text' or 'regex:...'.",
    )
    weights: fields.Weights = Field(
        default=None, description="For vote: what each proposer's vote is worth, by name."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._only(self.kind, {"window": "sequential", "extract": "vote", "weights": "vote"})
        return self


class StopConfig(_Kind):
    """When the remaining rounds are skipped. Written as a text, it is the kind alone.

    Attributes:
        kind: "agreement" (of extracted answers) or "similarity" (of whole texts).
        extract: For "agreement": what counts as an answer.
        share: For "agreement": the part of the proposals that must agree, above 0 to 1.
        embed_model: For "similarity": the embedding model's name.
        threshold: For "similarity": the least cosine similarity.
    """

    kind: Annotated[str, fields.one_of("agreement", "similarity")] = Field(
        description="'agreement' of extracted answers, or 'similarity' of whole texts."
    )
    extract: fields.Extract = Field(
        default=None,
        description="For agreement: what counts as an answer: 'answer', 'number', 'choice', 'text' or "
        "'regex:...'.",
    )
    share: fields.Share = Field(
        default=None, description="For agreement: the part of the proposals that must agree, above 0 to 1."
    )
    embed_model: fields.OptionalName = Field(
        default=None,
        description="For similarity: an embedding model, such as 'openai:text-embedding-3-small'.",
    )
    threshold: fields.Share = Field(
        default=None, description="For similarity: the least cosine of any two, above 0 to 1."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        owners = {"extract": "agreement", "share": "agreement"}
        self._only(self.kind, {**owners, "embed_model": "similarity", "threshold": "similarity"})
        if self.kind == "similarity" and self.embed_model is None:
            raise ConfigurationError(
                ": kind = 'similarity' needs an embed_model, such as 'openai:text-embedding-3-small'."
            )
        return self


class BudgetConfig(Table):
    """What a run may take. Written as a number, it is US dollars.

    Attributes:
        usd: Most US dollars.
        tokens: Most tokens, of prompts and answers.
        seconds: Most seconds.
        degrade: What is given up when a limit comes near, in this order; None for the usual order.
        total: Most US dollars of all runs together.
        total_tokens: Most tokens of all runs together.
        shortest_answer: Tokens an answer must be allowed to have.
        margin: How many times its counted tokens a prompt may have; None for a bound that always holds.
    """

    usd: fields.Limit = Field(default=None, description="Most US dollars for a run.")
    tokens: fields.Count = Field(default=None, description="Most tokens for a run, prompts and answers.")
    seconds: fields.Seconds = Field(default=None, description="Most seconds for a run.")
    degrade: fields.Measures = Field(
        default=None,
        description="What to give up, in this order, when a limit comes near: 'skip_refine', 'drop_dearest', "
        "'short_synthesis'.",
    )
    total: fields.Limit = Field(default=None, description="Most US dollars for all runs of a pack together.")
    total_tokens: fields.Count = Field(default=None, description="Most tokens for all runs of a pack.")
    shortest_answer: fields.Tokens = Field(
        default=None, description="Tokens an answer must be allowed to have to be acceptable."
    )
    margin: fields.Margin = Field(
        default=None, description="Times its counted tokens a prompt may have, 1 to 10; else one per byte."
    )

    @model_validator(mode="after")
    def _limits(self) -> Self:
        limits = (self.usd, self.tokens, self.seconds, self.total, self.total_tokens)
        if all(limit is None for limit in limits):
            raise ConfigurationError(" must set a limit: usd, tokens, seconds, total or total_tokens.")
        return self


def _redaction(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(held, str) for held in value):
        return value
    raise ConfigurationError(
        f" must be true (every text), false, or a list of regular expressions; found {shown(value)}."
    )


class TraceConfig(Table):
    """Where each run is written down. Written as true, it is a file for each run in the usual folder.

    Attributes:
        path: A file that every run is appended to; None for a file for each run. Written as a text, a trace
            is this alone.
        folder: Where those files go; None for the usual folder.
        redact: Texts left out: True for all, a list of regular expressions for what they match.
    """

    path: fields.OptionalName = Field(default=None, description="A file that every run is appended to.")
    folder: fields.OptionalName = Field(
        default=None, description="Where files go, one for each run; without it, logs/moa."
    )
    redact: Annotated[bool | tuple[str, ...], BeforeValidator(_redaction)] = Field(
        default=False, description="true leaves all texts out, a list of regular expressions what they match."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.path is not None and self.folder is not None:
            raise ConfigurationError(
                ": path is a file for all runs, folder for one each; keep one of the two."
            )
        return self


class PriceConfig(Table):
    """What a model's tokens cost, in US dollars per million.

    Attributes:
        input: Of tokens read.
        output: Of tokens written.
        cached_input: Of tokens read that the provider had read before; None for the price of `input`.
    """

    input: fields.Price = Field(description="USD per million tokens read.")
    output: fields.Price = Field(description="USD per million tokens written.")
    cached_input: fields.OptionalPrice = Field(
        default=None, description="USD per million tokens read again; without it, the price of input."
    )


class LimitsConfig(Table):
    """What may be asked of those whom one pattern means, all runs together.

    Attributes:
        in_flight: Calls at a time.
        requests_per_minute: Requests in any 60 seconds, further tries among them.
        tokens_per_minute: Tokens read and written, in any 60 seconds.
        budget_share: The most of the budget that may go here, 0 to 1.
    """

    in_flight: fields.Count = Field(default=None, description="Calls at a time.")
    requests_per_minute: fields.Count = Field(
        default=None, description="Requests in any 60 seconds, further tries among them."
    )
    tokens_per_minute: fields.Count = Field(
        default=None, description="Tokens read and written, in any 60 seconds."
    )
    budget_share: fields.BudgetShare = Field(
        default=None, description="The most of the budget's US dollars that may go here, 0 to 1."
    )

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if all(limit is None for limit in dict(self).values()):
            raise ConfigurationError(f" must set a limit: {', '.join(type(self).model_fields)}.")
        return self
