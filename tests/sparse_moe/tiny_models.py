"""Tiny random models and a tiny tokenizer, and a listener that writes down what the engine tells it.

A token is a byte, so prompts and answers need no vocabulary file. Knows no test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    DeepseekV3Config,
    GptOssConfig,
    GraniteMoeHybridConfig,
    JambaConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    PhimoeConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2MoeConfig,
    Qwen3NextConfig,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from llama_index.packs.mixture_of_agents.sparse_moe.requests import (
    Ending,
    GenerationRequest,
    SamplingSettings,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools here') }}"
    "{% endif %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<pad>"]
EOS = 1
WIDTHS: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # Large, so that logits differ and greedy text is not one letter for ever.
    "initializer_range": 0.5,
    "bos_token_id": 0,
    "eos_token_id": EOS,
    "pad_token_id": 2,
}


def tiny_tokenizer(*, chat_template: bool = True) -> PreTrainedTokenizerFast:
    """One token per byte, three special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[2]
    )
    if chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_mixtral(*, seed: int = 0, window: int = 512, **changes: Any) -> MixtralForCausalLM:
    """Four experts, two per token, in eval mode."""
    config = MixtralConfig(
        **{**WIDTHS, "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": window}
        | changes
    )
    torch.manual_seed(seed)
    model: MixtralForCausalLM = MixtralForCausalLM(config).eval()
    return model


def tiny_llama(*, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A dense model of the same widths, in eval mode."""
    torch.manual_seed(seed)
    config = LlamaConfig(**{**WIDTHS, "max_position_embeddings": 512} | changes)
    model: LlamaForCausalLM = LlamaForCausalLM(config).eval()
    return model


def other_moe(kind: str) -> PreTrainedModel:
    """A tiny model of another mixture-of-experts architecture, in eval mode."""
    common = {**WIDTHS, "max_position_embeddings": 512, "num_experts_per_tok": 2}
    configs: dict[str, Callable[[], Any]] = {
        "olmoe": lambda: OlmoeConfig(**common, num_experts=4),
        "qwen2_moe": lambda: Qwen2MoeConfig(
            **common, num_experts=4, moe_intermediate_size=24, shared_expert_intermediate_size=24
        ),
        "granitemoehybrid": lambda: GraniteMoeHybridConfig(
            **common,
            num_local_experts=4,
            shared_intermediate_size=24,
            layer_types=["mamba", "attention"],
            mamba_n_heads=8,
            mamba_d_state=8,
            mamba_d_head=8,
            position_embedding_type="rope",
        ),
    }
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(configs[kind]()).eval()
    return model


def state_kinds() -> dict[str, Callable[[], PreTrainedModel]]:
    """Tiny models that differ in what they remember: everything, a window, a recurrent state."""
    return {
        "attention": tiny_mixtral,
        "sliding windows": tiny_gpt_oss,
        "recurrent": lambda: other_moe("granitemoehybrid"),
        "delta rule": tiny_qwen3_next,
        "latent attention": tiny_deepseek,
    }


def tiny_gpt_oss() -> PreTrainedModel:
    """Alternating sliding windows of 16 tokens and full attention, in eval mode."""
    config = GptOssConfig(
        **{**WIDTHS, "num_hidden_layers": 4},
        num_local_experts=4,
        num_experts_per_tok=2,
        head_dim=8,
        sliding_window=16,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    return _seeded(config)


def tiny_qwen3_next() -> PreTrainedModel:
    """Three layers of gated delta rule and one of attention, in eval mode."""
    config = Qwen3NextConfig(
        **{**WIDTHS, "num_hidden_layers": 4},
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        shared_expert_intermediate_size=24,
        head_dim=8,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        max_position_embeddings=512,
    )
    return _seeded(config)


def tiny_deepseek() -> PreTrainedModel:
    """Latent attention, grouped sigmoid router, a shared expert; in eval mode."""
    config = DeepseekV3Config(
        **{**WIDTHS, "num_key_value_heads": 4},
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        moe_intermediate_size=24,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        n_shared_experts=1,
        first_k_dense_replace=1,
        max_position_embeddings=512,
    )
    return _seeded(config)


def tiny_jamba() -> PreTrainedModel:
    """Mamba and attention; its recurrent layers begin anew at every pass of several tokens. In eval mode."""
    config = JambaConfig(
        **{**WIDTHS, "num_hidden_layers": 4},
        num_experts=4,
        num_experts_per_tok=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=8,
        max_position_embeddings=512,
    )
    return _seeded(config)


def tiny_phimoe() -> PreTrainedModel:
    """A router that always chooses two experts, whatever it is told. In eval mode."""
    return _seeded(
        PhimoeConfig(**WIDTHS, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=512)
    )


def _seeded(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return model


def save(model: PreTrainedModel, folder: Path, *, chat_template: bool = True, shards: str = "5GB") -> Path:
    """Write a checkpoint with its tokenizer."""
    model.save_pretrained(folder, max_shard_size=shards)
    tiny_tokenizer(chat_template=chat_template).save_pretrained(folder)
    return folder


def oracle_ids(
    model: PreTrainedModel, prompt_ids: list[int], max_new_tokens: int, **options: Any
) -> list[int]:
    """What transformers' own `generate` answers, greedily."""
    generate: Any = model.generate
    output = generate(
        torch.tensor([prompt_ids]),
        attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=2,
        **options,
    )
    ids: list[int] = output[0, len(prompt_ids) :].tolist()
    return ids


def raw(answer: CompletionResponse | ChatResponse) -> dict[str, Any]:
    """What an answer says of itself."""
    assert isinstance(answer.raw, dict)
    return answer.raw


def asking(*prompt_ids: int, tokens: int = 20, **changes: Any) -> GenerationRequest:
    """A greedy request without stop tokens, unless changed."""
    fields: dict[str, Any] = {"sampling": SamplingSettings(temperature=0.0), **changes}
    return GenerationRequest(prompt_ids or (10, 20, 30), tokens, **fields)


class Recorder:
    """A listener that writes everything down; `each` is called with the number of tokens so far."""

    def __init__(self, each: Callable[[int], bool | None] | None = None) -> None:
        self.tokens: list[int] = []
        self.endings: list[Ending] = []
        self._each = each
        self._done = threading.Event()

    def on_token(self, token_id: int) -> bool:
        self.tokens.append(token_id)
        return self._each is None or self._each(len(self.tokens)) is not False

    def on_end(self, ending: Ending) -> None:
        self.endings.append(ending)
        self._done.set()

    def ending(self) -> Ending:
        """Wait for the one ending."""
        assert self._done.wait(20), "the request never ended"
        (only,) = self.endings
        return only
