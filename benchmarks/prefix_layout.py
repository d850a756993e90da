"""How many prompt tokens a local model computes for a round of roles, in either prompt layout.

python -m benchmarks.prefix_layout

Counted, not timed: what the prompts of one round have in common from their beginning is computed once.
A capacity limit takes whole blocks of 128 tokens, so both are given. Tokens are those of the embedded
default model where it has been prepared, else bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.app.default_model import SMOLLM2, cache_folder
from llama_index.packs.mixture_of_agents.calls.layouts import shared_prefix_messages
from llama_index.packs.mixture_of_agents.prompts import proposer_messages
from llama_index.packs.mixture_of_agents.strategies import ROLES

Tokenize = Callable[[Sequence[ChatMessage]], list[int]]

BLOCK = 128

_SENTENCES = (
    "Sunlight looks white, but it is a blend of every colour from violet to red.",
    "On its way to the ground it meets molecules of nitrogen and oxygen, far smaller than its wavelength.",
    "Such small obstacles turn short waves aside much more readily than long ones.",
    "Halving the wavelength makes the effect sixteen times as strong, as Lord Rayleigh worked out.",
    "So blue light reaches the eye from every part of the sky, while red light mostly comes straight on.",
    "Violet would be scattered more still, but there is less of it and our eyes respond to it weakly.",
    "In the evening the path through the air is many times longer than at noon.",
    "By then most of the blue has left the beam, and what arrives is orange and red.",
    "Dust and smoke deepen these colours, and so does the ash of a volcano.",
    "On the Moon there is no air, so the sky is black there at any hour.",
)
_QUESTION = "Why is the sky blue by day, and red in the evening?"


def _page(first: int) -> str:
    """About 150 words; another page for each first sentence."""
    return " ".join(_SENTENCES[(first + n) % len(_SENTENCES)] for n in range(len(_SENTENCES)))


QUESTIONS = {
    "short": _QUESTION,
    "with three pages of text": "\n\n".join([*map(_page, range(3)), _QUESTION]),
}


@dataclass(frozen=True)
class Count:
    """The prompts of one round in one layout.

    Attributes:
        tokens: Of all prompts together.
        common: That all prompts begin with.
        computed: When the common beginning is computed once.
        in_blocks: When only its whole blocks are.
    """

    tokens: int
    common: int
    computed: int
    in_blocks: int

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]]) -> Count:
        """Count the prompts of a round."""
        tokens, common, spared = sum(map(len, prompts)), _common_length(prompts), len(prompts) - 1
        return cls(tokens, common, tokens - spared * common, tokens - spared * (common // BLOCK * BLOCK))


def _common_length(prompts: Sequence[Sequence[int]]) -> int:
    alike = [len(set(tokens)) == 1 for tokens in zip(*prompts, strict=False)]
    return [*alike, False].index(False)


_COLUMNS = ("tokens", "common", "computed", "in blocks")


def rounds(question: str, roles: Sequence[str], tokenize: Tokenize) -> Iterator[tuple[Count, Count]]:
    """The role-first and the shared layout's counts: of the first round, then of one with drafts."""
    asked = [ChatMessage(role="user", content=question)]
    for drafts in ([], [_page(3 + n) for n in range(len(roles))]):
        first = [proposer_messages(asked, role, drafts) for role in roles]
        last = [shared_prefix_messages(asked, role, drafts, roles=roles) for role in roles]
        yield Count.of([*map(tokenize, first)]), Count.of([*map(tokenize, last)])


def table(tokenize: Tokenize) -> str:
    """A row for each question, number of roles and round."""
    columns = [*(f"{name}, role {place}" for place in ("first", "last") for name in _COLUMNS), "ratio"]
    lines = [f"| question | roles | round | {' | '.join(columns)} |", f"|---|{'---:|' * (2 + len(columns))}"]
    for name, question in QUESTIONS.items():
        for seats in (3, 4):
            for number, (first, last) in enumerate(rounds(question, ROLES[:seats], tokenize), 1):
                cells = [name, seats, number, *vars(first).values(), *vars(last).values()]
                ratio = f"{first.in_blocks / last.in_blocks:.2f}"
                lines.append(f"| {' | '.join(map(str, [*cells, ratio]))} |")
    return "\n".join(lines)


def in_bytes(messages: Sequence[ChatMessage]) -> list[int]:
    """A prompt without a template, each byte a token."""
    return list("".join(f"{message.role.value}:\n{message.content}\n\n" for message in messages).encode())


def default_tokenizer() -> Tokenize | None:
    """The embedded default model's chat template and tokenizer; None where it is not prepared."""
    if not (find_spec("transformers") and find_spec("platformdirs")):
        return None
    folder = cache_folder() / SMOLLM2.folder / SMOLLM2.model_name
    return tokenizer_in(folder) if folder.is_dir() else None


def tokenizer_in(folder: Path) -> Tokenize:
    """A checkpoint's own chat template and tokenizer."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def tokenize(messages: Sequence[ChatMessage]) -> list[int]:
        turns = [{"role": message.role.value, "content": message.content} for message in messages]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    return tokenize


def main() -> None:
    """Count and print."""
    tokenize = default_tokenizer()
    named = SMOLLM2.base_name if tokenize else "bytes (`moa ask` once prepares the default model)"
    print(f"Tokens: {named}. Blocks of {BLOCK}. Ratio: computed in blocks, role first over role last.\n")
    print(table(tokenize or in_bytes))


if __name__ == "__main__":
    main()
