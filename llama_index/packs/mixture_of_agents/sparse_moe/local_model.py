"""A tokenizer and an engine that belong together, and the facts about them.

Text in, token ids out and back, chat template included. It knows transformers' tokenizers, but not
LlamaIndex.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.chat_format import (
    ChatTurn,
    defuse,
    plain_prompt,
)
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.generation import TextRequest
from llama_index.packs.mixture_of_agents.sparse_moe.options import CallSettings, check_room
from llama_index.packs.mixture_of_agents.sparse_moe.requests import GenerationRequest

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from llama_index.packs.mixture_of_agents.sparse_moe.conversation.constraints import ConstraintFactory
    from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
    from llama_index.packs.mixture_of_agents.sparse_moe.requests import Ending, TokenConstraint
    from llama_index.packs.mixture_of_agents.sparse_moe.stats import RoutingStats

T = TypeVar("T")


class RoutingTotals:
    """Adds up how requests' tokens went to experts. Requests end on other threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sum: RoutingStats | None = None

    def add(self, ending: Ending) -> None:
        """Count a request in, if it was observed."""
        with self._lock:
            if ending.routing is not None:
                self._sum = ending.routing if self._sum is None else self._sum + ending.routing

    def read(self) -> RoutingStats | None:
        """The totals so far; None before the first request ended."""
        with self._lock:
            return self._sum


@dataclass(frozen=True, eq=False)
class LocalModel:
    """What a SparseMoELLM holds on to. Copies of the LLM share it; pickling leaves it behind.

    Args:
        name: The directory's name, or what the loaded model calls itself.
        engine: Decodes token ids; shared by all who opened the same weights.
        tokenizer: This object's own; nobody else changes it.
        context_window: Tokens that fit, prompt and answer together.
        vocabulary: Number of token ids the model knows.
        stop_ids: Tokens that end an answer.
        totals: How all tokens so far went to experts.
    """

    name: str
    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    context_window: int
    vocabulary: int
    stop_ids: frozenset[int]
    totals: RoutingTotals = field(default_factory=RoutingTotals)
    _encoding: threading.Lock = field(default_factory=threading.Lock)
    _encoder: ThreadPoolExecutor = field(
        default_factory=partial(ThreadPoolExecutor, 1, thread_name_prefix="sparse-moe-tokenizer")
    )

    def __deepcopy__(self, memo: dict[int, object]) -> LocalModel:
        return self

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # Pickles as None: an engine's thread stays here, and the LLM opens its directory anew there.
        return (type(None), ())

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer knows how to write a conversation."""
        return bool(self.tokenizer.chat_template)

    def encode(self, text: str, *, special_tokens: bool) -> tuple[int, ...]:
        """Turn text into token ids.

        Args:
            text: The text.
            special_tokens: Whether to add those that the tokenizer starts a raw text with.

        Returns:
            Token ids.

        Raises:
            ConfigurationError: The tokenizer made ids that the model does not know.
        """
        with self._encoding:
            encoded = self.tokenizer(text, add_special_tokens=special_tokens, verbose=False)
        ids = tuple(int(token_id) for token_id in encoded["input_ids"])
        if ids and max(ids) >= self.vocabulary:
            raise ConfigurationError(
                f"the tokenizer made token {max(ids)}, but {self.name} knows only {self.vocabulary}: "
                "they do not belong together. Pass the model's own tokenizer="
            )
        return ids

    def request(self, prompt: str, settings: CallSettings, *, special_tokens: bool) -> TextRequest:
        """Make a prompt and its settings ready for the engine.

        Raises:
            ConfigurationError: The prompt has no tokens.
            ContextOverflowError: Prompt and answer do not fit the context window.
        """
        prompt_ids = self.encode(prompt, special_tokens=special_tokens)
        check_room(len(prompt_ids), settings.max_new_tokens, self.context_window)
        wanted = GenerationRequest(
            prompt_ids,
            settings.max_new_tokens,
            settings.sampling,
            self.stop_ids,
            settings.batch_limit,
            settings.routing,
            settings.observe,
            settings.timeout,
            self._constraint(settings),
        )
        return TextRequest(wanted, self.decode, settings.stops, self.totals.add)

    def _constraint(self, settings: CallSettings) -> TokenConstraint | None:
        if settings.json_schema is not None:
            return self._constraints.json(settings.json_schema)
        return self._constraints.regex(settings.regex) if settings.regex is not None else None

    @cached_property
    def _constraints(self) -> ConstraintFactory:
        from llama_index.packs.mixture_of_agents.sparse_moe.conversation.constraints import ConstraintFactory

        return ConstraintFactory(self.tokenizer, self.vocabulary, self.stop_ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn token ids into text, special tokens left out."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def chat_prompt(self, turns: Sequence[ChatTurn]) -> str:
        """Write a conversation as the model was trained to read it, or in the plain format.

        Args:
            turns: The messages, oldest first. Control tokens in their contents are defused.

        Returns:
            The prompt, up to where the assistant's answer begins.

        Raises:
            ConfigurationError: The chat template refuses the messages.
        """
        if not self.has_chat_template:
            return plain_prompt(turns)
        marks = self._control_tokens()
        safe = [{"role": turn["role"], "content": defuse(turn["content"], marks)} for turn in turns]
        from jinja2 import TemplateError

        try:
            return str(self.tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=True))
        except TemplateError as problem:
            raise ConfigurationError(
                f"the chat template of {self.name} refuses these messages ({problem}); "
                f"roles were {[turn['role'] for turn in turns]}"
            ) from problem

    def _control_tokens(self) -> list[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        return sorted(
            {str(token) for token in added if token.special} | set(self.tokenizer.all_special_tokens)
        )

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Run slow text work (a long prompt takes tens of milliseconds) away from the event loop.

        The thread is the model's own: the loop's default executor may be full of calls that hang.
        """
        return await asyncio.wrap_future(self._encoder.submit(work))
