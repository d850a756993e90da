"""One run as OpenTelemetry sees it: its spans, printed as a tree. No key, no network.

    pip install 'llama-index-packs-mixture-of-agents[otel]'
    python examples/telemetry.py

For a backend, give the provider a `BatchSpanProcessor(OTLPSpanExporter())` instead of the exporter in
memory; everything else stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack, Proposer
from llama_index.packs.mixture_of_agents.records.telemetry import Telemetry
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM


class RefusedError(Exception):
    """As a provider's client raises it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code


def tree(spans: Sequence[ReadableSpan]) -> Iterator[str]:
    """The spans as lines, each under its parent."""
    inside: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        inside.setdefault(span.parent.span_id if span.parent else None, []).append(span)

    def lines(parent: int | None, depth: int) -> Iterator[str]:
        for span in inside.get(parent, ()):
            yield f"{'  ' * depth}{span.name}{_said(span)}"
            yield from lines(span.context.span_id if span.context else 0, depth + 1)

    return lines(None, 0)


SHOWN = {
    "error.type": "error",
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.seed": "seed",
    "gen_ai.usage.input_tokens": "read",
    "gen_ai.usage.output_tokens": "written",
    "moa.cost_usd": "USD",
}


def _said(span: ReadableSpan) -> str:
    held = span.attributes or {}
    said = ", ".join(f"{short} {held[name]!s}" for name, short in SHOWN.items() if name in held)
    return f"  [{said}]" if said else ""


def main() -> None:
    """Ask a mixture of scripted models, one of them busy at first and one not there, and print the spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    pack = MixtureOfAgentsPack(
        ScriptedLLM("Air scatters blue light more than red.", model="editor"),
        [
            Proposer(ScriptedLLM("Rayleigh scattering.", model="physicist"), temperature=0.2, seed=7),
            ScriptedLLM([RefusedError(529), "Blue scatters.", "Blue scatters most."], model="teacher"),
            ScriptedLLM(lambda _: RefusedError(404), model="absent"),
        ],
        num_layers=3,
        prices={model: {"input": 1.0, "output": 4.0} for model in ("editor", "physicist", "teacher")},
        policies=[Telemetry(provider)],
    )
    print(pack.run("Why is the sky blue?"))
    print()
    print(*tree(exporter.get_finished_spans()), sep="\n")


if __name__ == "__main__":
    main()
