"""Leaves LlamaIndex's process-wide settings and listeners as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from llama_index.core import MockEmbedding, Settings


@pytest.fixture
def own_settings() -> Iterator[None]:
    """Offline embeddings, and settings that end with the test."""
    names = ("_llm", "_embed_model", "_callback_manager")
    before = {name: getattr(Settings, name) for name in names}
    Settings.embed_model = MockEmbedding(embed_dim=8)
    yield
    for name, value in before.items():
        setattr(Settings, name, value)
