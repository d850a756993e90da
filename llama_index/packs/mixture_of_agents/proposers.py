"""A proposer: a model or agent with a name, a role and settings; and what a call to one is.

`CallPolicy` is how budgets, caches, replay, traces and checkpoints take part: asked before each call,
told after it. It knows neither rounds nor prompts, and places no calls.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM
from typing_extensions import Self

from llama_index.packs.mixture_of_agents.calls.endpoint import AgentEndpoint, Endpoint, LLMEndpoint
from llama_index.packs.mixture_of_agents.calls.sampling import Sampling
from llama_index.packs.mixture_of_agents.checks import (
    has_methods,
    number,
    seconds,
    shortened,
    shown,
    text,
    whole_number,
)
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.fingerprints import settings_hash
from llama_index.packs.mixture_of_agents.results import Missing, Proposal, Task


class Proposer:
    """A model or an agent that proposes an answer.

    Args:
        llm_or_agent: A LlamaIndex LLM, or a workflow agent (an object with `run(user_msg=...)`).
        name: How results and traces call it; the LLM's model name by default.
        role: Who it is, for its system message ("You are a careful historian.").
        temperature: Sampling temperature, >= 0; None leaves the strategy's, the pack's, the LLM's own.
        max_tokens: Longest answer, in tokens, > 0; None as above.
        seed: The sampler's seed; None as above.
        timeout: Seconds for one answer, its retries and waits within; None for no limit of its own.

    Attributes:
        takes_role: A role written for the question may take the place of `role`; strategies set it.

    Raises:
        ConfigurationError: Something is neither LLM nor agent, or a setting cannot work.
    """

    def __init__(
        self,
        llm_or_agent: Any,
        *,
        name: str | None = None,
        role: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        timeout: float | None = None,
    ) -> None:
        self.model = llm_or_agent
        self.is_llm = isinstance(llm_or_agent, LLM)
        self.sampling = Sampling(temperature, max_tokens, seed)
        self.role = role
        self.takes_role = False
        self.timeout = timeout
        self._check_model()
        # Asked of an LLM that has a name, too: the context window is read from the same place later.
        own_name = self._own_name()
        self.name = own_name if name is None else name
        self._check_settings()

    def _check_model(self) -> None:
        if self.is_llm:
            return
        if not has_methods(self.model, "run"):
            raise ConfigurationError(
                f"A proposer needs a LlamaIndex LLM or an agent with run(); found {shown(self.model)}. "
                "Pass an LLM object, for example OpenAI(model='gpt-4o-mini')."
            )
        if not _takes(self.model.run, "user_msg"):
            raise ConfigurationError(
                f"An agent that proposes is asked by run(user_msg=...), which {shown(self.model)} does not "
                f"take. {_instead_of(self.model)}"
            )

    def _check_settings(self) -> None:
        if not self.is_llm and self.sampling.given():
            raise ConfigurationError(
                f"An agent takes no {', '.join(self.sampling.given())}; set it on the agent's own LLM."
            )
        check_sampling(self.sampling)
        text("name", self.name)
        text("role", self.role, or_empty=True)
        seconds("timeout", self.timeout, none="for no limit")

    def _own_name(self) -> str:
        if isinstance(self.model, LLM):
            return _model_name(self.model) or self.model.class_name()
        return str(getattr(self.model, "name", None) or type(self.model).__name__)

    @property
    def identity(self) -> ModelIdentity:
        """Which model this is; the same in every process."""
        class_name = type(self.model).__name__
        if not isinstance(self.model, LLM):
            name = str(getattr(self.model, "name", None))
            return ModelIdentity(class_name=class_name, model=name, is_agent=True)
        name = _model_name(self.model)
        return ModelIdentity(
            class_name=class_name, model=name, settings=settings_hash(self.model, known=name)
        )

    def endpoint(self, defaults: Sampling) -> Endpoint:
        """The way to call it, with `defaults` where its own settings say nothing."""
        if isinstance(self.model, LLM):
            return LLMEndpoint(self.model, self.sampling.over(defaults))
        return AgentEndpoint(self.model)

    def replaced(self, **changes: Any) -> Self:
        """The same proposer with others of: name, role, takes_role, temperature, max_tokens, seed, timeout.

        A copy, not a new one: a subclass has attributes and arguments of its own.
        """
        settings = {name: changes.pop(name) for name in vars(self.sampling) if name in changes}
        unknown = changes.keys() - {"name", "role", "takes_role", "timeout"}
        if unknown:
            raise TypeError(f"replaced() takes no {', '.join(sorted(unknown))}")
        other = copy.copy(self)
        vars(other).update(changes, sampling=replace(self.sampling, **settings))
        other._check_settings()
        return other

    def __repr__(self) -> str:
        return f"Proposer({self.name!r})"


def _takes(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # it does not show them
        return True
    return any(one.name == name or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def _instead_of(given: Any) -> str:
    """What to pass in the place of something that looks like an agent and is none."""
    if has_methods(given, "as_llm"):
        return "Pass its as_llm()."
    if hasattr(given, "workflow"):
        return "Pass its workflow."
    return "Pass a FunctionAgent, a ReActAgent, an AgentWorkflow, or an object with such a run."


def _model_name(llm: LLM) -> str:
    """The name in an LLM's metadata, which some classes work out from a table of the models they know."""
    try:
        return llm.metadata.model_name
    except Exception as error:
        raise ConfigurationError(
            f"This {type(llm).__name__} cannot say what model it is: {shortened(str(error))} Pass one whose "
            "metadata can be read, such as OpenAILike(model=..., context_window=...) for a model that its "
            "class does not know."
        ) from error


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings no model takes."""
    number("temperature", sampling.temperature, 0, 2, none="for the model's own")
    whole_number("max_tokens", sampling.max_tokens, 1, none="for the model's own")
    whole_number("seed", sampling.seed, none="for none")


def as_proposers(models: Sequence[Any]) -> list[Proposer]:
    """Proposers from LLMs, agents and proposers; equal names get a number from the second on."""
    proposers = [model if isinstance(model, Proposer) else Proposer(model) for model in models]
    taken, seen = {proposer.name for proposer in proposers}, Counter[str]()
    named = []
    for proposer in proposers:
        seen[proposer.name] += 1
        if seen[proposer.name] > 1:
            name = _free_name(proposer.name, seen[proposer.name], taken)
            taken.add(name)
            proposer = proposer.replaced(name=name)
        named.append(proposer)
    return named


def _free_name(name: str, number: int, taken: set[str]) -> str:
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


@dataclass(frozen=True)
class Call:
    """One call about to be placed.

    Attributes:
        run_id: The run it belongs to.
        layer: 1 for the first round; `num_layers` for the finish.
        index: The proposer's place in its layer, from 0; in the finish, the try's number. A role writer
            has -1, who condenses a round the number after its last proposer's.
        proposer: Whom it goes to.
        messages: What it says.
        sampling: The settings that travel with it.
        may_call_tools: Whether tool calls count as an answer.
        stoppable: False when the call, once cut, goes on in its thread.
        task: What it is for.
        turn: Which pass of an answer that takes several calls (a sliding window), from 0.
        identity: Which model answers.
        tools: Names of the tools it is offered.
    """

    run_id: str
    layer: int
    index: int
    proposer: str
    messages: Sequence[ChatMessage]
    sampling: Sampling
    may_call_tools: bool = False
    stoppable: bool = True
    task: Task = "propose"
    turn: int = 0
    identity: ModelIdentity = field(default_factory=ModelIdentity)
    tools: Sequence[str] = ()

    @property
    def place(self) -> tuple[int, int, int]:
        """Layer, index and turn: no two calls of a run have the same."""
        return self.layer, self.index, self.turn

    def missing(self, reason: str, status: int | None = None) -> Missing:
        """The record of this call without an answer."""
        return Missing(proposer=self.proposer, layer=self.layer, reason=reason, status=status)

    def cut(self, reason: str) -> Missing:
        """The record of this call cut off while it was out."""
        left = "" if self.stoppable else "; it has no async methods, so its thread is abandoned"
        return self.missing(reason + left)


class CallPolicy(Protocol):
    """Asked before each call and told after it: budgets, replay, caches, traces, checkpoints."""

    async def before(self, call: Call) -> Proposal | Missing | Sampling | None:
        """None lets the call go out, and a Sampling lets it go out with these settings instead.

        A Proposal answers it from a store; a Missing refuses it.
        """

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """What became of a call that went out."""
