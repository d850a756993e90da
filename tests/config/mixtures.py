"""Mixtures as data, drawn at random: every field, in the forms people write."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.config import MixtureConfig
from llama_index.packs.mixture_of_agents.config.secrecy import looks_secret
from llama_index.packs.mixture_of_agents.providers.secrecy import is_secret_name

_ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda t: not looks_secret(t))
_NAME = st.text(string.ascii_letters + string.digits + "-_.:/ é\"'#", min_size=1, max_size=12).filter(
    lambda text: bool(text.strip()) and not looks_secret(text) and not is_secret_name(text)
)
_NUMBER = st.floats(0, 2, allow_subnormal=False) | st.integers(0, 2)
_SECONDS = st.floats(0.001, 1e6) | st.integers(1, 10**6)
_SCALAR = _ANY | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e9, 1e9)
_VALUE = st.recursive(
    _SCALAR, lambda v: st.lists(v, max_size=3) | st.dictionaries(_NAME, v, max_size=3), max_leaves=4
)
_EXTRACT = st.sampled_from(["answer", "number", "choice", "text", r"regex:(\d+) in all"])


def _table(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


_SETTINGS = {
    "temperature": _NUMBER,
    "max_tokens": st.integers(1, 9999),
    "seed": st.integers(-5, 5),
    "timeout": _SECONDS,
    "settings": st.dictionaries(_NAME.filter(lambda name: name != "model"), _VALUE, max_size=3),
}
_PROPOSER = _NAME | _table({"model": _NAME}, {**_SETTINGS, "name": _NAME, "role": _ANY})
_PROPOSERS = st.lists(_PROPOSER, max_size=3) | st.lists(
    st.lists(_PROPOSER, min_size=1, max_size=2), min_size=2, max_size=3
)
_FINISH = (
    st.sampled_from(["synthesize", "rank", "vote", "sequential"])
    | _table({"kind": st.just("sequential")}, {"window": st.integers(2, 9)})
    | _table(
        {"kind": st.just("vote")},
        {"extract": _EXTRACT, "weights": st.dictionaries(_NAME, _NUMBER, min_size=1, max_size=2)},
    )
)
_STOP = (
    st.just("agreement")
    | _table({"kind": st.just("agreement")}, {"extract": _EXTRACT, "share": st.floats(0.1, 1)})
    | _table({"kind": st.just("similarity"), "embed_model": _NAME}, {"threshold": st.floats(0.1, 1)})
)
_BUDGET = st.floats(0, 100) | _table(
    {"tokens": st.integers(1, 10**6)},
    {
        **{"usd": _NUMBER, "seconds": _SECONDS, "total": _NUMBER, "total_tokens": st.integers(1, 9)},
        **{"margin": st.floats(1, 10), "shortest_answer": st.integers(1, 300)},
        "degrade": st.lists(st.sampled_from(["skip_refine", "drop_dearest", "short_synthesis"]), unique=True),
    },
)
_TRACE = (
    st.booleans()
    | _NAME
    | _table({"folder": _NAME}, {})
    | _table({}, {"path": _NAME, "redact": st.booleans() | st.lists(st.just(r"\d+"), min_size=1, max_size=2)})
)
_MODELS = st.dictionaries(
    _NAME.map(lambda name: f"my {name}"), _NAME | _table({"model": _NAME}, _SETTINGS), max_size=3
)
_PRICES = st.dictionaries(
    _NAME, _table({"input": _NUMBER, "output": _NUMBER}, {"cached_input": _NUMBER}), max_size=2
)

_COUNT = st.integers(1, 10**6)
_LIMITS = st.dictionaries(
    _NAME,
    _table(
        {"in_flight": _COUNT},
        {"requests_per_minute": _COUNT, "tokens_per_minute": _COUNT, "budget_share": st.floats(0, 1)},
    ),
    max_size=2,
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "proposers": _PROPOSERS,
    "aggregator": _PROPOSER,
    "role_writer": _PROPOSER,
    "num_layers": st.integers(1, 6),
    "strategy": st.sampled_from(["model", "role", "temperature", "self"]),
    "temperatures": st.lists(_NUMBER, min_size=1, max_size=3) | st.just("0.2..1.0") | st.none(),
    "roles": st.sampled_from(["run", "layer", "fixed"]),
    "nb_models_by_layer": st.integers(1, 9) | st.lists(st.integers(1, 9), min_size=1, max_size=3),
    "pick": st.sampled_from(["cycle", "sample"]),
    "pick_seed": st.integers(-9, 9),
    "finish": _FINISH,
    "pass_on": st.sampled_from(["proposals", "condensed"]),
    "temperature": _NUMBER | st.none(),
    "max_tokens": st.integers(1, 9999),
    "timeout": _SECONDS | st.none() | st.just("none"),
    "layer_timeout": _SECONDS,
    "quorum": st.integers(1, 9),
    "quorum_grace": _NUMBER,
    "max_concurrency": st.integers(1, 99),
    "max_retries": st.integers(0, 9),
    "stop_early": _STOP,
    "gate": _NAME,
    "gate_online": st.booleans(),
    "limits": _LIMITS,
    "limits_deadline": _SECONDS | st.just(0),
    "budget": _BUDGET,
    "trace": _TRACE,
    "models": _MODELS,
    "prices": _PRICES,
}
"""What each field may be written as."""

mixtures: st.SearchStrategy[MixtureConfig] = st.fixed_dictionaries({}, optional=VALUES).map(
    lambda values: MixtureConfig(**values)
)
"""Any mixture."""
