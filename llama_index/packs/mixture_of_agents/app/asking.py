"""Asking a mixture from the command line: from words to a pack, from a response to what is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from llama_index.core.llms.mock import MockLLM

from llama_index.packs.mixture_of_agents.app.board import degraded_note, printable
from llama_index.packs.mixture_of_agents.app.choosing import view_for
from llama_index.packs.mixture_of_agents.app.default_mixture import (
    Wishes,
    default_aggregator,
    default_proposers,
    named_proposers,
)
from llama_index.packs.mixture_of_agents.app.preparing import default_directory
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.app.view import View
from llama_index.packs.mixture_of_agents.app.watching import Listener, watch
from llama_index.packs.mixture_of_agents.base import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.proposers import Proposer
from llama_index.packs.mixture_of_agents.providers import llm_named
from llama_index.packs.mixture_of_agents.results import MixtureResponse
from llama_index.packs.mixture_of_agents.runs import conversation

_REPETITION_PENALTY = 1.08
_REMOTE_TIMEOUT = 200.0
_DEMO_QUESTION = "How can an adult learn a new language? Answer in a short paragraph."
_DEMO_SEED = 1
"""A small model's luck varies; a newcomer should see the same run as everyone."""


@dataclass(frozen=True)
class Order:
    """What the caller wants.

    Attributes:
        models: Proposers as "provider:model"; empty for the embedded default.
        aggregator: Likewise; None for the first of the models, or the default's own.
        options: The pack's options, by name.
        seed: Of the first proposer; None for none.
        checkpoint: A file to save to and to resume from.
        as_json: Print the whole response.
        progress: Show what goes on; None leaves it to the terminals.
        lines_to_output: Where there is no terminal, show it on standard output.
    """

    models: tuple[str, ...] = ()
    aggregator: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    checkpoint: str | None = None
    as_json: bool = False
    progress: bool | None = None
    lines_to_output: bool = False

    @property
    def wishes(self) -> Wishes:
        """How to sample, as far as the caller says."""
        return Wishes(self.options.get("temperature"), self.options.get("max_tokens"), self.seed)


def question_from(argument: str | None, stdin: TextIO | None) -> str:
    """The question: the argument, or what is piped in.

    Raises:
        ConfigurationError: There is none, or standard input is not text.
    """
    if argument is not None and argument != "-":
        return argument
    if stdin is None or (argument is None and stdin.isatty()):
        raise ConfigurationError('No question. Write it behind the command: moa ask "...", or pipe it in.')
    try:
        return stdin.read()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"Standard input is not text ({error}); pipe text in.") from error


def ask(question: str, order: Order) -> None:
    """Ask, show, and print the answer.

    Raises:
        ConfigurationError: Something cannot work; no model was called.
        MixtureError: No model answered.
    """
    conversation(question, None)
    listener = Listener()
    view = view_for(as_json=order.as_json, progress=order.progress, lines_to_output=order.lines_to_output)
    try:
        pack = pack_for(order, view, listener)
        response, took = watch(pack, question, view, listener, order.checkpoint)
        if not view.shows_answer:
            _print(response, order)
        view.finish(response.text, took)
    finally:
        view.close()
    if response.degraded:
        note(degraded_note(response.missing))


def demonstrate() -> None:
    """Ask the embedded default a question on which views differ, and show the whole way to the answer.

    Raises:
        ConfigurationError: The default model cannot be prepared.
        MixtureError: No model answered.
    """
    sys.stdout.write(f"Question: {_DEMO_QUESTION}\n")
    sys.stdout.flush()
    ask(_DEMO_QUESTION, Order(seed=_DEMO_SEED, progress=True, lines_to_output=True))


def pack_for(order: Order, view: View, listener: Listener) -> MixtureOfAgentsPack:
    """The pack the caller ordered; whatever cannot work is refused before a model is fetched or called.

    Raises:
        ConfigurationError: Something cannot work.
    """
    aggregator = None if order.aggregator is None else llm_named(order.aggregator)
    if order.models:
        named = {name: llm_named(name) for name in order.models}
        proposers = named_proposers([named[name] for name in order.models], order.wishes)
        writer = Proposer(aggregator or named[order.models[0]], seed=order.seed)
        return _pack(order, proposers, writer, listener, timeout=_REMOTE_TIMEOUT)
    _default_pack(order, MockLLM(), aggregator, listener)  # stands in, so that options are checked first
    local = llm_named(f"sparse-moe:{default_directory(view)}")
    if "repetition_penalty" in type(local).model_fields:
        # Without it so small a model says the same line until its tokens are used up.
        local = local.model_copy(update={"repetition_penalty": _REPETITION_PENALTY})
    return _default_pack(order, local, aggregator, listener)


def _default_pack(order: Order, local: Any, aggregator: Any, listener: Listener) -> MixtureOfAgentsPack:
    writer = (
        default_aggregator(local, order.wishes)
        if aggregator is None
        else Proposer(aggregator, seed=order.seed)
    )
    return _pack(order, default_proposers(local, order.wishes), writer, listener, timeout=None)


def _pack(
    order: Order, proposers: list[Proposer], writer: Proposer, listener: Listener, timeout: float | None
) -> MixtureOfAgentsPack:
    """Build it. On one's own machine a run may take its time; elsewhere something hangs."""
    options = dict(order.options)
    if options.get("timeout") is None:
        options["timeout"] = timeout
    return MixtureOfAgentsPack(writer, proposers, policies=[listener], **options)


def _print(response: MixtureResponse, order: Order) -> None:
    if order.as_json:
        text = json.dumps(response.to_dict(), indent=2, ensure_ascii=not _takes_unicode(sys.stdout))
    else:
        text = printable(response.text) if sys.stdout.isatty() else response.text
    # Among lines of progress, the answer stands apart; in a pipe it stands alone.
    apart = "\n" if order.lines_to_output else ""
    sys.stdout.write(f"{apart}{text}\n{apart}")
    sys.stdout.flush()


def _takes_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().startswith("utf")
