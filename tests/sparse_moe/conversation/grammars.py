"""Schemas to try, and the engine's loop without an engine: scores that mean nothing, held to a grammar.

Knows no test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from llama_index.packs.mixture_of_agents.sparse_moe.conversation.constraints import (
    ConstraintFactory,
    GrammarConstraint,
)
from llama_index.packs.mixture_of_agents.sparse_moe.requests import SamplingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving.decoding import seeded_generator
from llama_index.packs.mixture_of_agents.sparse_moe.serving.sampling import choose_token
from tests.sparse_moe.tiny_models import EOS, tiny_tokenizer

TOKENS = 259
LONGEST = 4000
TOKENIZER = tiny_tokenizer()

Schema = dict[str, Any]
Scores = Callable[[torch.Generator], Tensor]

LEAVES: st.SearchStrategy[Schema] = st.one_of(
    st.integers(0, 6).map(lambda longest: {"type": "string", "maxLength": longest}),
    st.tuples(st.integers(-50, 50), st.integers(0, 90)).map(
        lambda span: {"type": "integer", "minimum": span[0], "maximum": span[0] + span[1]}
    ),
    st.lists(st.text(max_size=4) | st.integers(-(2**53), 2**53) | st.booleans(), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from(
        [{"type": "boolean"}, {"type": ["string", "null"], "maxLength": 3}, {"anyOf": [{"type": "null"}]}]
    ),
)


def object_schema(members: dict[str, Schema], required: bool) -> Schema:
    """An object of these members and no others; of optional ones only the first must be there."""
    names = list(members) if required else list(members)[:1]
    return {"type": "object", "properties": members, "required": names, "additionalProperties": False}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.integers(0, 3)).map(
            lambda made: {"type": "array", "items": made[0], "maxItems": made[1]}
        ),
        st.builds(object_schema, st.dictionaries(st.text(max_size=5), inner, max_size=4), st.booleans()),
    ),
    max_leaves=6,
)


@cache
def factory(vocabulary: int = TOKENS, stop_ids: frozenset[int] = frozenset({EOS})) -> ConstraintFactory:
    """Constraints for a token per byte."""
    return ConstraintFactory(TOKENIZER, vocabulary, stop_ids)


def noise(generator: torch.Generator) -> Tensor:
    """Scores of a model that wants nothing in particular."""
    return torch.randn(TOKENS, generator=generator) * 3


def write(
    constraint: GrammarConstraint,
    seed: int = 0,
    temperature: float = 1.0,
    scores: Scores = noise,
    stop_ids: Collection[int] = (EOS,),
) -> list[int]:
    """Do as the engine does, with scores that mean nothing; return the answer's tokens."""
    generator, ids = seeded_generator(seed), list[int]()
    sampling = SamplingSettings(temperature, repetition_penalty=1.1)
    while not constraint.finished:
        assert len(ids) < LONGEST, "it never ended"
        token_id = choose_token(constraint.mask(scores(generator)), ids, sampling, generator)
        constraint.accept(token_id)
        if token_id not in stop_ids:
            ids.append(token_id)
    return ids


def text_of(ids: list[int]) -> str:
    """What tokens say."""
    return str(TOKENIZER.decode(ids))


def ids_of(text: str) -> list[int]:
    """The tokens of a text."""
    return list(TOKENIZER(text)["input_ids"])


def accept_text(constraint: GrammarConstraint, text: str) -> GrammarConstraint:
    """Choose the tokens of a text, one after the other."""
    for token_id in ids_of(text):
        constraint.accept(token_id)
    return constraint


def allowed(constraint: GrammarConstraint, vocabulary: int = TOKENS) -> set[int]:
    """The tokens that may come next."""
    return set(torch.isfinite(constraint.mask(torch.zeros(vocabulary))).nonzero().flatten().tolist())
