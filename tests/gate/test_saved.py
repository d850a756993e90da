"""Gates on disk: the same bytes for the same gate, the same gate back, and nothing else read as one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.protocol import GateDecision, load_gate
from llama_index.packs.mixture_of_agents.gate.saved import AnyGate, save_gate
from llama_index.packs.mixture_of_agents.gate.training import Recipe, trained
from tests.gate.recorded_answers import asking, cases, proposals, samples, seats

_ARRAYS = pytest.mark.skipif(find_spec("safetensors") is None, reason="safetensors is not installed")
_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
KINDS = [
    "cascade",
    pytest.param("neighbours", marks=_ARRAYS),
    pytest.param("network", marks=[_ARRAYS, _TORCH]),
    pytest.param("gated", marks=[_ARRAYS, _TORCH]),
]


@lru_cache(maxsize=8)
def gate(kind: str) -> AnyGate:
    return fresh(kind)


def fresh(kind: str, **recipe: Any) -> AnyGate:
    some, reader = cases(80)
    return trained(some, reader, Recipe(kind, **recipe))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def decisions(which: Any) -> list[GateDecision]:
    return [
        asyncio.run(which.decide(asking(sample.question), seats("tiny", "small", "large"), given))
        for sample in samples(15, seed=3)
        for given in ([], proposals(**{name: sample.responses[name] for name in ("tiny", "small")}))
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes_and_they_give_the_same_gate(kind: str, tmp_path: Path) -> None:
    first, second = save_gate(gate(kind), tmp_path / "one"), save_gate(fresh(kind), tmp_path / "two")
    assert contents(first) == contents(second)
    again = load_gate(first, ["large", "small", "tiny"])
    assert decisions(again) == decisions(gate(kind))
    assert contents(save_gate(again, tmp_path / "three")) == contents(first)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_and_weights_come_back_too(kind: str, tmp_path: Path) -> None:
    again: Any = load_gate(save_gate(gate(kind), tmp_path))
    for sample in samples(10, seed=4):
        messages, given = asking(sample.question), proposals(**sample.responses)
        assert again.weights(messages, given) == gate(kind).weights(messages, given)
        assert again.verdict(messages, given) == gate(kind).verdict(messages, given)  # type: ignore[union-attr]


def test_a_cascade_is_json_alone(tmp_path: Path) -> None:
    (only,) = contents(save_gate(gate("cascade"), tmp_path / "gate"))
    assert only == "gate.json"
    kept = json.loads((tmp_path / "gate" / only).read_text(encoding="utf-8"))
    assert (kept["schema"], kept["kind"], kept["models"]) == (1, "cascade", ["tiny", "small", "large"])


@_ARRAYS
def test_a_gate_that_is_replaced_leaves_no_arrays_behind(tmp_path: Path) -> None:
    save_gate(gate("neighbours"), tmp_path)
    save_gate(gate("cascade"), tmp_path)
    assert list(contents(tmp_path)) == ["gate.json"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["tiny", "small", "large", "huge"], "knows nothing of huge"),
        (["tiny", "small"], "large would not be"),
    ],
)
def test_other_proposers_are_refused(names: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_gate(save_gate(gate("cascade"), tmp_path), names)


def _changed(change: Callable[[dict[str, Any]], object], folder: Path) -> Path:
    save_gate(gate("cascade"), folder)
    kept = json.loads((folder / "gate.json").read_text(encoding="utf-8"))
    change(kept)
    (folder / "gate.json").write_text(json.dumps(kept), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda kept: kept.update(schema=99), "of gate schema 99"),
        (lambda kept: kept.pop("schema"), "no gate of this package"),
        (lambda kept: kept.update(kind="oracle"), "'oracle'"),
        (lambda kept: kept.pop("jury"), "damaged"),
        (lambda kept: kept.update(threshold=float("nan")), "NaN"),
        (lambda kept: kept["jury"][0]["weights"].__setitem__(0, float("inf")), "Infinity"),
        (lambda kept: kept["jury"][0]["weights"].pop(), "damaged"),
        (lambda kept: kept["jury"][0]["weights"].__setitem__(0, 10**400), "401 digits"),
        (lambda kept: kept["jury"][0]["spread"].__setitem__(0, 0), "spread"),
        (lambda kept: kept["jury"][0].update(accuracy=-1), "between 0 and 1"),
        (lambda kept: kept.update(models=["tiny", "small", "huge"]), "not those its parts"),
        (lambda kept: kept.update(models=[1, 2, 3]), "different names"),
        (lambda kept: kept["groups"].append(["tiny"]), "damaged"),
        (lambda kept: kept["scales"].pop(), "one scale"),
        (lambda kept: kept["accuracies"].update(tiny=True), "between 0 and 1"),
        (lambda kept: kept.update(accuracies=[1]), "damaged"),
    ],
)
def test_a_file_that_is_no_sound_gate_is_refused(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_gate(_changed(change, tmp_path))


def test_what_is_no_gate_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no gate"):
        load_gate(tmp_path / "nowhere")
    (tmp_path / "gate.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_gate(tmp_path)


@_ARRAYS
def test_arrays_that_hold_nan_or_are_not_there_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = save_gate(gate("neighbours"), tmp_path) / "arrays.safetensors"
    arrays = load_file(path)
    arrays["rows"][0, 0] = np.nan
    save_file(arrays, path)
    _sealed(path)
    with pytest.raises(ConfigurationError, match="NaN"):
        load_gate(tmp_path)
    arrays["rows"] = arrays["rows"][1:, 1:]
    save_file(arrays, path)
    _sealed(path)
    with pytest.raises(ConfigurationError, match="sizes"):
        load_gate(tmp_path)
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_gate(tmp_path)


def test_a_gate_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save_gate(gate("cascade"), tmp_path / "file")


class Lengths(BaseEmbedding):
    """Embeds a text by its length."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [len(text) / 100, 1.0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


