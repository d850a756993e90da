"""The pack: a mixture of agents behind `run`, `arun` and `astream`.

A door only: it turns arguments into a workflow and a run into a response.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.agreement import EarlyStop
from llama_index.packs.mixture_of_agents.calls.threads import run_blocking
from llama_index.packs.mixture_of_agents.checks import has_methods, shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.finishes import Finish
from llama_index.packs.mixture_of_agents.gate.protocol import Gate
from llama_index.packs.mixture_of_agents.llm import MixtureOfAgentsLLM, StreamItem, answer_of, stream_of
from llama_index.packs.mixture_of_agents.policies import RunPolicy
from llama_index.packs.mixture_of_agents.proposers import CallPolicy
from llama_index.packs.mixture_of_agents.records.prices import Prices
from llama_index.packs.mixture_of_agents.results import MixtureResponse
from llama_index.packs.mixture_of_agents.runs.checkpoint import checkpoint_path
from llama_index.packs.mixture_of_agents.spreading import Temperatures
from llama_index.packs.mixture_of_agents.strategies import Strategy
from llama_index.packs.mixture_of_agents.workflow import MixtureOfAgentsWorkflow

if TYPE_CHECKING:

    class BaseLlamaPack:
        """What the checker sees, whichever llama-index-core is installed."""

else:
    try:
        from llama_index.core.llama_pack.base import BaseLlamaPack
    except ModuleNotFoundError:  # llama-index-core 0.14.21 dropped the class; the pack stands alone there

        class BaseLlamaPack:
            """Stands in where llama-index-core has no such class."""


Question = str | Sequence[ChatMessage]


class MixtureOfAgentsPack(BaseLlamaPack):
    """A mixture of agents (arXiv 2406.04692): several models propose, in rounds; one synthesises.

    Args:
        llm: The aggregator: an LLM, or a Proposer for a role or settings of its own.
        reference_llms: The proposers: LLMs, agents or Proposers; one list for all rounds, or one each.
        num_layers: Layers as the paper counts them: 3 is two rounds of proposers and the synthesis, 1
            the aggregator alone.
        max_tokens: Longest answer of each call, in tokens; None leaves each LLM's own.
        temperature: Of each call; None leaves each LLM's own.
        timeout: Seconds for a whole run; None for no limit.
        strategy: Who proposes in a layer: "model" (each as given), "role" (under different roles),
            "temperature" (at different temperatures), "self" (the first one, several times), a name given to
            `strategies.register_strategy`, or a function `(layer, proposers, wanted) -> list of Proposer`.
        temperatures: For the strategy "temperature": a list, or "0.2..1.0" to space them between two bounds.
        role_writer: Who writes roles for the question, for the strategy "role"; None for the aggregator.
        roles: Roles are written once for a "run", for each "layer", or are "fixed" ones, at no call.
        nb_models_by_layer: How many propose, one number or one for each round; None for all given.
        pick: Who sits where that is another number: the given models in turn ("cycle"), or drawn ("sample").
        pick_seed: What "sample" draws.
        finish: How the last round becomes an answer: "synthesize" (a model writes it), "sequential" (the
            same over a sliding window), "rank" (a model picks one), "vote" (the majority of extracted
            answers), or an object of `finishes`, such as `Vote(extract="number")`.
        pass_on: What the next round reads: all "proposals", or one text "condensed" by the aggregator.
        stop_early: Skip the remaining rounds when proposals agree: `agreement.Agreement(...)` or
            `agreement.Similarity(...)`; None for never.
        gate: Who decides which proposers a question is worth (`gate.load_gate`); None for all of them.
        budget: Most that a run may cost: US dollars, or `records.budget.Budget(...)`; None for no limit.
        trace: Where each run is recorded: a path, `records.trace.Trace(...)`, or True for a file a run in
            logs/moa; None for nowhere.
        prices: Your own prices, over those that come with the package, as `records.prices.Prices` takes them.
        quorum: Go on when so many proposals are in; None waits for all.
        quorum_grace: Seconds to wait on after the quorum is met.
        layer_timeout: Seconds for a round, all retries and waits within.
        max_concurrency: Calls in flight across runs, event loops and threads; None for no limit.
        max_retries: Tries after the first for transient failures: 429, 5xx, timeouts, connections.
        policies: Objects asked before and told after each call (`proposers.CallPolicy`), or that make
            something new for each run (`policies.RunPolicy`).
        config: What this mixture was built from, as JSON; it is recorded with each run.

    Raises:
        ConfigurationError: Anything that cannot work, before any call.

    Example:
        pack = MixtureOfAgentsPack(llm=OpenAI("gpt-4o"), reference_llms=[OpenAI("gpt-4o-mini"), MistralAI()])
        print(pack.run("Why is the sky blue?"))
    """

    def __init__(
        self,
        llm: Any,
        reference_llms: Sequence[Any] | None = None,
        num_layers: int = 3,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = 200,
        *,
        strategy: str | Strategy = "model",
        temperatures: Temperatures | None = None,
        role_writer: Any = None,
        roles: str = "run",
        nb_models_by_layer: int | Sequence[int] | None = None,
        pick: str = "cycle",
        pick_seed: int = 0,
        finish: str | Finish = "synthesize",
        pass_on: str = "proposals",
        stop_early: EarlyStop | None = None,
        gate: Gate | None = None,
        budget: float | RunPolicy | None = None,
        trace: bool | str | Path | RunPolicy | None = None,
        prices: Mapping[str, Any] | None = None,
        quorum: int | None = None,
        quorum_grace: float = 0.0,
        layer_timeout: float | None = None,
        max_concurrency: int | None = None,
        max_retries: int = 2,
        policies: Sequence[CallPolicy | RunPolicy] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        meter = Prices(prices)
        self.workflow = MixtureOfAgentsWorkflow(
            reference_llms,
            llm,
            num_layers=num_layers,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            strategy=strategy,
            temperatures=temperatures,
            role_writer=role_writer,
            roles=roles,
            nb_models_by_layer=nb_models_by_layer,
            pick=pick,
            pick_seed=pick_seed,
            finish=finish,
            pass_on=pass_on,
            stop_early=stop_early,
            gate=gate,
            budget=_budget(budget, meter),
            trace=_trace(trace),
            meter=meter,
            quorum=quorum,
            quorum_grace=quorum_grace,
            layer_timeout=layer_timeout,
            max_concurrency=max_concurrency,
            max_retries=max_retries,
            policies=policies,
            config=config,
        )

    def run(self, query_str: Question, checkpoint: str | Path | None = None) -> MixtureResponse:
        """Ask, and wait for the answer: in a script, inside a running loop, or in a notebook.

        Args:
            query_str: The question, or a conversation as a list of ChatMessage.
            checkpoint: As for `arun`.

        Raises:
            ConfigurationError: The question is empty.
            MixtureTimeoutError: `timeout` passed; `.partial` holds what was there.
            MixtureError: No model answered; it names every cause.
        """
        return run_blocking(self.arun(query_str, checkpoint))

    async def arun(self, query_str: Question, checkpoint: str | Path | None = None) -> MixtureResponse:
        """Ask, and await the answer; cancelling the awaiting task cancels every call in flight.

        Args:
            query_str: As for `run`.
            checkpoint: A file to save to after every answer. If it holds the beginning of this very
                run, the run resumes from there and asks again nobody who answered.

        Raises:
            CheckpointError: The file is unreadable, or belongs to another question or mixture.
            MixtureError: As for `run`.
        """
        return await answer_of(self.workflow.run(**_asked(query_str, checkpoint), streams=False))

    async def astream(
        self, query_str: Question, checkpoint: str | Path | None = None
    ) -> AsyncGenerator[StreamItem, None]:
        """Ask, and watch: ProgressEvents and DeltaEvents as they happen, at last the MixtureResponse.

        Leaving the loop cancels the run.

        Args:
            query_str: As for `run`.
            checkpoint: As for `arun`.
        """
        items = stream_of(self.workflow.run(**_asked(query_str, checkpoint)))
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    def as_llm(self) -> MixtureOfAgentsLLM:
        """The mixture as a LlamaIndex LLM."""
        return MixtureOfAgentsLLM(self.workflow)

    def get_modules(self) -> dict[str, Any]:
        """The parts of the mixture, by name."""
        mixture = self.workflow.mixture
        return {
            "llm": mixture.aggregator.proposer.model,
            "reference_llms": [[seat.proposer.model for seat in layer] for layer in mixture.layers],
            "proposers": [[seat.proposer for seat in layer] for layer in mixture.layers],
            "num_layers": mixture.num_layers,
            "workflow": self.workflow,
        }


def _budget(given: object, meter: Prices) -> Any:
    """A budget of a number of US dollars, or the caller's own."""
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        # Not at the top, as below: most mixtures have neither.
        from llama_index.packs.mixture_of_agents.records.budget import Budget

        return Budget(usd=given, prices=meter)
    return given


def _trace(given: object) -> Any:
    """A trace of True or of a path, or the caller's own."""
    if given is None or has_methods(given, "for_run"):
        return given
    from llama_index.packs.mixture_of_agents.records.trace import trace_from

    return trace_from(given)


def _asked(question: object, checkpoint: object) -> dict[str, Any]:
    path = checkpoint_path(checkpoint)
    if isinstance(question, str):
        return {"query_str": question, "checkpoint": path}
    if isinstance(question, Sequence) and all(isinstance(message, ChatMessage) for message in question):
        return {"messages": list(question), "checkpoint": path}
    raise ConfigurationError(f"A question is a text or a list of ChatMessage; found {shown(question)}.")
