"""The card says what was made of what, how, and what holds."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM, upcycle
from tests.sparse_moe import tiny_models
from tests.sparse_moe.upcycling.tiny_dense import tiny_dense


def _card(source: Path, made: Path, **options: Any) -> str:
    return (upcycle(source, made, **options) / "README.md").read_text(encoding="utf-8")


def test_source_architecture_files_and_licence_are_named(tmp_path: Path) -> None:
    source = tiny_models.save(tiny_dense("qwen3").bfloat16(), tmp_path / "tiny-qwen", shards="30KB")
    (source / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    text = _card(source, tmp_path / "moe", experts=3, top_k=1, seed=11)
    assert text.startswith("---\nlicense: mit\n---\n")
    for words in (
        "(`Qwen3MoeForCausalLM`, 3 experts, 1 per token)",
        "`Qwen3ForCausalLM`",
        "Weights: bfloat16",
    ):
        assert words in text
    shards = sorted(source.glob("*.safetensors"))
    assert len(shards) > 1
    for shard in shards:
        digest = hashlib.sha256(shard.read_bytes()).hexdigest()
        assert f"- `{shard.name}`: {shard.stat().st_size} bytes, sha256 `{digest}`" in text
    assert "Seed: 11" in text
    assert "Licence of the source model: mit." in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ["Experts: copies of the dense", "Router: random", "answers are the dense model's\n"]),
        (
            {"noise": 0.05, "reinitialize": 0.5},
            [
                "0.5 of the intermediate units of each drawn anew",
                "then Gaussian noise on each matrix, 0.05 times",
                "no longer the dense model's: train it",
            ],
        ),
        ({"router": "kmeans"}, [r"k-means centroids .* on \d{4} tokens of 43 texts \(our own prompts\)"]),
        (
            {"router": "kmeans", "prompts": ["Some words of a user."]},
            [r"on 20 tokens of 1 texts \(prompts of its maker's choice\)", "no expert gets more than 1"],
        ),
    ],
)
def test_how_it_was_made(
    dense_folder: Path, tmp_path: Path, options: dict[str, Any], said: list[str]
) -> None:
    text = _card(dense_folder, tmp_path / "moe", **options)
    assert all(re.search(words, text) for words in said)
    assert "license" not in text.split("\n#", 1)[0]
    assert "unknown: ask whoever made the source model" in text


def test_the_shared_expert_is_explained_where_there_is_one(dense_folder: Path, tmp_path: Path) -> None:
    qwen = tiny_models.save(tiny_dense("qwen2"), tmp_path / "dense")
    assert "shared expert that `Qwen2MoeForCausalLM` insists on (32 wide)" in _card(qwen, tmp_path / "a")
    assert "shared expert" not in _card(dense_folder, tmp_path / "b")


def test_the_code_in_it_runs(
    dense_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _card(dense_folder, tmp_path / "moe")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert isinstance(SparseMoELLM, type)
    exec(code.replace("path/to/this/folder", str(tmp_path / "moe")), {})
    assert capsys.readouterr().out.strip()
