"""The options of a mixture, each said once: the question, who proposes, how it ends, its limits.

They stay None where nothing was said, so that a configuration file, and below it the pack, can decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO

import typer

from llama_index.packs.mixture_of_agents.app.commands.keeping import Keeping
from llama_index.packs.mixture_of_agents.app.ordering import Order, given
from llama_index.packs.mixture_of_agents.app.questions import question_from

WHO = "Who proposes"
HOW = "How it ends"
LIMITS = "Limits and money"

_who = partial(typer.Option, show_default=False, rich_help_panel=WHO)
_how = partial(typer.Option, show_default=False, rich_help_panel=HOW)
_limit = partial(typer.Option, show_default=False, rich_help_panel=LIMITS)


@dataclass(frozen=True)
class Asking:
    """The question, wherever it comes from."""

    question: Annotated[
        str | None,
        typer.Argument(help="What to ask; '-' or nothing reads it from standard input.", show_default=False),
    ] = None
    user_prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The same as QUESTION.", show_default=False)
    ] = None
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE...",
            help="Read behind the question; without a question, the first file is it.",
            show_default=False,
        ),
    ] = None

    def text(self, stdin: TextIO | None) -> str:
        """The question as a text.

        Raises:
            ConfigurationError: There is none, or it cannot be read.
        """
        return question_from(self.question, stdin, self.user_prompt, self.file or ())


@dataclass(frozen=True)
class Proposing:
    """Who proposes, and with which settings."""

    models: Annotated[
        list[str] | None,
        _who(
            "--models",
            "--models-layer",
            metavar="MODEL...",
            help="Who proposes, one or more. Without it: three roles on the embedded local model.",
        ),
    ] = None
    layers: Annotated[
        int | None,
        _who(
            "--layers",
            "--layer",
            metavar="N",
            help="Rounds of proposers and the answer: 3 is two rounds and the answer. 3 unless said.",
        ),
    ] = None
    strategy: Annotated[
        str | None,
        _who(
            "--strategy",
            "--layer-strategy",
            metavar="NAME",
            help="model: each model as it is. role: in roles written for the question. temperature: at "
            "several temperatures. self: the first one, several times.",
        ),
    ] = None
    nb_models_by_layer: Annotated[
        list[int] | None,
        _who(metavar="NUMBER...", help="How many propose: one number, or one for each round."),
    ] = None
    pick: Annotated[
        str | None,
        _who(metavar="HOW", help="How the models are dealt to so many places: cycle or sample."),
    ] = None
    pick_seed: Annotated[
        int | None,
        _who(metavar="N", help="Of that sample."),
    ] = None
    model_roles: Annotated[
        str | None,
        _who(
            "--model-roles",
            "--role-writer",
            metavar="MODEL",
            help="Who writes the roles; by default who writes the answer.",
        ),
    ] = None
    roles: Annotated[
        str | None,
        _who(
            metavar="WHEN", help="Roles are written once per run, once per layer, or are fixed ones of ours."
        ),
    ] = None
    temperature: Annotated[
        float | None,
        _who(metavar="T", help="Of every call."),
    ] = None
    temperatures: Annotated[
        list[str] | None,
        _who(metavar="NUMBER...", help="Of the temperature strategy: several, or two bounds as 0.2..1.0."),
    ] = None
    max_tokens: Annotated[
        int | None,
        _who(metavar="N", help="Longest text of a call."),
    ] = None
    seed: Annotated[
        int | None,
        _who(metavar="N", help="Of the first proposer; each further one gets the next."),
    ] = None
    gate: Annotated[
        Path | None,
        _who(
            metavar="FOLDER",
            help="Ask only those whom a question is worth, as a gate of moa gate train decides; it must have "
            "been made for these models.",
        ),
    ] = None
    online: Annotated[
        bool,
        typer.Option("--online", help="With what moa gate feedback told of that gate.", rich_help_panel=WHO),
    ] = False
    config: Annotated[
        Path | None,
        _who(metavar="FILE", help="A mixture as a file (moa.toml); what is said here wins over it."),
    ] = None


@dataclass(frozen=True)
class Ending:
    """How proposals become an answer."""

    aggregator: Annotated[
        str | None,
        _how(
            "--aggregator",
            "--aggregator-model",
            metavar="MODEL",
            help="Who writes the answer; by default the first of --models.",
        ),
    ] = None
    finish: Annotated[
        str | None,
        _how(
            metavar="HOW",
            help="synthesize: written anew from all. sequential: over a sliding window. rank: the best one, "
            "chosen by the aggregator. vote: the answer most agree on. synthesize unless said.",
        ),
    ] = None
    extract: Annotated[
        str | None,
        _how(
            metavar="WHAT",
            help="What counts as the answer in a text, for vote and --stop-early: answer, number, choice or "
            "regex:PATTERN.",
        ),
    ] = None
    window: Annotated[
        int | None,
        _how(metavar="N", help="Texts in one pass of sequential."),
    ] = None
    pass_on: Annotated[
        str | None,
        _how(
            metavar="WHAT", help="What the next round reads: all proposals, or one text, condensed of them."
        ),
    ] = None
    stop_early: Annotated[
        float | None,
        _how(metavar="SHARE", help="Skip further rounds when such a share of a round agrees; 1 for all."),
    ] = None


@dataclass(frozen=True)
class Limits:
    """How long, how much, how dear."""

    timeout: Annotated[
        float | None,
        _limit(metavar="SECONDS", help="For the whole run; 200 with --models, else no limit."),
    ] = None
    layer_timeout: Annotated[
        float | None,
        _limit(metavar="SECONDS", help="For a round."),
    ] = None
    quorum: Annotated[
        int | None,
        _limit(metavar="N", help="Go on when so many of a round have answered."),
    ] = None
    quorum_grace: Annotated[
        float | None,
        _limit(metavar="SECONDS", help="To wait on after that."),
    ] = None
    max_concurrency: Annotated[
        int | None,
        _limit(metavar="N", help="Most calls in flight."),
    ] = None
    budget_usd: Annotated[
        float | None,
        _limit(metavar="USD", help="Most to spend on a question; checked before each call."),
    ] = None
    budget_tokens: Annotated[
        int | None,
        _limit(metavar="N", help="Most tokens to read and write for a question."),
    ] = None
    budget_seconds: Annotated[
        float | None,
        _limit(metavar="SECONDS", help="No round begins that would, with the answer behind it, last longer."),
    ] = None


def order_of(who: Proposing, how: Ending, limits: Limits, keeping: Keeping | None = None) -> Order:
    """The order these options make."""
    kept = keeping or Keeping(trace=False)
    return Order(
        models=tuple(who.models or ()),
        aggregator=how.aggregator,
        role_writer=who.model_roles,
        options=_pack_options(who, how, limits),
        seed=who.seed,
        gate=_text(who.gate),
        online=who.online,
        config=_text(who.config),
        extract=how.extract,
        window=how.window,
        stop_early=how.stop_early,
        budget=given(usd=limits.budget_usd, tokens=limits.budget_tokens, seconds=limits.budget_seconds),
        trace=kept.trace is not False,
        trace_dir=_text(kept.trace_dir),
        redact=kept.redact,
        cache=_text(kept.cache),
    )


def _pack_options(who: Proposing, how: Ending, limits: Limits) -> dict[str, object]:
    numbers = who.nb_models_by_layer
    return given(
        num_layers=who.layers,
        strategy=who.strategy,
        nb_models_by_layer=numbers[0] if numbers and len(numbers) == 1 else numbers,
        pick=who.pick,
        pick_seed=who.pick_seed,
        roles=who.roles,
        temperature=who.temperature,
        temperatures=who.temperatures,
        max_tokens=who.max_tokens,
        finish=how.finish,
        pass_on=how.pass_on,
        timeout=limits.timeout,
        layer_timeout=limits.layer_timeout,
        quorum=limits.quorum,
        quorum_grace=limits.quorum_grace,
        max_concurrency=limits.max_concurrency,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
