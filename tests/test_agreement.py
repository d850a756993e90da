"""Agreement: when proposals are alike enough to stop, by extracted answers and by embeddings."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MockEmbedding
from pydantic import Field

from llama_index.packs.mixture_of_agents.agreement import Agreement, EarlyStop, Similarity
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MixtureError


class Directions(BaseEmbedding):
    """Embeds a text as the vector it writes: "1 0"."""

    latency: float = 0.0
    api_key: str = "secret"
    threads: list[str] = Field(default_factory=list)

    def _get_text_embedding(self, text: str) -> list[float]:
        time.sleep(self.latency)
        self.threads.append(threading.current_thread().name)
        return [float(part) for part in text.split()]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class AsyncOnly(Directions):
    """Has async methods alone."""

    def _get_text_embedding(self, text: str) -> list[float]:
        raise NotImplementedError

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return [1.0, 0.0]


def agreed(rule: EarlyStop, *texts: str) -> str | None:
    return asyncio.run(rule.agreed(texts))


def test_equal_answers_agree_whatever_stands_around_them() -> None:
    texts = ("I think so. The answer is 42.", "#### 42.0", "<think>#### 7</think>answer: 42")
    assert agreed(Agreement(), *texts) == "3 of 3 proposals say 42"


@pytest.mark.parametrize(
    ("share", "texts", "agree"),
    [
        (1.0, ["1", "1", "2"], False),
        (0.6, ["1", "1", "2"], True),
        (2 / 3, ["1", "1", "2"], True),
        (0.7, ["1", "1", "2"], False),
        (0.7, ["1"] * 7 + ["2"] * 3, True),
        (0.1, ["1", "2", "3"], False),
        (1.0, ["1"], False),
        (1.0, [], False),
        (1.0, ["1", ""], False),
        (0.5, ["1", "1", "", ""], True),
        (0.1, ["", ""], False),
    ],
)
def test_so_many_must_have_the_answer_and_two_at_least(share: float, texts: list[str], agree: bool) -> None:
    assert bool(agreed(Agreement("number", share), *texts)) is agree


@given(answers=st.lists(st.sampled_from(["1", "2", ""]), max_size=6), share=st.floats(0.01, 1))
def test_agreement_against_a_slow_count(answers: list[str], share: float) -> None:
    most = max((answers.count(answer) for answer in answers if answer), default=0)
    enough = most >= 2 and most >= share * len(answers) - 1e-6
    assert bool(agreed(Agreement("number", share), *answers)) is enough


def test_an_extractor_of_the_callers_own_is_used_and_its_failure_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def first_letter(text: str) -> str:
        return text[0]

    rule = Agreement(first_letter)
    assert agreed(rule, "ab", "ac") == "2 of 2 proposals say a"
    assert agreed(rule, "ab", "") is None
    assert "IndexError" in caplog.text


def test_a_long_answer_is_cut_in_the_reason() -> None:
    reason = agreed(Agreement("text"), "x" * 500, "x" * 500)
    assert reason is not None
    assert len(reason) < 100


@pytest.mark.parametrize("share", [0, -1, 1.1, "1", None, True])
def test_a_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(ConfigurationError, match="share"):
        Agreement(share=share)


def test_an_extractor_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Unknown extractor 'nubmer'"):
        Agreement("nubmer")


def test_a_rule_describes_itself_as_plain_values() -> None:
    assert Agreement("number", 0.5).described() == {"name": "agreement", "extract": "number", "share": 0.5}
    described = Similarity(Directions(model_name="d"), 0.8).described()
    assert described == {"name": "similarity", "embed_model": "Directions(d)", "threshold": 0.8}
    assert "secret" not in repr(described)


@pytest.mark.parametrize(
    ("texts", "agree"),
    [
        (["1 0", "2 0"], True),
        (["1 0", "1 0.1", "1 -0.1"], True),
        (["1 0", "1 0", "0 1"], False),
        (["1 1", "1 -1"], False),
        (["1 0", "0 0"], False),
        (["1 0", "nan 1"], False),
        (["1 0"], False),
        ([], False),
        (["1 0", " "], False),
    ],
)
def test_the_two_least_alike_decide(texts: list[str], agree: bool) -> None:
    assert bool(agreed(Similarity(Directions(), 0.9), *texts)) is agree


def test_equal_texts_agree_at_a_threshold_of_one() -> None:
    reason = agreed(Similarity(Directions(), 1.0), "0.3 0.7 0.1", "0.3 0.7 0.1")
    assert reason == "the 2 proposals are alike, with a cosine of 1.000 or more"


def test_thinking_is_not_embedded() -> None:
    assert agreed(Similarity(Directions(), 0.99), "<think>0 1</think>1 0", "1 0")


def test_embeddings_are_made_beside_the_loop() -> None:
    model = Directions(latency=0.2)

    async def beside() -> int:
        task = asyncio.ensure_future(Similarity(model).agreed(["1 0", "1 0"]))
        ticks = 0
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.01)
        return ticks

    assert asyncio.run(beside()) > 5
    assert "MainThread" not in model.threads


def test_a_class_with_async_methods_alone_is_used_too() -> None:
    assert agreed(Similarity(AsyncOnly()), "a", "b")


def test_it_works_again_in_another_loop() -> None:
    rule = Similarity(MockEmbedding(embed_dim=3))
    assert agreed(rule, "a", "b")
    assert agreed(rule, "a", "b")


def test_a_model_that_fails_is_an_error_of_ours() -> None:
    with pytest.raises(MixtureError, match="The embedding model Directions failed: ValueError"):
        agreed(Similarity(Directions()), "no number", "1 0")


@pytest.mark.parametrize("model", [None, "local", MockEmbedding, object()])
def test_what_is_no_embedding_model_is_refused(model: Any) -> None:
    with pytest.raises(ConfigurationError, match="embedding model"):
        Similarity(model)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, "0.9", None])
def test_a_threshold_that_is_none_is_refused(threshold: Any) -> None:
    with pytest.raises(ConfigurationError, match="threshold"):
        Similarity(MockEmbedding(embed_dim=3), threshold)
