"""A shape that cannot be kept is refused before anything is computed; what breaks later breaks aloud."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llama_index.packs.mixture_of_agents.errors import (
    ConfigurationError,
    MissingExtraError,
    SparseMoEError,
)
from llama_index.packs.mixture_of_agents.sparse_moe.conversation.constraints import ConstraintFactory
from tests.sparse_moe.conversation.grammars import TOKENS, accept_text, factory, ids_of, write
from tests.sparse_moe.tiny_models import EOS, SPECIAL, tiny_tokenizer


class Unwritable(BaseModel):
    made_by: Callable[[], int]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objec"}, "json_schema is not valid.*Invalid type: objec"),
        ({"not": {"type": "string"}}, r'cannot be enforced: Unimplemented keys: \["not"\]\. Leave that out'),
        ({"type": "string", "format": "moon"}, "Unknown format: moon"),
        ({"type": "string", "minLength": 2, "maxLength": 1}, "Unsatisfiable schema"),
        ({"$ref": "https://example.invalid/schema"}, "https://example.invalid/schema"),
        ({"enum": [object()]}, "cannot be written as JSON.*type object"),
        ({"const": float("nan")}, "cannot be written as JSON"),
        ({"enum": [1, 2**53 + 1]}, "9007199254740993 has more digits than can be kept"),
        ({"const": 10**400}, "too large"),
        (Unwritable, "cannot be written as JSON"),
        ("{}", "json_schema='{}' is not valid; it must be a JSON schema as a dict"),
        (int, "it must be a JSON schema as a dict, or a pydantic model class"),
    ],
)
def test_schemas_that_cannot_be_held_are_refused(schema: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        factory().json(schema)
    assert "non-verbose" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(ab", "regex is not valid(?s:.*)unclosed group"),
        ("a(?=b)", "look-ahead"),
        (r"[^\s\S]", "regex matches no text that this model's tokens can begin"),
        (7, "regex=7 is not valid; it must be a text"),
    ],
)
def test_patterns_that_cannot_be_held_are_refused(pattern: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        factory().regex(pattern)


def _wordy_tokenizer(**vocabulary: int) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({"a": 0, "<end>": EOS, **vocabulary}, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")


def _tokenizer_without(letter: str) -> PreTrainedTokenizerFast:
    """Bytes as in `tiny_tokenizer`, but one."""
    letters = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {letter})
    core = Tokenizer(models.BPE({token: index for index, token in enumerate([*SPECIAL, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=SPECIAL[EOS])


@pytest.mark.parametrize(
    ("tokenizer", "stop_ids", "message"),
    [
        (PreTrainedTokenizerBase(), {EOS}, "need a fast tokenizer, and PreTrainedTokenizerBase is none"),
        (_wordy_tokenizer(b=2), {EOS}, "whose tokens do not tell their bytes"),
        (tiny_tokenizer(), set[int](), r"need a token that ends the answer; the model names \[\]"),
        (tiny_tokenizer(), {400}, r"the model names \[400\], none among the tokenizer's 259"),
        (_tokenizer_without("b"), {EOS}, "matches no text that this model's tokens can begin"),
    ],
)
def test_tokenizers_that_do_not_do_are_refused(
    tokenizer: PreTrainedTokenizerBase, stop_ids: set[int], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ConstraintFactory(tokenizer, 500, stop_ids).regex("b")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match=r"mixture-of-agents\[sparse-moe\]"):
        factory().json({})


def test_a_token_that_does_not_fit_is_an_error() -> None:
    for text, wrong in (("", "x"), ("1", "x"), ("12", "3")):
        constraint = accept_text(factory().regex("[0-9]{2}"), text)
        with pytest.raises(SparseMoEError, match="the answer left its json_schema or regex"):
            accept_text(constraint, wrong)
    ended = accept_text(factory().regex("[0-9]+"), "1")
    ended.accept(EOS)
    with pytest.raises(SparseMoEError, match="does not fit"):
        accept_text(ended, "2")
    with pytest.raises(SparseMoEError, match=f"token {EOS} does not fit"):
        factory().regex("[0-9]{2}").accept(EOS)


def test_after_an_error_nothing_is_allowed() -> None:
    constraint = factory().regex("[0-9]")
    with pytest.raises(SparseMoEError):
        accept_text(constraint, "x")
    with pytest.raises(SparseMoEError, match="no token can come next"):
        constraint.mask(torch.zeros(TOKENS))
    assert constraint.stuck


def test_a_model_that_rules_out_what_is_left_is_an_error() -> None:
    """The largest of scores that are all minus infinity would be the first token, which is forbidden."""
    logits_V = torch.zeros(TOKENS)
    logits_V[ids_of("0123456789")] = float("-inf")
    with pytest.raises(SparseMoEError, match="no token can come next"):
        factory().regex("[0-9]").mask(logits_V)


def test_a_grammar_that_the_tokens_cannot_spell_gets_stuck_aloud() -> None:
    tokenizer = _tokenizer_without("b")
    constraint = ConstraintFactory(tokenizer, len(tokenizer), {EOS}).regex("[ac]b")
    with pytest.raises(SparseMoEError, match="make sure that the tokenizer is the model's own"):
        write(constraint, scores=lambda generator: torch.randn(len(tokenizer), generator=generator))
