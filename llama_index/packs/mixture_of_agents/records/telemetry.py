"""OpenTelemetry spans of runs, named after the conventions for generative AI: `policies=[Telemetry()]`.

One tree for each run:

    invoke_agent mixture_of_agents        the run
      layer 1                             a round, or the finish
        propose gpt-4o                    a step: a call from being asked to its outcome, waits within
          chat gpt-4o                     each try that goes out; what the LLM's client emits is inside

A call that a policy answers or refuses has a step and no `chat`. Nothing is kept between runs, and of a
run nothing but by the run itself, so one that is killed leaves nothing behind. It needs the `otel` extra;
it knows no exporter, and nothing of how runs are carried out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from llama_index.packs.mixture_of_agents.checks import shortened
from llama_index.packs.mixture_of_agents.errors import MissingExtraError
from llama_index.packs.mixture_of_agents.events import ProgressEvent
from llama_index.packs.mixture_of_agents.policies import RunStart
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records import conventions
from llama_index.packs.mixture_of_agents.results import Missing, MixtureResponse, Proposal, Usage

try:
    from opentelemetry import context as otel_context
    from opentelemetry.context import Context
    from opentelemetry.trace import (
        Span,
        SpanKind,
        StatusCode,
        Tracer,
        TracerProvider,
        get_tracer,
        set_span_in_context,
    )
except ImportError as error:
    raise MissingExtraError("Telemetry", "otel") from error

SCOPE = "llama_index.packs.mixture_of_agents"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The conventions' environment variable by which messages are opted in."""

_CAPTURES_ON_SPANS = frozenset({"true", "span_only", "span_and_event"})


class Telemetry:
    """Makes OpenTelemetry spans of every run of the mixtures it is given to.

    Args:
        tracer_provider: Where spans go; None for the process's own, as `trace.set_tracer_provider` set it.
        contents: Whether spans carry questions and answers; None leaves it to the environment variable
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, without which they do not. Keys never are.

    Example:
        pack = MixtureOfAgentsPack(aggregator, [a, b], policies=[Telemetry()])
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, *, contents: bool | None = None
    ) -> None:
        self._provider = tracer_provider
        asked = os.environ.get(CAPTURE, "").lower() in _CAPTURES_ON_SPANS
        self._contents = asked if contents is None else contents

    def for_run(self, start: RunStart) -> RunSpans:
        """The spans of one run; its first one begins now, under the caller's current span.

        It is made the current one: a run begins in a context of its own, which the caller's never sees.
        """
        return RunSpans(get_tracer(SCOPE, tracer_provider=self._provider), start, contents=self._contents)


@dataclass
class _Step:
    """A call under way: its span, from being asked to the outcome, and that of the try that is out."""

    call: Call
    span: Span
    attempt: Span | None = None

    def retries(self, event: ProgressEvent) -> None:
        """The try that is out has failed, and another follows."""
        self.span.add_event("moa.retry", conventions.event_attributes(event))
        if self.attempt is not None:
            _fail(self.attempt, conventions.error_type(event), event.reason)
            self.attempt.end()
            self.attempt = None

    def fail(self, kind: str, reason: str) -> None:
        """It comes to nothing."""
        for span in (self.span, self.attempt):
            if span is not None:
                _fail(span, kind, reason)

    def end(self) -> None:
        """It is over."""
        if self.attempt is not None:
            self.attempt.end()
        self.span.end()


def _fail(span: Span, kind: str, reason: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR, shortened(conventions.clean(reason), 300))


def _end(span: Span) -> None:
    if span.is_recording():  # it may have ended before: the SDK warns of a second time
        span.end()


@dataclass
class _Layer:
    """A layer's span, the context in which its steps begin, and the steps under way by place."""

    span: Span
    inside: Context
    steps: dict[tuple[int, int, int], _Step] = field(default_factory=dict)


