"""A recorded run once more: with no calls, or with those that a change makes necessary.

Puts together what the record, its answers and the pack each know. The models of a change are made by name; it
knows no command line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.packs.mixture_of_agents import providers
from llama_index.packs.mixture_of_agents.app.board import dollars
from llama_index.packs.mixture_of_agents.app.recorded_gate import recorded_gate
from llama_index.packs.mixture_of_agents.app.recorded_ways import recorded_finish, recorded_stop
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, TraceError
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.policies import IdleWatch, RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.replay import ReplayPolicy, answers_of
from llama_index.packs.mixture_of_agents.records.replaying.recording import Changes, Company, Recording
from llama_index.packs.mixture_of_agents.records.replaying.stand_ins import ModelFor
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage

_LONGEST_NAME = 300


class Going(IdleWatch):
    """Counts the calls that go out, and what they take: a `RunPolicy` that makes a `RunWatch`.

    Attributes:
        usages: Of each call that went out.
    """

    def __init__(self) -> None:
        self.usages: list[Usage] = []

    def for_run(self, start: RunStart) -> Going:
        """Watch a run."""
        return self

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """Count a call that went out."""
        if not source:
            self.usages.append(usage)


@dataclass(frozen=True)
class Replay:
    """A run that can be asked again.

    Attributes:
        pack: The mixture, with the record to answer its calls.
        company: Who takes part, and what is asked.
        policy: What answers from the record.
        going: What goes out.
        strict: Whether nothing may go out.
    """

    pack: MixtureOfAgentsPack
    company: Company
    policy: ReplayPolicy
    going: Going = field(default_factory=Going)
    strict: bool = False

    def run(self) -> MixtureResponse:
        """Ask.

        Raises:
            TraceError: It is strict, and a call is not in the record.
            MixtureError: As the recorded run raised it, or as the pack does.
        """
        try:
            return self.pack.run(self.company.question)
        finally:
            self.check()

    def check(self) -> None:
        """Refuse a strict replay that lacked a call.

        Raises:
            TraceError: It is strict, and a call is not in the record.
        """
        if self.strict and self.policy.unknown:
            lacking = "; ".join(self.policy.unknown[:5])
            raise TraceError(
                f"{len(self.policy.unknown)} calls are not in the record: {lacking}. Without strict, they go "
                "out."
            )

    @property
    def spent(self) -> Usage:
        """What the calls that went out took."""
        nothing = Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)
        return Usage.total(self.going.usages) if self.going.usages else nothing

    @property
    def tally(self) -> str:
        """How many calls were answered from the record, and how many went out."""
        price = f" ({dollars(self.spent.cost_usd)})" if self.going.usages else ""
        return f"{self.policy.answered} from the record, {len(self.going.usages)} went out{price}"


def replay_of(
    run: RunRecord,
    *,
    swap: Mapping[str, Any] | None = None,
    drop: Collection[str] = (),
    prompt: str | Sequence[Any] | None = None,
    strict: bool = False,
    model_for: ModelFor | None = None,
    policies: Sequence[Any] = (),
    **options: Any,
) -> Replay:
    """Make a recorded run ready to be asked again.

    Only what a change touches is asked anew: the call itself, and what reads of its answer. A run without
    changes asks nobody.

    Args:
        run: The run.
        swap: Models in the place of recorded ones, by the proposer's name, "aggregator" or "role_writer".
        drop: Names of proposers to leave out.
        prompt: Another question; None for the recorded one.
        strict: Nothing may go out.
        model_for: Makes the models of calls that have to go out; by default from their providers.
        policies: Of the pack, behind the record.
        **options: Of the pack, over the recorded ones: `trace`, or `finish` or `gate`
            for one of the caller's own.

    Raises:
        TraceError: The run's contents were redacted or are not all there, or a change names nobody.
        ConfigurationError: Something cannot work.
    """
    revive = model_for or (lambda identity: model_like(identity, run.mixture.config))
    recording = Recording(run, None if strict else revive)
    company = recording.company(Changes(swap or {}, drop, prompt))
    policy, going = ReplayPolicy(answers_of(run), strict=strict), Going()
    if "finish" not in options:
        options["finish"] = recorded_finish(recording)
    if "stop_early" not in options:
        options["stop_early"] = recorded_stop(recording)
    if "gate" not in options and (gate := recorded_gate(recording, company)) is not None:
        options["gate"], policies = gate, [gate, *policies]
    facts = run.mixture
    recorded = {
        "num_layers": facts.num_layers,
        "timeout": facts.timeout,
        "layer_timeout": facts.layer_timeout,
        "max_retries": facts.max_retries,
        "max_concurrency": facts.options.get("max_concurrency"),
        "pass_on": facts.pass_on,
        "roles": facts.roles_per,
        "role_writer": company.role_writer,
        "config": facts.config,
    }
    pack = MixtureOfAgentsPack(
        company.aggregator,
        company.layers or None,
        policies=[policy, *policies, going],
        **{**recorded, **options},
    )
    return Replay(pack, company, policy, going, strict)


def model_like(identity: ModelIdentity, config: Any = None) -> Any:
    """A live model like a recorded one, by the class that called it.

    Args:
        identity: The recorded one.
        config: What its mixture was built from; a name in it may hold a server's address, too.

    Raises:
        ConfigurationError: No provider here has that class, or the model cannot be made.
    """
    table = providers.PROVIDERS
    names = [name for name, provider in table.items() if provider.class_name == identity.class_name]
    if not names or identity.is_agent:
        raise ConfigurationError(
            f"{identity} was recorded, and nothing here can make it again. Name a model in its place: "
            "--swap NAME=provider:model."
        )
    written = (name for name in _texts(config) if _names(name, names, identity.model))
    return providers.llm_named(next(written, f"{names[0]}:{identity.model}"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for held in value.values():
            yield from _texts(held)
    elif isinstance(value, (list, tuple)):
        for held in value:
            yield from _texts(held)


def _names(text: str, of_providers: Collection[str], model: str) -> bool:
    """Whether a text of a configuration is the name of that model."""
    if model not in text or len(text) > _LONGEST_NAME:
        return False
    try:
        named = providers.parse_model(text)
    except ConfigurationError:  # a prompt, a path
        return False
    return named.provider in of_providers and named.model == model
