"""Four proposers at once on a local model: wall time beside LlamaIndex's own class for local models.

python -m benchmarks.local_batching [FILE.json] [--tokens N] [--repetitions N]

All contenders compute the same greedy answers from the same weights in memory, beyond any end mark; that
their texts are equal, and as long as asked, is checked. Each gets a fresh engine for each repetition, so
none finds another's prompts computed. `HuggingFaceLLM` (llama-index-llms-huggingface) neither batches nor
has async methods.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatResponse

from benchmarks.local_models import Weights, apart, engine_stats, fresh
from benchmarks.local_prompts import Conversation, proposals
from benchmarks.machine import in_a_line, machine
from benchmarks.prefix_layout import Count, tokenizer_in
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM

DEFAULT = Path(__file__).parent / "results" / "local_batching.json"
PACKAGES = ("llama-index-core", "llama-index-llms-huggingface", "transformers", "torch")
COMMON = 541
WARM_UP_TOKENS = 2
CONTEXT = 8192


@dataclass(frozen=True)
class Run:
    """What one contender did once.

    Attributes:
        seconds: From the first question to the last answer.
        texts: The answers.
        lengths: Tokens of each answer.
        read_tokens: Prompt tokens that were computed.
        passes: Forward passes.
    """

    seconds: float
    texts: tuple[str, ...]
    lengths: tuple[int, ...]
    read_tokens: int
    passes: int


Contender = Callable[[Weights, Sequence[Conversation], int], Run]
Asking = Callable[[SparseMoELLM, Sequence[Conversation]], list[ChatResponse]]


def hugging_face(weights: Weights, asked: Sequence[Conversation], tokens: int) -> Run:
    """`HuggingFaceLLM`, one call after another: it has no other way."""
    from llama_index.llms.huggingface import HuggingFaceLLM
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(weights.folder)
    llm = HuggingFaceLLM(
        model=weights.model,
        tokenizer=tokenizer,
        context_window=CONTEXT,
        max_new_tokens=tokens,
        generate_kwargs={"do_sample": False},
    )
    started = time.perf_counter()
    answers = apart(lambda: [llm.chat(messages) for messages in asked])
    seconds = time.perf_counter() - started
    prompts = [len(tokenizer(llm.messages_to_prompt(messages))["input_ids"]) for messages in asked]
    lengths = [
        answer.raw["model_output"].shape[1] - length for answer, length in zip(answers, prompts, strict=True)
    ]
    texts = tuple(answer.message.content for answer in answers)
    return Run(seconds, texts, tuple(lengths), sum(prompts), sum(lengths))


def in_turn(llm: SparseMoELLM, asked: Sequence[Conversation]) -> list[ChatResponse]:
    """One call after another."""
    return [llm.chat(messages) for messages in asked]


def at_once(llm: SparseMoELLM, asked: Sequence[Conversation]) -> list[ChatResponse]:
    """All calls together, as the mixture makes them."""

    async def gathered() -> list[ChatResponse]:
        return await asyncio.gather(*(llm.achat(messages) for messages in asked))

    return asyncio.run(gathered())


def ours(asking: Asking, *, sharing: bool) -> Contender:
    """`SparseMoELLM`, asked in that way, with or without sharing what prompts begin with alike."""

    def run(weights: Weights, asked: Sequence[Conversation], tokens: int) -> Run:
        opened = SparseMoELLM(weights.model, str(weights.folder), temperature=0.0, max_new_tokens=tokens)
        with fresh(opened, weights, sharing=sharing, ends=False) as llm:
            started = time.perf_counter()
            answers = asking(llm, asked)
            seconds = time.perf_counter() - started
            stats = engine_stats(llm)
        texts = tuple(answer.message.content or "" for answer in answers)
        lengths = tuple(answer.additional_kwargs["completion_tokens"] for answer in answers)
        return Run(seconds, texts, lengths, stats.read_tokens, stats.steps)

    return run


CONTENDERS: dict[str, Contender] = {
    "HuggingFaceLLM, in turn": hugging_face,
    "SparseMoELLM, in turn, nothing shared": ours(in_turn, sharing=False),
    "SparseMoELLM, in turn": ours(in_turn, sharing=True),
    "SparseMoELLM, at once, nothing shared": ours(at_once, sharing=False),
    "SparseMoELLM, at once": ours(at_once, sharing=True),
}


@dataclass(frozen=True)
class Figure:
    """One contender's figure.

    Attributes:
        contender: Its name.
        seconds: Median wall time.
        fastest: Shortest wall time.
        slowest: Longest wall time.
        ratio: How many times as fast as the first contender.
        read_tokens: Prompt tokens that were computed.
        passes: Forward passes.
    """

    contender: str
    seconds: float
    fastest: float
    slowest: float
    ratio: float
    read_tokens: int
    passes: int


def figures(runs: dict[str, list[Run]]) -> list[Figure]:
    """Medians, beside the first contender's."""
    medians = {name: statistics.median(run.seconds for run in listed) for name, listed in runs.items()}
    first = next(iter(medians.values()))
    return [
        Figure(
            name,
            medians[name],
            min(run.seconds for run in listed),
            max(run.seconds for run in listed),
            first / medians[name],
            listed[-1].read_tokens,
            listed[-1].passes,
        )
        for name, listed in runs.items()
    ]


