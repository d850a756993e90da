"""Answers of a given shape: before a token is chosen, those that would break a grammar are ruled out.

llguidance keeps the grammar's state and says, one bit per token, what may come next; here its bits become
scores and its complaints our errors. This file knows neither engine nor prompts. Nobody tells the model
which shape is wanted, so the prompt should: the grammar only forbids, it does not explain.

Shapes: V vocabulary, the rows of the model's embedding (padding rows included).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, SparseMoEError
from llama_index.packs.mixture_of_agents.sparse_moe.loading import require_extra

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from numpy.typing import NDArray
    from pydantic import BaseModel
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

# One line break and a moderate indent: a small model that likes blanks would otherwise write them until its
# tokens are used up, and every one of them would be valid JSON.
JSON_WHITESPACE = r"\n? {0,16}"


class GrammarConstraint:
    """Holds one answer to a grammar. It has state: each request needs one of its own.

    The engine's thread calls `mask` and `accept` in turn; `finished` and `complete` may be read anywhere.

    Args:
        matcher: The grammar's state, at its beginning.
        vocabulary: Number of token ids the model knows; from there on all are forbidden.
        stop_ids: Tokens that end an answer, allowed wherever the text is complete.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: int, stop_ids: Collection[int]) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._stop_ids = np.array(sorted(stop_ids), dtype=np.int64)
        self._finished = False
        self._complete = matcher.is_accepting()

    @property
    def finished(self) -> bool:
        """Whether the text is complete and nothing may follow, or its end was chosen."""
        return self._finished

    @property
    def complete(self) -> bool:
        """Whether the text so far satisfies the grammar.

        An answer that ended for its length while this is False is a fragment. It can be True before
        `finished` is: "12" matches `[0-9]+`, and so would "123".
        """
        return self._complete

    @property
    def stuck(self) -> bool:
        """Whether no token at all may come next, not even one that ends the answer."""
        return not bool(self._allowed(self._vocabulary).any())

    def mask(self, logits_V: Tensor) -> Tensor:
        """Rule out the tokens that may not come next.

        Args:
            logits_V: Scores of the next token, any float dtype, any device; left as they are.

        Returns:
            New scores (V), minus infinity where a token is forbidden.

        Raises:
            SparseMoEError: None is left: the grammar, or the model's own scores, rule out all of them.
        """
        allowed_V = torch.from_numpy(self._allowed(logits_V.numel())).to(logits_V.device)
        scores_V = logits_V.masked_fill(~allowed_V, float("-inf"))
        if bool(scores_V.max() == float("-inf")):
            raise self._broken("no token can come next")
        return scores_V

    def accept(self, token_id: int) -> None:
        """Take note of the token that was chosen.

        Raises:
            SparseMoEError: The grammar does not allow it here.
        """
        if token_id in self._stop_ids:
            fits = self._complete
            self._finished = True
        else:
            fits = not self._finished and self._matcher.consume_token(token_id)
            self._complete = self._matcher.is_accepting()
            self._finished = self._matcher.is_stopped()
        if not fits:
            raise self._broken(f"token {token_id} does not fit")

    def _allowed(self, width: int) -> NDArray[np.bool_]:
        """Which of the first `width` token ids may come next."""
        allowed_V = np.zeros(width, dtype=np.bool_)
        known = min(width, self._vocabulary)
        if not self._finished:
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            allowed_V[:known] = np.unpackbits(bits, count=known, bitorder="little")
        # Not as the library has it: where it knows no way on, it offers the end of an incomplete text.
        allowed_V[self._stop_ids[self._stop_ids < known]] = self._complete
        return allowed_V

    def _broken(self, what: str) -> SparseMoEError:
        message = _complaint(self._matcher) or "the grammar and the tokens of this model have no way on"
        return SparseMoEError(
            f"the answer left its json_schema or regex: {what} ({message}). Simplify it, and make sure that "
            "the tokenizer is the model's own"
        )


