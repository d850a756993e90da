"""`MixtureConfig`: a mixture as data, checked when it is made. It makes no model and reads no file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError
from typing_extensions import Self

from llama_index.packs.mixture_of_agents.config import fields
from llama_index.packs.mixture_of_agents.config.aliases import refuse_cycles
from llama_index.packs.mixture_of_agents.config.faults import Fault, RefusedError
from llama_index.packs.mixture_of_agents.config.plain_data import Table
from llama_index.packs.mixture_of_agents.config.shaping import shaped
from llama_index.packs.mixture_of_agents.config.tables import (
    BudgetConfig,
    FinishConfig,
    LimitsConfig,
    ModelConfig,
    PriceConfig,
    ProposerConfig,
    StopConfig,
    TraceConfig,
)
from llama_index.packs.mixture_of_agents.config.writing import as_toml, as_yaml, shortest
from llama_index.packs.mixture_of_agents.strategies import strategy_named

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
    from llama_index.packs.mixture_of_agents.config.building import LLMFor

_EXAMPLE_MODELS = ["openai:gpt-4o-mini", "mistralai:mistral-small-latest"]


def _strategy(value: object) -> object:
    strategy_named(value)
    return value


class MixtureConfig(Table):
    """A mixture of agents as data: what a file holds, and what a run records of itself.

    Every option of `MixtureOfAgentsPack` that is plain data is a field of the same name. The names of the
    LangChain sample mean the same: `models_layer` is `proposers` (so is `models`, as a list), `model_roles`
    is `role_writer`, `aggregator_model` is `aggregator`, `layer` is `num_layers`, `layer_strategy` is
    `strategy`.

    Args:
        **values: The fields, by either name. Where a table is wanted, its short form will do: a model's name
            for a proposer, "vote" for {"kind": "vote"}, a number for {"usd": ...}, True for a trace.

    Raises:
        ConfigurationError: Anything that cannot work; it names each key and what is valid there.

    Example:
        models = ["openai:gpt-4o-mini", "mistral-small"]
        config = MixtureConfig(proposers=models, finish="rank", max_tokens=500, budget=0.05)
        print(config.pack().run("Why is the sky blue?"))
    """

    proposers: tuple[tuple[ProposerConfig, ...], ...] = Field(
        default=(),
        description="Who proposes: models by name or as tables; one list for all rounds, or a list for each.",
        examples=[_EXAMPLE_MODELS],
    )
    aggregator: ProposerConfig | None = Field(
        default=None,
        description="Who writes the answer; without it, the first proposer's model.",
        examples=["openai:gpt-4o"],
    )
    num_layers: fields.Layers = Field(
        default=3,
        description="Rounds of proposers and the finish: 3 is two rounds and the answer.",
        examples=[2],
    )
    strategy: Annotated[str, BeforeValidator(_strategy)] = Field(
        default="model",
        description="Who proposes in a round: 'model', 'role', 'temperature', 'self', or a registered name.",
        examples=["role"],
    )
    temperatures: fields.Temperatures = Field(
        default=None,
        description="For the strategy 'temperature': a list, or bounds to space them between.",
        examples=["0.2..1.0"],
    )
    role_writer: ProposerConfig | None = Field(
        default=None,
        description="For the strategy 'role': who writes the roles; without it, the aggregator.",
        examples=["openai:gpt-4o"],
    )
    roles: Annotated[str, fields.one_of("run", "layer", "fixed")] = Field(
        default="run",
        description="Roles are written once for a 'run' or for each 'layer', or are our 'fixed' ones.",
        examples=["layer"],
    )
    nb_models_by_layer: fields.Counts = Field(
        default=None, description="How many propose: one number, or one for each round.", examples=[4]
    )
    pick: Annotated[str, fields.one_of("cycle", "sample")] = Field(
        default="cycle",
        description="How so many are picked from the proposers: 'cycle' or 'sample'.",
        examples=["sample"],
    )
    pick_seed: fields.Whole = Field(default=0, description="Seed of the sampling of proposers.", examples=[7])
    finish: FinishConfig = Field(
        default_factory=FinishConfig,
        description="How the last round becomes an answer: 'synthesize', 'sequential', 'rank' or 'vote', or "
        "a table with its settings.",
        examples=["rank"],
    )
    pass_on: Annotated[str, fields.one_of("proposals", "condensed")] = Field(
        default="proposals",
        description="What the next round reads: all 'proposals', or one 'condensed' text.",
        examples=["condensed"],
    )
    temperature: fields.Temperature = Field(
        default=None, description="Sampling temperature of every call, 0 to 2.", examples=[0.7]
    )
    max_tokens: fields.Tokens = Field(
        default=None, description="Longest answer of every call, in tokens.", examples=[800]
    )
    timeout: fields.Seconds = Field(
        default=200, description="Seconds for a whole run; 'none' for no limit.", examples=[120]
    )
    layer_timeout: fields.Seconds = Field(default=None, description="Seconds for a round.", examples=[45])
    quorum: fields.Count = Field(
        default=None,
        description="Go on when so many proposals are in; without it, wait for all.",
        examples=[2],
    )
    quorum_grace: fields.Grace = Field(
        default=0.0, description="Seconds to wait on after the quorum is met.", examples=[1.5]
    )
    max_concurrency: fields.Count = Field(
        default=None, description="Most calls in flight, over all runs.", examples=[8]
    )
    max_retries: fields.Retries = Field(
        default=2, description="Tries after the first, for transient failures.", examples=[4]
    )
    stop_early: StopConfig | None = Field(
        default=None,
        description="Skip the remaining rounds when the proposals of one agree.",
        examples=[{"kind": "agreement", "extract": "number", "share": 0.75}],
    )
    gate: fields.OptionalName = Field(
        default=None,
        description="Who decides whom a question is worth asking: a folder that 'moa gate train' wrote.",
        examples=["gate"],
    )
    gate_online: fields.Flag = Field(
        default=False, description="Reckon with what 'moa gate feedback' told of that gate.", examples=[True]
    )
    limits: dict[str, LimitsConfig] = Field(
        default_factory=dict,
        description="What providers take, by class (OpenAI), model (OpenAI(gpt-4o)) or proposer's name: "
        "who has no room waits, or with a gate the next best is asked.",
        examples=[{"OpenAI": {"in_flight": 5, "requests_per_minute": 60}}],
    )
    limits_deadline: fields.Grace = Field(
        default=120, description="Seconds a call waits for room in these limits.", examples=[30]
    )
    budget: BudgetConfig | None = Field(
        default=None,
        description="What a run may take: US dollars, tokens, seconds.",
        examples=[{"usd": 0.05}],
    )
    trace: TraceConfig | None = Field(
        default=None,
        description="Write each run down, as JSON lines: true, a file, or a table.",
        examples=[{"folder": "logs/moa", "redact": False}],
    )
    models: dict[str, ModelConfig] = Field(
        default_factory=dict,
        description="Names of your own for models, with settings of each; one may refer to another.",
        examples=[{"fast": {"model": "openai:gpt-4o-mini", "settings": {"max_retries": 0}}}],
    )
    prices: dict[str, PriceConfig] = Field(
        default_factory=dict,
        description="Prices of your own, in USD per million tokens, by model.",
        examples=[{"openai-like:*": {"input": 0.1, "output": 0.4}}],
    )
    _written: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        data, written = shaped(values, type(self).model_fields)
        try:
            super().__init__(**data)
        except ValidationError as error:
            flat = len(data.get("proposers") or ()) == 1
            faults = [_fault({**details}, written, flat) for details in error.errors(include_url=False)]
        else:
            refuse_cycles(self.models)
            self._written = written
            return
        # Not from within the handler: pydantic's error carries what it was given.
        raise RefusedError(faults)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MixtureConfig):
            return NotImplemented
        # Under which name a value was written makes no difference.
        return dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # it holds tables

    @property
    def models_layer(self) -> tuple[tuple[ProposerConfig, ...], ...]:
        """The sample's name of `proposers`."""
        return self.proposers

    @property
    def model_roles(self) -> ProposerConfig | None:
        """The sample's name of `role_writer`."""
        return self.role_writer

    @property
    def aggregator_model(self) -> ProposerConfig | None:
        """The sample's name of `aggregator`."""
        return self.aggregator

    @property
    def layer(self) -> int:
        """The sample's name of `num_layers`."""
        return self.num_layers

    @property
    def layer_strategy(self) -> str:
        """The sample's name of `strategy`."""
        return self.strategy

    @property
    def was_set(self) -> frozenset[str]:
        """The fields that were written, by our names; the others have their defaults."""
        return frozenset(self._written)

    def updated(self, **values: Any) -> Self:
        """The same mixture with other values, checked anew.

        Args:
            **values: As for the constructor; None where a field's default is wanted back.
        """
        changes, _ = shaped(values, type(self).model_fields)
        return type(self)(**{**self.model_dump(exclude_unset=True), **changes})

    def described(self, *, full: bool = False) -> dict[str, Any]:
        """The mixture as plain JSON values, in the shortest form that means the same.

        Args:
            full: Every field with its value; else only what is not the default.
        """
        return shortest(self, full=full)

    def dump_toml(self) -> str:
        """As the content of a TOML file; read again, it is equal."""
        return as_toml(self.described())

    def dump_yaml(self) -> str:
        """As the content of a YAML file; read again, it is equal."""
        return as_yaml(self.described())

    def options(
        self, llm_for: LLMFor | None = None, embed_for: Callable[[str], Any] | None = None
    ) -> dict[str, Any]:
        """The keyword arguments of `MixtureOfAgentsPack`, but `llm` and `reference_llms`.

        Args:
            llm_for: As for `pack`.
            embed_for: As for `pack`.
        """
        from llama_index.packs.mixture_of_agents.config.building import options_of

        return options_of(self, llm_for, embed_for)

    def pack(
        self,
        llm_for: LLMFor | None = None,
        *,
        embed_for: Callable[[str], Any] | None = None,
        policies: Sequence[Any] = (),
    ) -> MixtureOfAgentsPack:
        """The mixture, ready to be asked. No call is made.

        Args:
            llm_for: `(name, settings=...) -> LLM`; by default `providers.llm_named`.
            embed_for: `name -> embedding model`, for `stop_early` by similarity; by default by provider.
            policies: The pack's; they are no data.

        Raises:
            ConfigurationError: No model is named, one cannot be made, or the pack refuses something.
        """
        from llama_index.packs.mixture_of_agents.config.building import pack_of

        return pack_of(self, llm_for, embed_for, policies)


def _fault(details: Mapping[str, Any], written: Mapping[str, str], flat: bool) -> Fault:
    """A fault in the words and at the place that its writer knows."""
    cause = details.get("ctx", {}).get("error")
    said = str(cause) if cause is not None else f": {details['msg']}"
    first, *rest = details["loc"]
    if flat and first == "proposers":
        rest = rest[1:]
    return Fault((written.get(str(first), first), *rest), said)
