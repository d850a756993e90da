"""Whatever the model would rather say, the answer has the shape that was asked for."""

from __future__ import annotations

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import llguidance.hf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import BaseModel, Field
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.constraints import (
    ConstraintFactory,
    GrammarConstraint,
)
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from llama_index.packs.mixture_of_agents.sparse_moe.requests import SamplingSettings
from llama_index.packs.mixture_of_agents.sparse_moe.serving.decoding import seeded_generator
from llama_index.packs.mixture_of_agents.sparse_moe.serving.sampling import choose_token
from tests.sparse_moe.conversation.grammars import (
    SCHEMAS,
    TOKENS,
    Schema,
    accept_text,
    allowed,
    factory,
    ids_of,
    noise,
    object_schema,
    text_of,
    write,
)
from tests.sparse_moe.tiny_models import EOS, SPECIAL, Recorder, asking, tiny_tokenizer


@given(schema=SCHEMAS, seed=st.integers(0, 2**32), temperature=st.sampled_from([0.0, 0.7, 5.0]))
@settings(max_examples=150, deadline=None)
def test_every_answer_is_json_of_its_schema(schema: Schema, seed: int, temperature: float) -> None:
    constraint = factory().json(schema)
    answer = json.loads(text_of(write(constraint, seed, temperature)))
    Draft202012Validator(schema).validate(answer)
    assert constraint.complete


@pytest.mark.parametrize("temperature", [0.0, 2.0])
@pytest.mark.parametrize(
    "pattern",
    [
        "[0-9]{3}-[0-9]{4}",
        "(yes|no)",
        "[a-z]+( [a-z]+)*[.]",
        "[0-9]/[0-9]",
        "ä{1,3}ö?€",
        ".{0,40}",
        "",
        "^a$",
    ],
)
def test_every_answer_matches_the_whole_pattern(pattern: str, temperature: float) -> None:
    for seed in range(20):
        assert re.fullmatch(pattern, text_of(write(factory().regex(pattern), seed, temperature)))


def test_classes_are_those_of_unicode() -> None:
    """So the short form for a digit is no way to ask for 0 to 9."""
    assert accept_text(factory().regex(r"\d{2}"), "7\u0667").complete


def test_answers_differ_with_the_seed() -> None:
    texts = {text_of(write(factory().regex("[a-z]{8}"), seed)) for seed in range(10)}
    assert len(texts) == 10


def test_properties_come_in_the_schemas_order() -> None:
    members = {name: {"type": "boolean"} for name in ("second", "first", "third")}
    assert list(json.loads(text_of(write(factory().json(object_schema(members, True)))))) == list(members)


def test_a_model_that_loves_blanks_comes_to_an_end() -> None:
    def blanks(generator: torch.Generator) -> Tensor:
        scores_V = noise(generator)
        scores_V[ids_of(" \n\t")] = 100.0
        return scores_V

    members: dict[str, Schema] = {
        "a": {"const": 1},
        "b": {"type": "array", "items": {"const": 2}, "maxItems": 2},
    }
    text = text_of(write(factory().json(object_schema(members, True)), scores=blanks))
    assert re.search(r"\n {16}", text)
    assert max(map(len, re.findall(r"\s+", text))) <= len("\n" + 16 * " ")
    Draft202012Validator(object_schema(members, True)).validate(json.loads(text))


def test_pretty_printed_json_is_allowed() -> None:
    value = {"a": [1, 2], "b": {"c": None}}
    for text in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value, separators=(",", ":"))):
        assert accept_text(factory().json({}), text).finished


def test_a_pydantic_model_is_a_schema() -> None:
    class Part(BaseModel):
        name: str = Field(max_length=5)
        kind: Literal["gate", "expert"]

    class Mixture(BaseModel):
        parts: list[Part] = Field(max_length=2)
        note: str | None = Field(None, max_length=5)
        share: float

    for seed in range(10):
        Mixture.model_validate_json(text_of(write(factory().json(Mixture), seed)))


def test_the_end_is_allowed_where_the_text_is_complete() -> None:
    constraint = factory().regex("[0-9]+")
    digits = set(ids_of("0123456789"))
    assert (allowed(constraint), constraint.complete) == (digits, False)
    accept_text(constraint, "7")
    assert (allowed(constraint), constraint.complete, constraint.finished) == (digits | {EOS}, True, False)
    constraint.accept(EOS)
    assert (allowed(constraint), constraint.complete, constraint.finished) == ({EOS}, True, True)


def test_a_closed_text_is_finished_without_an_end_token() -> None:
    constraint = accept_text(factory().json({"type": "object"}), "{}")
    assert (constraint.finished, constraint.complete, allowed(constraint)) == (True, True, {EOS})


def test_a_fragment_is_not_complete() -> None:
    constraint = accept_text(factory().json({"type": "object"}), '{"a": [1')
    assert (constraint.finished, constraint.complete) == (False, False)


def test_every_stop_token_ends_an_answer() -> None:
    stop_ids = frozenset({EOS, 2, 280})
    for stop_id in stop_ids:
        constraint = factory(300, stop_ids).regex("a*")
        assert allowed(constraint, 300) == {*ids_of("a"), *stop_ids}
        constraint.accept(stop_id)
        assert constraint.finished