class ConstraintFactory:
    """Makes constraints for the answers of one model.

    What llguidance needs to know of the tokenizer is built when the first constraint is made (up to a
    second for 50,000 tokens) and kept. Safe to use from several threads.

    Args:
        tokenizer: The model's own; a fast one.
        vocabulary: Number of token ids the model knows, which may be more than the tokenizer has.
        stop_ids: Tokens that end an answer, at least one.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, stop_ids: Collection[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._stop_ids = frozenset(stop_ids)
        self._building = threading.Lock()
        self._tokens: LLTokenizer | None = None

    def json(self, schema: Mapping[str, Any] | type[BaseModel]) -> GrammarConstraint:
        """Hold an answer to a JSON schema (draft 2020-12).

        Properties come in the schema's order. A known keyword that cannot be enforced is refused, never
        ignored; between values there is at most one line break and 16 spaces.

        Args:
            schema: The schema, or a pydantic model that has one. `{}` allows any JSON.

        Returns:
            A constraint for one request.

        Raises:
            ConfigurationError: The schema is not valid, or asks for what cannot be enforced.
            MissingExtraError: llguidance is not installed.
        """
        text = _schema_text(schema)
        tokens = self._llguidance_tokens()
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_json_schema(text, defaults={"whitespace_pattern": JSON_WHITESPACE})
        return self._constraint("json_schema", tokens, grammar)

    def regex(self, pattern: str) -> GrammarConstraint:
        """Hold an answer to a regular expression, which the whole text must match.

        Args:
            pattern: In the syntax of Rust's regex crate: no look-around, no back-references, and classes are
                those of Unicode (for a digit write `[0-9]`, else other scripts' come too).

        Returns:
            A constraint for one request.

        Raises:
            ConfigurationError: The pattern is not valid, or matches no text.
            MissingExtraError: llguidance is not installed.
        """
        if not isinstance(pattern, str):
            raise ConfigurationError(f"regex={pattern!r} is not valid; it must be a text")
        tokens = self._llguidance_tokens()
        from llguidance import LLMatcher

        return self._constraint("regex", tokens, LLMatcher.grammar_from_regex(pattern))

    def _constraint(self, option: str, tokens: LLTokenizer, grammar: str) -> GrammarConstraint:
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(tokens, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise ConfigurationError(
                f"{option} is not valid, or asks for what cannot be enforced: {_complaint(matcher)}. Leave "
                "that out, and ask for it in the prompt"
            )
        constraint = GrammarConstraint(matcher, self._vocabulary, self._stop_ids)
        if constraint.stuck:
            raise ConfigurationError(
                f"{option} matches no text that this model's tokens can begin; give one that does"
            )
        return constraint

    def _llguidance_tokens(self) -> LLTokenizer:
        require_extra("Output of a given shape", "llguidance")
        with self._building:
            if self._tokens is None:
                self._tokens = _read_tokenizer(self._tokenizer, self._stop_ids)
            return self._tokens


def _read_tokenizer(tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> LLTokenizer:
    """Tell llguidance what bytes each token stands for."""
    from llguidance.hf import from_tokenizer
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigurationError(
            f"json_schema and regex need a fast tokenizer, and {type(tokenizer).__name__} is none; save it "
            "as tokenizer.json and open the model with that"
        )
    known = sorted(stop_id for stop_id in stop_ids if stop_id < len(tokenizer))
    if not known:
        raise ConfigurationError(
            f"json_schema and regex need a token that ends the answer; the model names {sorted(stop_ids)}, "
            f"none among the tokenizer's {len(tokenizer)}. Set eos_token_id in its config"
        )
    try:
        return from_tokenizer(tokenizer, eos_token=known)
    except ValueError as problem:
        raise ConfigurationError(
            f"json_schema and regex cannot be used with this tokenizer, whose tokens do not tell their bytes "
            f"({problem}); use one with byte-level or byte-fallback tokens"
        ) from problem


def _schema_text(schema: object) -> str:
    """Write a schema as JSON text, its properties in their order."""
    try:
        own_schema = getattr(schema, "model_json_schema", None)
        written = own_schema() if isinstance(schema, type) and own_schema is not None else schema
        if isinstance(written, Mapping):
            text = json.dumps(dict(written), allow_nan=False)
            json.loads(text, parse_int=_exact)
            return text
    # Pydantic has errors of its own for types that no JSON can hold.
    except Exception as problem:
        raise ConfigurationError(
            f"json_schema cannot be written as JSON for the grammar: {problem}"
        ) from problem
    raise ConfigurationError(
        f"json_schema={schema!r} is not valid; it must be a JSON schema as a dict, or a pydantic model class"
    )


def _exact(digits: str) -> int:
    """Refuse whole numbers that llguidance, which counts in 64-bit floats, would round without a word."""
    number = int(digits)
    if number != int(float(number)):
        raise ValueError(f"{number} has more digits than can be kept; use whole numbers up to {2**53}")
    return number


def _complaint(matcher: LLMatcher) -> str:
    """What the library says went wrong, without the remark that it could say more."""
    return matcher.get_error().partition("\n<")[0].strip()
