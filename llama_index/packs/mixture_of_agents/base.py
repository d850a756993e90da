"""The pack: a mixture of agents behind `run`, `arun` and `astream`.

A door only: it turns arguments into a workflow and a run into a response.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.checkpoint import checkpoint_path
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.llm import MixtureOfAgentsLLM, StreamItem, answer_of, stream_of
from llama_index.packs.mixture_of_agents.proposers import CallPolicy
from llama_index.packs.mixture_of_agents.results import MixtureResponse
from llama_index.packs.mixture_of_agents.strategies import Strategy
from llama_index.packs.mixture_of_agents.threads import run_blocking
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
            "temperature" (at different temperatures), "self" (the first one, several times), or a
            function `(layer, proposers, wanted) -> list of Proposer`.
        nb_models_by_layer: How many propose, one number or one for each round; None for all given.
        finish: "synthesize".
        gate: Reserved.
        budget: Reserved.
        trace: Reserved.
        quorum: Go on when so many proposals are in; None waits for all.
        quorum_grace: Seconds to wait on after the quorum is met.
        layer_timeout: Seconds for a round, all retries and waits within.
        max_concurrency: Calls in flight across runs, event loops and threads; None for no limit.
        max_retries: Tries after the first for transient failures: 429, 5xx, timeouts, connections.
        policies: Objects asked before and told after each call (`proposers.CallPolicy`).

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
        nb_models_by_layer: int | Sequence[int] | None = None,
        finish: str = "synthesize",
        gate: None = None,
        budget: None = None,
        trace: None = None,
        quorum: int | None = None,
        quorum_grace: float = 0.0,
        layer_timeout: float | None = None,
        max_concurrency: int | None = None,
        max_retries: int = 2,
        policies: Sequence[CallPolicy] = (),
    ) -> None:
        self.workflow = MixtureOfAgentsWorkflow(
            reference_llms,
            llm,
            num_layers=num_layers,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            strategy=strategy,
            nb_models_by_layer=nb_models_by_layer,
            finish=finish,
            gate=gate,
            budget=budget,
            trace=trace,
            quorum=quorum,
            quorum_grace=quorum_grace,
            layer_timeout=layer_timeout,
            max_concurrency=max_concurrency,
            max_retries=max_retries,
            policies=policies,
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


def _asked(question: object, checkpoint: object) -> dict[str, Any]:
    path = checkpoint_path(checkpoint)
    if isinstance(question, str):
        return {"query_str": question, "checkpoint": path}
    if isinstance(question, Sequence) and all(isinstance(message, ChatMessage) for message in question):
        return {"messages": list(question), "checkpoint": path}
    raise ConfigurationError(f"A question is a text or a list of ChatMessage; found {shown(question)}.")
