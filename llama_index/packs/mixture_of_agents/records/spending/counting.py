"""How many tokens messages are: counted, or bounded from above.

Counted with the tokenizer LlamaIndex is set to, which is not the model's own, so a count is an estimate.
Bounded by bytes: a token stands for at least one byte of text, whatever the tokenizer. This module knows
no models and no prices.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.utils import get_tokenizer

MESSAGE_TOKENS = 3
"""What the chat format adds to a message (OpenAI Cookbook, "How to count tokens with tiktoken")."""
REPLY_TOKENS = 3
"""What it adds once, to open the reply (from the same source)."""
MESSAGE_BOUND = 16
"""Most that a chat format adds to a message, in tokens; Llama 3's header takes 5."""
PROMPT_BOUND = 128
"""Most that it adds to a prompt, in tokens: a system message of its own, the reply's opening."""
PIECE = 20_000
"""Characters counted at a time: some tokenizers take the square of what has no spaces in it."""


def counted_text(text: str) -> int:
    """Tokens of a text."""
    if not text:
        return 0
    tokenize = get_tokenizer()
    clean = text.encode(errors="replace").decode()  # half a surrogate pair, which no tokenizer takes
    return sum(len(tokenize(clean[start : start + PIECE])) for start in range(0, len(clean), PIECE))


def counted(messages: Sequence[ChatMessage]) -> int:
    """Tokens of a prompt, its chat format's own among them; images and documents count nothing."""
    texts = sum(counted_text(message.content or "") for message in messages)
    return texts + MESSAGE_TOKENS * len(messages) + REPLY_TOKENS


def text_bound(text: str) -> int:
    """Tokens that a text cannot be more than, whatever the tokenizer."""
    return len(text.encode(errors="surrogatepass"))


def prompt_bound(messages: Sequence[ChatMessage], margin: float | None = None) -> int:
    """Tokens that the texts of a prompt are at most.

    Args:
        messages: The prompt.
        margin: None for the bytes of it, which hold for every tokenizer. A factor for the count times so
            much, where that is less: it holds for models whose tokenizer is not worse by more.
    """
    texts = [message.content or "" for message in messages]
    most = sum(map(text_bound, texts))
    if margin is not None:
        most = min(most, int(sum(map(counted_text, texts)) * margin) + 1)
    return most + MESSAGE_BOUND * len(messages) + PROMPT_BOUND


def has_attachments(messages: Sequence[ChatMessage]) -> bool:
    """Whether there is more in it than text, whose tokens nobody can tell from outside."""
    return any(not isinstance(block, TextBlock) for message in messages for block in message.blocks)
