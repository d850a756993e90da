"""`SparseMoELLM`: a mixture-of-experts model on this machine, as a LlamaIndex LLM.

With `shaped_llm` the only file here that knows LlamaIndex. It turns messages into a prompt and updates into
responses, and leaves the rest to the rooms below: `options` (what was asked), `local_model` (text and token
ids), `conversation` (threads and event loops), `engine` (computing).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_messages_to_prompt
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import LLM

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.sparse_moe import options
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.answering import Answering
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.chat_format import (
    PLAIN_STOPS,
    ChatTurn,
    chat_turn,
)
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.generation import TextRequest
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.streams import traced_astream, traced_stream
from llama_index.packs.mixture_of_agents.sparse_moe.loading import require_extra
from llama_index.packs.mixture_of_agents.sparse_moe.shaped_llm import ShapedLLM

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from llama_index.packs.mixture_of_agents.sparse_moe.local_model import LocalModel

Kwargs = dict[str, Any]
Method = TypeVar("Method", bound=Callable[..., Any])

# LlamaIndex types its decorators as returning just any callable.
_traced_chat: Callable[[Method], Method] = llm_chat_callback()
_traced_completion: Callable[[Method], Method] = llm_completion_callback()


class SparseMoELLM(ShapedLLM):
    """A local mixture-of-experts causal language model.

    The directory is checked at construction, the weights are loaded at the first call (or by `load`).
    Everyone who opens the same directory or model object shares one thread and one copy of the weights,
    and so do copies by `model_copy`. Leaving a stream, or cancelling a task, stops the computing.

    Calls that run at the same time are computed together, and what their prompts begin with alike is
    computed once.

    Per call: `temperature`, `max_tokens` (or `max_new_tokens`), `top_p`, `top_k_sampling`,
    `repetition_penalty`, `seed`, `stop`, `timeout`, and `json_schema` or `regex` to shape the answer.
    `complete` continues raw text; `chat` applies the tokenizer's chat template, or the plain format of
    `chat_format.plain_prompt` if it has none. `raw` has "model", "usage" (every generated token counts,
    the end mark too), "finish_reason" and, on the last piece, "sparse_moe": how the tokens went to experts.

    Args:
        model: A checkpoint directory (safetensors), or a loaded transformers model in eval mode.
        tokenizer: A directory or tokenizer; None takes the directory's own.
        top_k: Experts per token; None is the checkpoint's own number.
        capacity_factor: How many times its even share of a block's tokens an expert may take; None sets no
            limit, and the model computes what transformers computes.
        min_capacity: No expert's limit is lower.
        overflow: What is beyond the limit goes without that expert ("drop"), or to the next best ("reroute").
        capacity_scope: Who counts together: "sequence", a block of one prompt (never binds while
            generating, and neighbours don't matter), or "batch", everyone in the same pass.
        capacity_block: Prompt tokens per block.
        quantize: "int8" keeps attention and experts in 8 bits; None keeps the weights as they are.
        max_batch_size: A request starts only while fewer than so many others are being decoded.
        max_new_tokens: Longest answer, in tokens.
        temperature: 0 always takes the likeliest token.
        seed: Same seed, prompt and settings: same text. None draws a fresh one per call.
        device: "auto" (a GPU if there is one), or any torch device.
        dtype: "auto" (the checkpoint's own), "float32", "bfloat16" or "float16".
        capacity_priority: Who is kept at the limit: "weight", the largest combine weights, or "position",
            the earliest tokens (Switch Transformers, arXiv 2101.03961).
        renormalize: Rescale the weights that a token keeps to the sum it had before.
        routing_stats: Count how tokens go to experts; False saves the counting.
        timeout: Seconds until a call is given up, noticed between two passes; None sets no limit.
        repetition_penalty: Above 1 makes tokens that appeared already less likely; 1 changes nothing.
        stop: A text, or several, that end every answer and are not part of it; those of a call come to them.
        **llm_settings: Fields of LlamaIndex's `LLM`, such as `callback_manager`, `system_prompt`,
            or a `messages_to_prompt` to use instead of the chat template.

    Raises:
        ConfigurationError: Not a whole mixture-of-experts checkpoint, or an option is not valid.
        MissingExtraError: torch, transformers or safetensors is not installed.
    """

    model: str
    tokenizer: str | None = None
    top_k: int | None = None
    capacity_factor: float | None = None
    min_capacity: int = 1
    overflow: str = "drop"
    capacity_scope: str = "sequence"
    capacity_block: int = 128
    quantize: str | None = None
    max_batch_size: int = 8
    max_new_tokens: int = 256
    temperature: float = 0.7
    seed: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    capacity_priority: str = "weight"
    renormalize: bool = False
    routing_stats: bool = True
    timeout: float | None = None
    repetition_penalty: float = 1.0
    stop: str | list[str] | None = None

    _local: LocalModel | None = PrivateAttr(default=None)
    _opened_as: tuple[object, ...] = PrivateAttr(default=())

    def __init__(
        self,
        model: str | PathLike[str] | PreTrainedModel,
        tokenizer: str | PathLike[str] | PreTrainedTokenizerBase | None = None,
        top_k: int | None = None,
        capacity_factor: float | None = None,
        min_capacity: int = 1,
        overflow: str = "drop",
        capacity_scope: str = "sequence",
        capacity_block: int = 128,
        quantize: str | None = None,
        max_batch_size: int = 8,
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        seed: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        *,
        capacity_priority: str = "weight",
        renormalize: bool = False,
        routing_stats: bool = True,
        timeout: float | None = None,
        repetition_penalty: float = 1.0,
        stop: str | list[str] | None = None,
        **llm_settings: Any,
    ) -> None:
        own = {name: value for name, value in locals().items() if name in SparseMoELLM.model_fields}
        require_extra("SparseMoELLM")
        options.refuse_unknown("SparseMoELLM", llm_settings, LLM.model_fields)
        options.check_defaults(own)
        # Not at the top: importing this file must work, and be quick, without torch.
        from llama_index.packs.mixture_of_agents.sparse_moe.opening import open_model

        local = open_model(model, tokenizer, device, dtype, quantize, options.routing_settings(own))
        own["model"] = fspath(model) if isinstance(model, str | PathLike) else local.name
        own["tokenizer"] = fspath(tokenizer) if isinstance(tokenizer, str | PathLike) else None
        super().__init__(**own, **llm_settings)
        self._local = local
        self._opened_as = self._identity()

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex serialises this class."""
        return "SparseMoELLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What the model's own config says of it."""
        local = self._require_open()
        return LLMMetadata(
            context_window=local.context_window,
            num_output=self.max_new_tokens,
            is_chat_model=local.has_chat_template,
            model_name=local.name,
        )

    @property
    def prefix_sharing_key(self) -> Hashable:
        """Equal for models that compute equal beginnings of prompts once; None where nothing is shared."""
        routing = options.routing_settings(self.__dict__)
        alone = routing.limited and routing.capacity_scope == "batch"
        return None if alone or self._local is None else (id(self._local.engine), routing, self.routing_stats)

    @property
    def routing_totals(self) -> dict[str, Any]:
        """How all tokens of this model's calls went to experts, in the form of `raw["sparse_moe"]`."""
        totals = self._require_open().totals.read()
        return {"layers": []} if totals is None else totals.to_dict()

    def load(self) -> None:
        """Load the weights now and wait for it, instead of at the first call.

        Raises:
            ConfigurationError: The model cannot route as the options say.
            SparseMoEError: It cannot be loaded.
        """
        self._require_open().engine.load().check(options.routing_settings(self.__dict__))

    def close(self) -> None:
        """Stop the model's thread and release its weights, for everyone who shares them.

        Open requests end with EngineClosedError. A new SparseMoELLM loads the model again.
        """
        self._require_open().engine.close()

    @_traced_completion
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Continue raw text."""
        return self._completing(formatted).answer(prompt, kwargs)

    @_traced_chat
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return self._chatting().answer(messages, kwargs)

    @_traced_completion
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Continue raw text, without blocking the event loop."""
        return await self._completing(formatted).aanswer(prompt, kwargs)

    @_traced_chat
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation, without blocking the event loop."""
        return await self._chatting().aanswer(messages, kwargs)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Continue raw text, piece by piece; computing starts at the first `next()`."""
        return traced_stream(_traced_completion, self, self._completing(formatted).open, prompt, kwargs)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation, piece by piece; computing starts at the first `next()`."""
        return traced_stream(_traced_chat, self, self._chatting().open, messages, kwargs)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Continue raw text, piece by piece, without blocking the event loop."""
        opener = self._completing(formatted).aopen
        return await traced_astream(_traced_completion, self, opener, prompt, kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Answer a conversation, piece by piece, without blocking the event loop."""
        return await traced_astream(_traced_chat, self, self._chatting().aopen, messages, kwargs)

    def _completing(self, formatted: bool) -> Answering[CompletionResponse]:
        make = partial(self._completion_request, formatted=formatted)
        return Answering(self._require_open(), make, _completion)

    def _chatting(self) -> Answering[ChatResponse]:
        return Answering(self._require_open(), self._chat_request, _chat)

    def _completion_request(self, prompt: str, kwargs: Kwargs, formatted: bool = False) -> TextRequest:
        rewrite = None if formatted else self.completion_to_prompt
        return self._text_request(rewrite(prompt) if rewrite else prompt, kwargs)

    def _chat_request(self, messages: Sequence[ChatMessage], kwargs: Kwargs) -> TextRequest:
        local = self._require_open()
        if not messages:
            raise ConfigurationError("there are no messages to answer; pass at least one")
        if self.messages_to_prompt and self.messages_to_prompt is not generic_messages_to_prompt:
            return self._text_request(self.messages_to_prompt(messages), kwargs)
        prompt = local.chat_prompt([_turn(message) for message in messages])
        if local.has_chat_template:
            # The template writes the special tokens itself; a second start mark would mislead the model.
            return self._text_request(prompt, kwargs, special_tokens=False)
        return self._text_request(prompt, kwargs, stops=PLAIN_STOPS)

    def _text_request(
        self, prompt: str, kwargs: Kwargs, *, special_tokens: bool = True, stops: tuple[str, ...] = ()
    ) -> TextRequest:
        defaults = options.CallSettings(
            options.sampling_settings(self.__dict__),
            self.max_new_tokens,
            self.max_batch_size,
            stops + options.stop_strings(self.stop),
            self.timeout,
            routing=options.routing_settings(self.__dict__),
            observe=self.routing_stats,
        )
        settings = options.resolve_call(defaults, kwargs)
        return self._require_open().request(prompt, settings, special_tokens=special_tokens)

    def _identity(self) -> tuple[object, ...]:
        return (self.model, self.tokenizer, self.device, self.dtype, self.quantize)

    def _require_open(self) -> LocalModel:
        if self._local is None:
            raise ConfigurationError(
                f"{self.model} was a model in memory, which a pickle does not carry; make a new SparseMoELLM"
            )
        if self._opened_as != self._identity():
            raise ConfigurationError(
                "model, tokenizer, device, dtype and quantize cannot be changed on a copy; make a new "
                "SparseMoELLM"
            )
        return self._local


def _turn(message: ChatMessage) -> ChatTurn:
    return chat_turn(message.role.value, message.content, [block.block_type for block in message.blocks])


def _completion(text: str, delta: str | None, raw: Kwargs) -> CompletionResponse:
    return CompletionResponse(text=text, delta=delta, raw=raw, additional_kwargs=dict(raw["usage"]))


def _chat(text: str, delta: str | None, raw: Kwargs) -> ChatResponse:
    message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
    return ChatResponse(message=message, delta=delta, raw=raw, additional_kwargs=dict(raw["usage"]))
