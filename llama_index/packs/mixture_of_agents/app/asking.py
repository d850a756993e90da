"""Asking a mixture once from the command line, and printing what it answers."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from llama_index.packs.mixture_of_agents.app.board import degraded_note, printable
from llama_index.packs.mixture_of_agents.app.choosing import view_for
from llama_index.packs.mixture_of_agents.app.ordering import Order, pack_for
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.app.watching import Listener, watch
from llama_index.packs.mixture_of_agents.results import MixtureResponse
from llama_index.packs.mixture_of_agents.runs.live_run import conversation

_DEMO_QUESTION = "How can an adult learn a new language? Answer in a short paragraph."
_DEMO_SEED = 1
"""A small model's luck varies; a newcomer should see the same run as everyone."""


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
        pack = pack_for(order, view, [listener])
        response, took = watch(pack, question, view, listener, order.checkpoint)
        if not view.shows_answer:
            _print(response, order)
        view.finish(response.text, took)
    finally:
        view.close()
    if listener.cut:
        note("The answer was cut at its longest length; moa ask --max-tokens N sets another.")
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


def _print(response: MixtureResponse, order: Order) -> None:
    if order.as_json:
        text = document(response.to_dict())
    else:
        text = printable(response.text) if sys.stdout.isatty() else response.text
    # Among lines of progress, the answer stands apart; in a pipe it stands alone.
    apart = "\n" if order.lines_to_output else ""
    sys.stdout.write(f"{apart}{text}\n{apart}")
    sys.stdout.flush()


def document(values: Any) -> str:
    """Values as JSON, in characters that standard output takes."""
    return json.dumps(values, indent=2, ensure_ascii=not _takes_unicode(sys.stdout))


def _takes_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().startswith("utf")
