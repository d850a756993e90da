"""Gates on disk: a folder with `gate.json`, and `arrays.safetensors` where there are large arrays.

Never pickle: reading a gate runs no code of the file's. The same gate gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError
from llama_index.packs.mixture_of_agents.gate.calibration import Platt
from llama_index.packs.mixture_of_agents.gate.cascade import CascadeGate
from llama_index.packs.mixture_of_agents.gate.gated import GatedCascade
from llama_index.packs.mixture_of_agents.gate.jury import Jury
from llama_index.packs.mixture_of_agents.gate.neighbours import Neighbours
from llama_index.packs.mixture_of_agents.gate.network import GatingNetwork
from llama_index.packs.mixture_of_agents.gate.order import check_same
from llama_index.packs.mixture_of_agents.gate.question_features import QuestionFeatures
from llama_index.packs.mixture_of_agents.gate.readings import Reader
from llama_index.packs.mixture_of_agents.gate.rules import RuleGate
from llama_index.packs.mixture_of_agents.gate.scoring_gate import Scorer, ScoringGate
from llama_index.packs.mixture_of_agents.gate.soundness import check_sound, finite, refused_constant, whole

if TYPE_CHECKING:
    from llama_index.core.base.embeddings.base import BaseEmbedding

SCHEMA = 1
MANIFEST = "gate.json"
ARRAYS = "arrays.safetensors"

AnyGate = CascadeGate | GatedCascade | ScoringGate | RuleGate
"""A gate of this package's own."""


def save_gate(gate: AnyGate, path: str | os.PathLike[str]) -> Path:
    """Write a gate into a folder, which is made where it is not there; a gate that is there is replaced.

    Args:
        gate: Of one of this package's kinds.
        path: The folder.

    Raises:
        ConfigurationError: It cannot be written.
        MissingExtraError: The gate has arrays, and safetensors is not installed.
    """
    folder = Path(path)
    arrays = _arrays(gate)
    packed = _packed(arrays) if arrays else None
    manifest = {"schema": SCHEMA, "kind": gate.name, "models": list(gate.models), **_content(gate)}
    if packed is not None:
        manifest["arrays_sha256"] = hashlib.sha256(packed).hexdigest()
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Whole files alone, the manifest last: whoever stops in between leaves the gate that was there, or
        # one whose arrays are seen not to be its own.
        if packed is not None:
            _put(folder / ARRAYS, packed)
        _put(folder / MANIFEST, text.encode("utf-8"))
        if packed is None:
            (folder / ARRAYS).unlink(missing_ok=True)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"The gate cannot be written to {folder} ({error}). Name a folder."
        ) from error
    return folder