@_ARRAYS
def test_a_gate_with_an_embedding_model_of_the_callers_own_needs_it_again(tmp_path: Path) -> None:
    some, reader = cases(60)
    made = trained(some, reader, Recipe("neighbours", embed="lengths"), Lengths())
    save_gate(made, tmp_path)
    again = load_gate(tmp_path, embed_model=Lengths())
    assert decisions(again) == decisions(made)
    with pytest.raises(ConfigurationError, match="no embedding model 'lengths'"):
        load_gate(tmp_path)


def _sealed(arrays: Path) -> None:
    """Have the manifest say that these arrays are its own."""
    manifest = arrays.with_name("gate.json")
    kept = json.loads(manifest.read_text(encoding="utf-8"))
    kept["arrays_sha256"] = hashlib.sha256(arrays.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(kept), encoding="utf-8")


def test_a_number_too_large_to_be_one_is_refused(tmp_path: Path) -> None:
    file = save_gate(gate("cascade"), tmp_path) / "gate.json"
    kept = json.loads(file.read_text(encoding="utf-8")) | {"threshold": "HERE"}
    file.write_text(json.dumps(kept).replace('"HERE"', "1e999"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="Infinity"):
        load_gate(tmp_path)


@_ARRAYS
def test_a_gate_written_by_half_is_refused_and_never_mixed_with_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_gate(gate("neighbours"), tmp_path)
    kept = contents(tmp_path)
    replace = Path.replace

    def stop(path: Path, target: Path) -> Path:
        if target.name == "gate.json":
            raise OSError("no space left")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(ConfigurationError, match="no space left"):
        save_gate(gate("cascade"), tmp_path)
    assert contents(tmp_path) == kept
    some, reader = cases(90)
    other = trained(some, reader, Recipe("neighbours"))
    with pytest.raises(ConfigurationError, match="no space left"):
        save_gate(other, tmp_path)
    with pytest.raises(ConfigurationError, match="not of the gate beside it"):
        load_gate(tmp_path)
    assert sorted(contents(tmp_path)) == ["arrays.safetensors", "gate.json"]