def check_equal(runs: dict[str, list[Run]], tokens: int) -> None:
    """Refuse to compare contenders that did not do the same work.

    Raises:
        ValueError: An answer has another text or length than the first contender's.
    """
    (first, *_), *_ = runs.values()
    for name, listed in runs.items():
        for run in listed:
            if set(run.lengths) != {tokens}:
                raise ValueError(f"{name} wrote {run.lengths} tokens, not {tokens} each: nothing to compare")
            if run.texts != first.texts:
                raise ValueError(f"{name} wrote another text: {run.texts} instead of {first.texts}")


def measure(
    weights: Weights, asked: Sequence[Conversation], tokens: int, repetitions: int
) -> dict[str, list[Run]]:
    """Every contender in turn, so that a drift of the machine's speed touches all of them."""
    for contender in CONTENDERS.values():
        contender(weights, asked[:2], WARM_UP_TOKENS)
    runs: dict[str, list[Run]] = {name: [] for name in CONTENDERS}
    for repetition in range(repetitions):
        for name, contender in CONTENDERS.items():
            runs[name].append(contender(weights, asked, tokens))
            print(f"{repetition + 1}/{repetitions} {name}: {runs[name][-1].seconds:.1f} s", flush=True)
    return runs


def table(listed: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| | wall time | times as fast | prompt tokens computed | passes |", "|---|---:|---:|---:|---:|"]
    for one in listed:
        spread = f"{one.seconds:.1f} s ({one.fastest:.1f} to {one.slowest:.1f})"
        lines.append(f"| {one.contender} | {spread} | {one.ratio:.2f} | {one.read_tokens} | {one.passes} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, check, print, write."""
    chosen = _arguments()
    about = machine(PACKAGES)
    print(in_a_line(about), flush=True)
    weights = Weights.of_default()
    # transformers then goes on beyond the end mark, as `fresh` makes our engine do.
    weights.model.generation_config.eos_token_id = None
    tokenize = tokenizer_in(weights.folder)
    asked = proposals(tokenize, COMMON)
    count = Count.of([*map(tokenize, asked)])
    runs = measure(weights, asked, chosen.tokens, chosen.repetitions)
    check_equal(runs, chosen.tokens)
    found = {
        "machine": about,
        "model": weights.folder.name,
        "prompts": asdict(count),
        "new_tokens": chosen.tokens,
        "runs": {name: [asdict(run) for run in listed] for name, listed in runs.items()},
        "figures": [asdict(one) for one in figures(runs)],
    }
    print(
        f"\n{len(asked)} proposers, {count.tokens} prompt tokens, the first {count.common} of each the same; "
        f"{chosen.tokens} new tokens each, all answers equal\n\n{table(figures(runs))}"
    )
    chosen.file.parent.mkdir(parents=True, exist_ok=True)
    chosen.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\nWritten to {chosen.file}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_batching")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each answer")
    parser.add_argument("--repetitions", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