def test_control_tokens_and_padding_rows_are_never_text() -> None:
    """Embeddings are often larger than their tokenizer's vocabulary."""
    text_ids = allowed(factory(300).regex("(?s).+"), 320)
    assert len(text_ids) > 150
    assert text_ids.isdisjoint(range(len(SPECIAL)))
    assert max(text_ids) < TOKENS


def test_a_model_with_fewer_tokens_than_its_tokenizer() -> None:
    for width in (100, TOKENS):
        assert allowed(factory(100).regex("[0-9é]"), width) == set(ids_of("0123456789"))
    assert max(ids_of("é")) >= 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_allowed_scores_stay_as_they_are(dtype: torch.dtype) -> None:
    logits_V = torch.randn(TOKENS, generator=seeded_generator(0)).to(dtype)
    before_V, digits = logits_V.clone(), ids_of("0123456789")
    masked_V = factory().regex("[0-9]").mask(logits_V)
    assert masked_V.dtype == dtype
    assert torch.equal(logits_V, before_V)
    assert torch.equal(masked_V[digits], before_V[digits])
    assert int(torch.isfinite(masked_V).sum()) == 10


def test_two_answers_side_by_side_do_not_mix() -> None:
    schema = object_schema({"a": {"type": "integer"}, "b": {"type": "string", "maxLength": 5}}, True)
    alone = [write(factory().json(schema), 3), write(factory().regex("[a-z]{5,50}"), 4)]
    pair = [factory().json(schema), factory().regex("[a-z]{5,50}")]
    generators, together = [seeded_generator(3), seeded_generator(4)], [list[int](), list[int]()]
    sampling = SamplingSettings(1.0, repetition_penalty=1.1)
    while not all(one.finished for one in pair):
        for constraint, generator, ids in zip(pair, generators, together, strict=True):
            if not constraint.finished:
                token_id = choose_token(constraint.mask(noise(generator)), ids, sampling, generator)
                constraint.accept(token_id)
                ids += [token_id] * (token_id != EOS)
    assert together == alone


def test_the_tokenizer_is_read_once_and_late(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, read = [], llguidance.hf.from_tokenizer

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        time.sleep(0.05)
        return read(*args, **kwargs)

    monkeypatch.setattr(llguidance.hf, "from_tokenizer", counted)
    made = ConstraintFactory(tiny_tokenizer(), TOKENS, {EOS})
    assert not calls
    with ThreadPoolExecutor(8) as pool:
        constraints = list(pool.map(made.regex, [f"[0-9]{{{n}}}" for n in range(1, 17)]))
    assert [len(write(one)) for one in constraints] == list(range(1, 17))
    assert len(calls) == 1


def test_nothing_is_compiled_by_torch() -> None:
    """llguidance.torch asks torch.compile for a kernel as soon as it is imported."""
    write(factory().regex("a"))
    assert "llguidance.torch" not in sys.modules


# By the engine, with a model.


def _constrained(engine: Engine, constraint: GrammarConstraint, **changes: Any) -> Recorder:
    recorder = Recorder()
    wanted = {"tokens": 200, "stop_ids": frozenset({EOS}), **changes}
    engine.submit(asking(10, 20, 30, constraint=constraint, **wanted), recorder)
    return recorder


def test_the_engine_holds_each_request_to_its_own_grammar(served: Engine) -> None:
    schema = object_schema({"a": {"type": "integer", "maximum": 99}, "b": {"enum": ["x", "y"]}}, True)
    sampled = [SamplingSettings(temperature, seed=seed) for seed, temperature in enumerate([0.0, 1.0, 3.0])]
    free = Recorder()
    served.submit(asking(tokens=40), free)
    assert free.ending().error is None
    shaped = [_constrained(served, factory().json(schema), sampling=one) for one in sampled]
    beside, dates = Recorder(), _constrained(served, factory().regex("[0-9]{4}-[0-9]{2}"))
    served.submit(asking(tokens=40), beside)
    for recorder in shaped:
        assert recorder.ending().reason == "stop"
        Draft202012Validator(schema).validate(json.loads(text_of(recorder.tokens)))
    assert dates.ending().completion_tokens == 7
    assert re.fullmatch("[0-9]{4}-[0-9]{2}", text_of(dates.tokens))
    assert (beside.ending().error, beside.tokens) == (None, free.tokens)
    assert served.stats().peak_active > 1


def test_an_answer_cut_by_its_length_is_known_as_a_fragment(served: Engine) -> None:
    constraint = factory().json({"type": "array", "items": {"type": "integer"}, "minItems": 50})
    assert _constrained(served, constraint, tokens=10).ending().reason == "length"
    assert not constraint.complete
    numbers = factory().regex("[0-9]{1,50}")
    assert _constrained(served, numbers, tokens=3, stop_ids=frozenset()).ending().reason == "length"
    assert numbers.complete


def test_a_stuck_grammar_fails_its_own_request(served: Engine) -> None:
    spoilt = factory().regex("[0-9]{4}")
    with pytest.raises(SparseMoEError):
        spoilt.accept(EOS)
    stuck, healthy = _constrained(served, spoilt), _constrained(served, factory().regex("[0-9]{4}"))
    assert isinstance(stuck.ending().error, SparseMoEError)
    assert healthy.ending().reason == "stop"
    assert re.fullmatch("[0-9]{4}", text_of(healthy.tokens))
