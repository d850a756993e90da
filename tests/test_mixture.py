"""A mixture is checked before any call: what is refused, who is seated, what names a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock

from llama_index.packs.mixture_of_agents import ConfigurationError, Proposer
from llama_index.packs.mixture_of_agents.mixture import Mixture, seat_mixture
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

QUESTION = [ChatMessage(content="Why?")]


def models(count: int = 2) -> list[ScriptedLLM]:
    return [ScriptedLLM("x", model=f"m{n}") for n in range(count)]


def aggregator() -> ScriptedLLM:
    return ScriptedLLM("x", model="g")


def names(mixture: Mixture) -> list[list[str]]:
    return [[seat.name for seat in layer] for layer in mixture.layers]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"num_layers": -1}, "num_layers"),
        ({"num_layers": 2.5}, "num_layers"),
        ({"num_layers": True}, "num_layers"),
        ({"num_layers": "3"}, "num_layers"),
        ({"quorum": 0}, "quorum"),
        ({"quorum": -1}, "quorum"),
        ({"quorum": 3}, "only 2 proposers"),
        ({"quorum_grace": -0.1}, "quorum_grace"),
        ({"quorum_grace": math.nan}, "quorum_grace"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -5}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"layer_timeout": 0}, "layer_timeout"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"strategy": "vote"}, "'vote'"),
        ({"strategy": lambda layer, proposers, wanted: []}, "seated nobody"),
        ({"nb_models_by_layer": 0}, "nb_models_by_layer"),
        ({"nb_models_by_layer": [2, 0]}, "nb_models_by_layer"),
        ({"nb_models_by_layer": [2]}, "nb_models_by_layer"),
        ({"nb_models_by_layer": [1, 2], "quorum": 2}, "only 1 proposers"),
        ({"finish": "vote"}, "finish"),
        ({"gate": object()}, "gate"),
        ({"budget": 1}, "budget"),
        ({"trace": "t.jsonl"}, "trace"),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    proposers = models()
    with pytest.raises(ConfigurationError, match=says):
        seat_mixture(proposers, aggregator(), **options)
    assert not any(model.calls for model in proposers)


@pytest.mark.parametrize(
    "proposers",
    [
        None,
        [],
        (),
        "gpt-4o",
        ["gpt-4o"],
        [None],
        {"a": 1},
        [object()],
        [[]],
        [models(), []],
        [models(), models(1)[0]],
    ],
    ids=repr,
)
def test_proposers_that_cannot_propose_are_refused(proposers: Any) -> None:
    with pytest.raises(ConfigurationError):
        seat_mixture(proposers, aggregator())


@pytest.mark.parametrize("llm", [None, "gpt-4o", object()], ids=repr)
def test_an_aggregator_that_cannot_answer_is_refused(llm: Any) -> None:
    with pytest.raises(ConfigurationError, match="LLM"):
        seat_mixture(models(), llm)


def test_one_list_too_few_or_too_many_is_refused_with_the_count_wanted() -> None:
    for lists in ([models()], [models(), models(), models()]):
        with pytest.raises(ConfigurationError, match="2 non-empty lists"):
            seat_mixture(lists, aggregator(), num_layers=3)


@given(num_layers=st.integers(1, 6), count=st.integers(1, 6))
def test_layers_are_counted_as_the_paper_does(num_layers: int, count: int) -> None:
    mixture = seat_mixture(models(count), aggregator(), num_layers=num_layers)
    assert mixture.num_layers == num_layers
    assert names(mixture) == [[f"m{n}" for n in range(count)]] * (num_layers - 1)
    assert mixture.width == (count if num_layers > 1 else 1)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_lists_per_round_seat_each_round_from_its_own(sizes: list[int]) -> None:
    rounds = [
        [ScriptedLLM("x", model=f"{layer}.{n}") for n in range(size)] for layer, size in enumerate(sizes, 1)
    ]
    mixture = seat_mixture(rounds, aggregator(), num_layers=len(sizes) + 1)
    assert names(mixture) == [[f"{layer}.{n}" for n in range(size)] for layer, size in enumerate(sizes, 1)]
    assert mixture.width == max(sizes)


def test_one_layer_is_the_aggregator_alone_and_needs_no_proposers() -> None:
    for nobody in (None, [], models()):
        assert seat_mixture(nobody, aggregator(), num_layers=1).layers == ()


@given(kinds=st.lists(st.sampled_from("ab"), min_size=1, max_size=8))
def test_equal_names_get_a_number_and_stay_apart(kinds: list[str]) -> None:
    given_models = [ScriptedLLM("x", model=kind) for kind in kinds]
    (seated,) = names(seat_mixture(given_models, aggregator(), num_layers=2))
    assert len(set(seated)) == len(kinds)
    expected = [f"{k}-{kinds[: n + 1].count(k)}" if k in kinds[:n] else k for n, k in enumerate(kinds)]
    assert seated == expected


def test_a_number_never_collides_with_a_name_somebody_has() -> None:
    given_models = [ScriptedLLM("x", model=name) for name in ("a", "a-2", "a", "a")]
    (seated,) = names(seat_mixture(given_models, aggregator(), num_layers=2))
    assert seated[:2] == ["a", "a-2"]
    assert len(set(seated)) == 4


def test_nb_models_by_layer_says_how_many_sit_where() -> None:
    mixture = seat_mixture(models(2), aggregator(), num_layers=3, nb_models_by_layer=[3, 1])
    assert names(mixture) == [["m0", "m1", "m0-2"], ["m0"]]


def test_a_proposers_own_settings_win_over_the_packs() -> None:
    own = Proposer(models(1)[0], temperature=0.1, seed=7)
    mixture = seat_mixture([own], aggregator(), num_layers=2, temperature=0.9, max_tokens=50)
    assert mixture.layers[0][0].sampling.given() == {"temperature": 0.1, "max_tokens": 50, "seed": 7}
    assert mixture.aggregator.sampling.given() == {"temperature": 0.9, "max_tokens": 50}


def test_a_strategy_of_ones_own_is_told_layer_proposers_and_number() -> None:
    told: list[tuple[int, list[str], int]] = []

    def last_only(layer: int, proposers: Sequence[Proposer], wanted: int) -> list[Proposer]:
        told.append((layer, [proposer.name for proposer in proposers], wanted))
        return [proposers[-1]]

    mixture = seat_mixture(models(3), aggregator(), strategy=last_only, nb_models_by_layer=[2, 3])
    assert told == [(1, ["m0", "m1", "m2"], 2), (2, ["m0", "m1", "m2"], 3)]
    assert names(mixture) == [["m2"], ["m2"]]


def fingerprint(question: Sequence[ChatMessage] = QUESTION, **options: Any) -> str:
    return seat_mixture(models(), aggregator(), **options).fingerprint(question)


def test_equal_mixtures_asked_equal_questions_have_one_fingerprint() -> None:
    assert fingerprint() == fingerprint()
    assert fingerprint(timeout=7, max_concurrency=2, max_retries=0) == fingerprint()


@pytest.mark.parametrize(
    "options",
    [
        {"question": [ChatMessage(content="How?")]},
        {"question": [*QUESTION, *QUESTION]},
        {"question": [ChatMessage(role="system", content="Why?")]},
        {"num_layers": 2},
        {"temperature": 0.5},
        {"strategy": "role"},
        {"nb_models_by_layer": 1},
    ],
    ids=str,
)
def test_another_question_or_mixture_has_another_fingerprint(options: dict[str, Any]) -> None:
    assert fingerprint(**options) != fingerprint()


def test_a_question_with_an_image_has_a_fingerprint_of_its_own() -> None:
    def shown(image: bytes) -> list[ChatMessage]:
        return [
            ChatMessage(blocks=[TextBlock(text="Why?"), ImageBlock(image=image, image_mimetype="image/png")])
        ]

    assert fingerprint(shown(b"one")) == fingerprint(shown(b"one"))
    assert len({fingerprint(), fingerprint(shown(b"one")), fingerprint(shown(b"two"))}) == 3
