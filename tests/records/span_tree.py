"""Spans as a test reads them: by name, under their parents, in the order they began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@dataclass
class Node:
    span: ReadableSpan
    children: list[Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def status(self) -> str:
        return self.span.status.status_code.name

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.span.attributes or {})

    def outline(self) -> Any:
        """The name, or with children the name and theirs."""
        return (self.name, [child.outline() for child in self.children]) if self.children else self.name

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.walk()

    def named(self, beginning: str) -> list[Node]:
        return [node for node in self.walk() if node.name.startswith(beginning)]


class Recorder:
    """A tracer provider of the test's own, and what has been exported of it."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def roots(self) -> list[Node]:
        """The trees; a span whose parent was not exported fails the test."""
        ids = {span.context.span_id: Node(span) for span in self.spans if span.context is not None}
        roots = list[Node]()
        for node in sorted(ids.values(), key=lambda node: node.span.start_time or 0):
            parent = node.span.parent
            siblings = roots if parent is None else ids[parent.span_id].children
            siblings.append(node)
        return roots

    def root(self) -> Node:
        (root,) = self.roots()
        return root