def _put(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def read_gate(
    path: str | os.PathLike[str],
    proposers: Sequence[str] | None = None,
    embed_model: BaseEmbedding | None = None,
) -> AnyGate:
    """Read a gate; the arguments and errors are `protocol.load_gate`'s."""
    folder = Path(path)
    manifest = _manifest(folder)
    if proposers is not None:
        check_same(manifest["models"], proposers)
    try:
        gate = _gate(manifest, folder, embed_model)
        check_sound(gate, manifest["models"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"{folder / MANIFEST} is damaged ({type(error).__name__}: {error}). Train the gate again: "
            "moa gate train."
        ) from error
    return gate


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    try:
        found: Any = json.loads(
            file.read_text(encoding="utf-8"),
            parse_constant=refused_constant,
            parse_float=finite,
            parse_int=whole,
        )
    except OSError as error:
        raise ConfigurationError(
            f"There is no gate at {folder} ({error}). Make one with: moa gate train FILE -o {folder}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}. Train the gate again.") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, int) or not isinstance(found.get("models"), list):
        raise ConfigurationError(f"{file} is no gate of this package. Pass a folder of `moa gate train`.")
    if schema > SCHEMA:
        raise ConfigurationError(
            f"{file} is of gate schema {schema}, and this version reads up to {SCHEMA}. "
            "Run: pip install -U llama-index-packs-mixture-of-agents"
        )
    kept: dict[str, Any] = found
    return kept


def _content(gate: AnyGate) -> dict[str, Any]:
    if isinstance(gate, RuleGate):
        return {"settings": gate.described()}
    if isinstance(gate, GatedCascade):
        return {
            "settings": gate.described(),
            "straight": gate.straight,
            "facts": gate.facts,
            "network": _content(gate.network),
            "cascade": _content(gate.cascade),
        }
    common = {
        "settings": gate.described(),
        "threshold": gate.threshold,
        "extract": gate.jury.reader.extract,
        "jury": gate.jury.as_json(),
        "facts": dict(gate.facts),
    }
    if isinstance(gate, CascadeGate):
        return common | {
            "groups": [list(group) for group in gate.groups],
            "scales": [vars(scale) for scale in gate.scales],
            "accuracies": dict(gate.accuracies),
        }
    return common | {
        "top_k": gate.top_k,
        "embed": gate.embed,
        "scales": [vars(scale) for scale in gate.scorer.scales],
    }


def _gate(kept: Mapping[str, Any], folder: Path, embed_model: BaseEmbedding | None) -> AnyGate:
    kind = kept["kind"]
    if kind == "rules":
        return RuleGate(kept["settings"]["rules"], kept["settings"]["otherwise"])
    if kind not in ("cascade", "gated", "neighbours", "network"):
        raise ConfigurationError(f"{folder} holds a gate of the kind {shown(kind)}, which is not known here.")
    if kind == "cascade":
        return _cascade(kept)
    arrays = _unpacked(folder / ARRAYS, kept["arrays_sha256"])
    if kind == "gated":
        network = _scoring("network", kept["models"], kept["network"], arrays, embed_model)
        return GatedCascade(network, _cascade(kept["cascade"]), float(kept["straight"]), kept["facts"])
    return _scoring(kind, kept["models"], kept, arrays, embed_model)


def _cascade(kept: Mapping[str, Any]) -> CascadeGate:
    groups = [tuple(group) for group in kept["groups"]]
    jury, scales, threshold = _learned(kept)
    return CascadeGate(groups, jury, scales, threshold, kept["accuracies"], kept["facts"])


def _scoring(
    kind: str,
    models: Sequence[str],
    kept: Mapping[str, Any],
    arrays: Mapping[str, Any],
    embed_model: BaseEmbedding | None,
) -> ScoringGate:
    jury, scales, threshold = _learned(kept)
    features = QuestionFeatures(_embedding(kept["embed"], embed_model))
    scorer = Scorer(features, _model(kind, arrays), scales)
    top_k, embed = int(kept["top_k"]), kept["embed"]
    return ScoringGate(kind, tuple(models), scorer, jury, threshold, top_k, kept["facts"], embed)


def _learned(kept: Mapping[str, Any]) -> tuple[Jury, list[Platt], float]:
    jury = Jury.from_json(Reader(kept["extract"]), kept["jury"])
    scales = [Platt(float(scale["slope"]), float(scale["offset"])) for scale in kept["scales"]]
    return jury, scales, float(kept["threshold"])


def _model(kind: str, arrays: Mapping[str, Any]) -> Neighbours | GatingNetwork:
    return Neighbours(**arrays) if kind == "neighbours" else GatingNetwork(**arrays)


def embedding_named(name: str) -> BaseEmbedding:
    """The embedding model of that name that this package brings: "minilm".

    Raises:
        ConfigurationError: There is none of that name.
    """
    from llama_index.packs.mixture_of_agents.gate.minilm import NAME, MiniLMEmbedding

    if name == NAME:
        return MiniLMEmbedding()
    raise ConfigurationError(
        f"There is no embedding model {shown(name)} here; known is {NAME!r}. In Python, any LlamaIndex "
        "embedding model may be passed as embed_model."
    )


def _embedding(name: str | None, given: BaseEmbedding | None) -> BaseEmbedding | None:
    if name is None:
        return None
    return given if given is not None else embedding_named(name)


def _arrays(gate: AnyGate) -> dict[str, Any]:
    if isinstance(gate, GatedCascade):
        return _arrays(gate.network)
    return gate.scorer.model.arrays() if isinstance(gate, ScoringGate) else {}


def _packed(arrays: Mapping[str, Any]) -> bytes:
    _need_safetensors()
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _unpacked(path: Path, digest: str) -> dict[str, Any]:
    _need_safetensors()
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        packed = path.read_bytes()
        arrays = load(packed)
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}). Train the gate again.") from error
    if hashlib.sha256(packed).hexdigest() != digest:
        raise ConfigurationError(
            f"{path} is not of the gate beside it. Train the gate again: moa gate train."
        )
    for name, array in arrays.items():
        # Who was not asked is NaN on purpose.
        if np.isinf(array).any() or (name != "right" and np.isnan(array).any()):
            raise ConfigurationError(
                f"{path} holds NaN or infinite numbers in {name!r}. Train the gate again."
            )
    return arrays


def _need_safetensors() -> None:
    if find_spec("safetensors") is None:
        raise MissingExtraError("A gate with a network or neighbours", "gate")
