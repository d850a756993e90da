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


class OverloadedError(Exception):
    """What a provider's client raises when it has too much to do."""

    status_code = 529


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


def _said(span: ReadableSpan) -> str:
    named = {name.rpartition(".")[2]: value for name, value in (span.attributes or {}).items()}
    shown = ("provider.name", "temperature", "seed", "input_tokens", "output_tokens", "cost_usd", "type")
    said = [f"{name}={named[name]}" for name in shown if name in named]
    return f"  [{', '.join(said)}]" if said else ""


def main() -> None:
    """Ask a mixture of scripted models, one of which fails once, and print the spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    pack = MixtureOfAgentsPack(
        ScriptedLLM("Air scatters blue light more than red.", model="editor"),
        [
            Proposer(ScriptedLLM("Rayleigh scattering.", model="physicist"), temperature=0.2, seed=7),
            ScriptedLLM([OverloadedError("busy"), "Blue scatters.", "Blue scatters most."], model="teacher"),
            ScriptedLLM(lambda _: RuntimeError("no such model"), model="absent"),
        ],
        num_layers=3,
        policies=[Telemetry(provider)],
    )
    print(pack.run("Why is the sky blue?"))
    print()
    print(*tree(exporter.get_finished_spans()), sep="\n")


if __name__ == "__main__":
    main()