class RunSpans:
    """A `RunWatch` that makes the spans of one run.

    Parents are given, never looked up, so tasks and threads cannot mix them. Besides, each span is made
    the current one where its work goes on, so that what a client emits stands under it.

    Args:
        tracer: Makes the spans.
        start: The run.
        contents: Whether spans carry questions and answers.
    """

    def __init__(self, tracer: Tracer, start: RunStart, *, contents: bool = False) -> None:
        self._tracer = tracer
        self._contents = contents
        self._layers: dict[int, _Layer] = {}
        attributes = conventions.start_attributes(start)
        if contents:
            attributes["gen_ai.input.messages"] = conventions.input_messages(start.messages)
        self._span = tracer.start_span(conventions.run_name(), attributes=attributes)
        self._inside = set_span_in_context(self._span)
        self._enter(self._span)

    def asks(self, call: Call) -> None:
        """A step begins."""
        if not self._span.is_recording():  # over, or not sampled
            return
        layer = self._layer(call.layer)
        name, place = conventions.step_name(call), conventions.place_attributes(call)
        span = self._tracer.start_span(name, context=layer.inside, attributes=place)
        layer.steps[call.place] = _Step(call, span)
        self._enter(span)

    def sent(self, call: Call) -> None:
        """A try at a call goes out."""
        step = self._steps(call.layer).get(call.place)
        if step is None:
            return
        span = self._tracer.start_span(
            conventions.call_name(call),
            context=set_span_in_context(step.span),
            kind=SpanKind.INTERNAL if conventions.is_in_process(call.identity) else SpanKind.CLIENT,
            attributes=self._sent_attributes(call),
        )
        step.attempt = span
        self._enter(span)

    def _sent_attributes(self, call: Call) -> conventions.Attributes:
        said = {"gen_ai.input.messages": conventions.input_messages(call.messages)} if self._contents else {}
        return {
            **conventions.model_attributes(call.identity),
            **conventions.request_attributes(call),
            **conventions.place_attributes(call),
            **said,
        }

    def happened(self, event: ProgressEvent) -> None:
        """A round opens, the gate decided, a try failed and another follows, or the proposals agree."""
        if not self._span.is_recording():
            return
        if event.kind == "round":
            self._layer(event.layer)
        elif event.kind in {"agreed", "routed"}:
            self._span.add_event(f"moa.{event.kind}", conventions.event_attributes(event))
        elif event.kind == "retry":
            for step in self._steps(event.layer).values():
                if (step.call.proposer, step.call.task) == (event.proposer, event.task):
                    step.retries(event)

    def noted(self, call: Call, record: Proposal | Missing, usage: Usage, source: str) -> None:
        """A step ends, and the try that brought it to its end."""
        step = self._steps(call.layer).pop(call.place, None)
        if step is None:
            return
        if source:
            step.span.set_attribute("moa.source", source)
        if step.attempt is not None:
            step.attempt.set_attributes(self._outcome_attributes(record, usage))
        if isinstance(record, Missing):
            step.fail(conventions.error_type(record), record.reason)
        step.end()

    def _outcome_attributes(self, record: Proposal | Missing, usage: Usage) -> conventions.Attributes:
        attributes = conventions.usage_attributes(usage)
        if isinstance(record, Missing):
            return attributes
        attributes |= conventions.answer_attributes(record)
        if self._contents:
            reason = record.details.get("finish_reason")
            attributes["gen_ai.output.messages"] = conventions.output_messages(record.text, reason)
        return attributes

    def ended(self, outcome: MixtureResponse | BaseException) -> None:
        """The run ends, and with it whatever is still open."""
        if isinstance(outcome, MixtureResponse):
            self._span.set_attributes(conventions.response_attributes(outcome))
            if self._contents:
                self._span.set_attribute("gen_ai.output.messages", conventions.output_messages(outcome.text))
            self._end_open(conventions.OTHER_ERROR, "left behind when the run ended")
        else:
            kind, reason = type(outcome).__name__, f"{type(outcome).__name__}: {outcome}"
            _fail(self._span, kind, reason)
            self._end_open(kind, reason)
        self._span.end()

    def _end_open(self, kind: str, reason: str) -> None:
        for layer in self._layers.values():
            for step in layer.steps.values():
                step.fail(kind, reason)
                step.end()
            if layer.steps:
                _fail(layer.span, kind, reason)
            _end(layer.span)
        self._layers.clear()

    def _steps(self, number: int) -> dict[tuple[int, int, int], _Step]:
        layer = self._layers.get(number)
        return {} if layer is None else layer.steps

    def _layer(self, number: int) -> _Layer:
        """The layer's span, opened on first use; those before it are over then."""
        if number not in self._layers:
            for earlier in self._layers.values():
                _end(earlier.span)
            attributes = {"moa.layer": number}
            span = self._tracer.start_span(f"layer {number}", context=self._inside, attributes=attributes)
            self._layers[number] = _Layer(span, set_span_in_context(span))
        return self._layers[number]

    @staticmethod
    def _enter(span: Span) -> None:
        # Never left again: the task or thread it is entered in ends with what the span stands for.
        otel_context.attach(set_span_in_context(span))
