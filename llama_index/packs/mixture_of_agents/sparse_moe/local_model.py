"""A tokenizer and an engine that belong together, and the facts about them.

Text in, token ids out and back, chat template included. It knows transformers' tokenizers, but not
LlamaIndex.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe.chat_format import ChatTurn, defuse, plain_prompt
from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import (
    context_window,
    read_checkpoint,
    read_json,
    require_moe,
)
from llama_index.packs.mixture_of_agents.sparse_moe.generation import TextRequest
from llama_index.packs.mixture_of_agents.sparse_moe.loading import (
    engine_of_checkpoint,
    engine_of_model,
    whole_config,
)
from llama_index.packs.mixture_of_agents.sparse_moe.options import CallSettings, check_room
from llama_index.packs.mixture_of_agents.sparse_moe.requests import GenerationRequest

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine

T = TypeVar("T")


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
    """

    name: str
    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    context_window: int
    vocabulary: int
    stop_ids: frozenset[int]
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
            prompt_ids, settings.max_new_tokens, settings.sampling, self.stop_ids, settings.batch_limit
        )
        return TextRequest(wanted, self.decode, settings.stops)

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


def open_model(model: Any, tokenizer: object, device: str, dtype: str) -> LocalModel:
    """Open a directory or a model in memory, whichever `model` is; see the two functions below."""
    opener = open_directory if isinstance(model, str | PathLike) else open_loaded
    return opener(model, tokenizer, device, dtype)


def open_directory(path: str | PathLike[str], tokenizer: object, device: str, dtype: str) -> LocalModel:
    """Check a checkpoint directory and open it; its weights are loaded at the first request.

    Args:
        path: The directory.
        tokenizer: A tokenizer, a directory that has one, or None for the checkpoint's own.
        device: "auto" (a GPU if there is one), "cpu", "cuda:0", ...
        dtype: "auto" (the checkpoint's own), "float32", "bfloat16" or "float16".

    Returns:
        The open model.

    Raises:
        ConfigurationError: The directory is not a whole mixture-of-experts checkpoint.
    """
    checkpoint = read_checkpoint(Path(fspath(path)).expanduser(), tokenizer_expected=tokenizer is None)
    require_moe(checkpoint.config)
    config = whole_config(checkpoint)
    generation_file = checkpoint.directory / "generation_config.json"
    generation = read_json(generation_file) if generation_file.is_file() else {}
    engine = engine_of_checkpoint(checkpoint, device, dtype)
    text_side = _own_tokenizer(checkpoint.directory if tokenizer is None else tokenizer)
    return _assembled(checkpoint.directory.name, engine, text_side, config, generation)


def open_loaded(model: PreTrainedModel, tokenizer: object, device: str, dtype: str) -> LocalModel:
    """Open a model that is already in memory; it stays where and as it is.

    Args:
        model: A causal language model of transformers, in eval mode.
        tokenizer: A tokenizer, a directory that has one, or None for the one at `model.name_or_path`.
        device: Must be "auto".
        dtype: Must be "auto".

    Returns:
        The open model.

    Raises:
        ConfigurationError: Not a mixture of experts, in training mode, or no tokenizer to be found.
    """
    if (device, dtype) != ("auto", "auto"):
        raise ConfigurationError(
            f"device={device!r}, dtype={dtype!r} with a loaded model: it stays as it is. Move it with "
            "model.to(...) before, and leave both at 'auto'"
        )
    engine = engine_of_model(model)
    home = str(getattr(model, "name_or_path", "") or "")
    if tokenizer is None and not (home and Path(home).is_dir()):
        raise ConfigurationError(
            f"no tokenizer for the loaded model: its name_or_path is {home!r}, no directory. Pass tokenizer="
        )
    generation = model.generation_config.to_dict()
    text_side = _own_tokenizer(home if tokenizer is None else tokenizer)
    return _assembled(loaded_name(model), engine, text_side, model.config.to_dict(), generation)


def loaded_name(model: PreTrainedModel) -> str:
    """Name a model in memory: the last part of its name_or_path, else its class."""
    return Path(str(model.name_or_path)).name or type(model).__name__


def _own_tokenizer(source: object) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    if isinstance(source, PreTrainedTokenizerBase):
        # Its owner may switch truncation or padding on, which fast tokenizers keep as state.
        return copy.deepcopy(source)
    if not isinstance(source, str | PathLike):
        raise ConfigurationError(
            f"tokenizer={type(source).__name__} is not valid; it must be a directory or a tokenizer object"
        )
    try:
        loaded: Any = AutoTokenizer.from_pretrained(
            fspath(source), local_files_only=True, trust_remote_code=False
        )
    except Exception as problem:
        # Tokenizer files fail in as many ways as there are formats, the Rust ones with a bare Exception.
        raise ConfigurationError(f"the tokenizer in {source} cannot be loaded: {problem}") from problem
    if not isinstance(loaded, PreTrainedTokenizerBase):
        raise ConfigurationError(f"{source} holds no tokenizer that this transformers knows")
    return loaded


def _assembled(
    name: str,
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
) -> LocalModel:
    window, vocabulary = context_window(config), _text_value(config, "vocab_size")
    if window is None or not isinstance(vocabulary, int):
        raise ConfigurationError(
            f"the config of {name} does not say its max_position_embeddings and vocab_size; add them to it"
        )
    end = generation.get("eos_token_id")
    ends = (_text_value(config, "eos_token_id") if end is None else end, tokenizer.eos_token_id)
    flat = (item for end in ends for item in (end if isinstance(end, list) else [end]))
    stop_ids = frozenset(item for item in flat if isinstance(item, int))
    return LocalModel(name, engine, tokenizer, window, vocabulary, stop_ids)


def _text_value(config: Mapping[str, Any], name: str) -> object:
    inner = config.get("text_config")
    return config.get(name, inner.get(name) if isinstance(inner, Mapping) else None)
