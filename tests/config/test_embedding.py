"""Embedding models by name: any package of LlamaIndex's, imported on use."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MockEmbedding

from llama_index.packs.mixture_of_agents.config.embedding import embedding_named
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

PACKAGES = "llama_index.embeddings"


class PretendEmbedding(MockEmbedding):
    """Knows two models."""

    def __init__(self, model_name: str, api_key: str = "") -> None:
        if model_name == "closed":
            raise ValueError(f"refused with key {api_key}" if api_key else "no key is set")
        super().__init__(embed_dim=2, model_name=model_name)


@pytest.fixture(autouse=True)
def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages: one with an embedding model, one with none."""
    full, empty = ModuleType(f"{PACKAGES}.pre_tend"), ModuleType(f"{PACKAGES}.empty")
    vars(full).update(PretendEmbedding=PretendEmbedding, BaseEmbedding=BaseEmbedding)
    vars(full)["__all__"] = ["BaseEmbedding", "PretendEmbedding"]
    for module in (full, empty):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_a_name_gives_the_packages_class() -> None:
    made = embedding_named(" pre-tend:some/model ")
    assert isinstance(made, PretendEmbedding)
    assert made.model_name == "some/model"


def test_the_key_comes_from_the_environment_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_index.embeddings.openai", sys.modules[f"{PACKAGES}.pre_tend"])
    monkeypatch.setenv("OPENAI_API_KEY", "abc-not-to-be-shown")
    with pytest.raises(ConfigurationError, match="refused with key <api_key>"):
        embedding_named("openai:closed")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text-embedding-3-small", "names no embedding model. Write provider:model"),
        ("openai:", "names no embedding model"),
        ("../x:y", "names no embedding model"),
        ("nobodys:x", "needs the package llama-index-embeddings-nobodys"),
        ("gemini:x", "Run: pip install llama-index-embeddings-google-genai"),
        ("pre-tend:closed", "pre-tend:closed cannot be used: no key is set"),
        ("empty:x", "has no embedding model's class"),
    ],
)
def test_what_is_none_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        embedding_named(name)
    assert said in str(refusal.value)
