"""A mixture is checked before any call: what is refused, who is seated, what names a run."""

from __future__ import annotations

import inspect
import math
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.llms.openai import OpenAI
from pydantic import PrivateAttr

from llama_index.packs.mixture_of_agents import ConfigurationError, Proposer, prompts
from llama_index.packs.mixture_of_agents.runs.mixture import Mixture, seat_mixture
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

QUESTION = [ChatMessage(content="Why?")]


def models(count: int = 2) -> list[ScriptedLLM]:
    return [ScriptedLLM("x", model=f"m{n}") for n in range(count)]


def aggregator() -> ScriptedLLM:
    return ScriptedLLM("x", model="g")


def names(mixture: Mixture) -> list[list[str]]:
    return [[seat.name for seat in layer] for layer in mixture.layers]


class Watching:
    """A policy."""

    async def before(self, call: object) -> None: ...

    async def after(self, call: object, outcome: object) -> None: ...


async def in_time(layer: int, proposers: list[Proposer], wanted: int) -> list[Proposer]:
    return proposers


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
        ({"nb_models_by_layer": 2.0}, "nb_models_by_layer"),
        ({"nb_models_by_layer": [1, "2"]}, "nb_models_by_layer .*found '2'"),
        ({"nb_models_by_layer": [1.5, 1.5]}, "nb_models_by_layer"),
        ({"nb_models_by_layer": {1, 2}}, "nb_models_by_layer .*found a set of 1, 2"),
        ({"nb_models_by_layer": True}, "nb_models_by_layer"),
        ({"timeout": "5"}, "timeout .*found '5'"),
        ({"timeout": [1]}, "timeout .*found a list of 1"),
        ({"timeout": 10**400}, "timeout"),
        ({"timeout": 10**5000}, "timeout"),
        ({"timeout": math.inf}, "timeout .*None for no limit"),
        ({"timeout": True}, "timeout"),
        ({"layer_timeout": "1"}, "layer_timeout"),
        ({"layer_timeout": math.inf}, "layer_timeout"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": math.nan}, "max_tokens"),
        ({"max_tokens": math.inf}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"quorum": "1"}, "quorum"),
        ({"quorum": math.nan}, "quorum"),
        ({"quorum": 1.5}, "quorum"),
        ({"quorum": True}, "quorum"),
        ({"quorum_grace": None}, "quorum_grace"),
        ({"quorum_grace": math.inf}, "quorum_grace"),
        ({"max_concurrency": "1"}, "max_concurrency"),
        ({"max_concurrency": 1.5}, "max_concurrency"),
        ({"max_concurrency": math.nan}, "max_concurrency"),
        ({"max_concurrency": True}, "max_concurrency"),
        ({"max_retries": None}, "max_retries"),
        ({"max_retries": math.nan}, "max_retries"),
        ({"max_retries": math.inf}, "max_retries"),
        ({"policies": None}, "policies"),
        ({"policies": [object()]}, "policies"),
        ({"policies": object()}, "policies"),
        ({"policies": [Watching]}, "policies .*found a list of the class Watching"),
        ({"strategy": [1]}, "Unknown strategy a list of 1"),
        ({"strategy": {}}, "Unknown strategy a dict"),
        ({"strategy": None}, "Unknown strategy None"),
        ({"strategy": lambda layer: []}, "these three arguments"),
        ({"strategy": lambda layer, proposers, wanted: proposers[0]}, "a list of Proposer"),
        ({"strategy": lambda layer, proposers, wanted: None}, "returned None"),
        ({"strategy": in_time}, "returned a coroutine"),
        ({"finish": "votes"}, "finish must be one of .*found 'votes'"),
        ({"roles": "never"}, "roles must be 'run' or 'layer' or 'fixed'"),
        ({"pass_on": "all"}, "pass_on must be 'proposals' or 'condensed'"),
        ({"pick": "best"}, "pick must be 'cycle' or 'sample'"),
        ({"pick_seed": "x"}, "pick_seed"),
        ({"temperatures": [0.1]}, "temperatures belong to strategy='temperature'"),
        ({"stop_early": 0.9}, "stop_early must be agreement.Agreement"),
        ({"meter": 1}, "meter must be"),
        ({"config": [1]}, "config must be a mapping"),
        ({"config": {"x": object()}}, "config must be values that JSON can hold"),
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


@pytest.mark.parametrize(
    "options",
    [
        {"role": 5},
        {"name": 5},
        {"name": ["x"]},
        {"name": ""},
        {"name": " "},
        {"timeout": "5"},
        {"timeout": math.inf},
        {"timeout": 0},
        {"seed": "x"},
        {"seed": True},
        {"max_tokens": "5"},
        {"temperature": "0.5"},
    ],
    ids=str,
)
def test_a_proposers_option_that_cannot_work_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} must be"):
        Proposer(models(1)[0], **options)
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} must be"):
        Proposer(models(1)[0]).replaced(**options)


@pytest.mark.parametrize("model", [subprocess, OpenAI, FunctionAgent], ids=repr)
def test_a_module_or_a_class_is_no_proposer(model: object) -> None:
    with pytest.raises(ConfigurationError, match=r"found the (module|class) \w+\. Pass an LLM object"):
        Proposer(model)


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_model_its_class_does_not_know_is_refused_with_a_way_out(name: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"Unknown model 'my-finetune'.*OpenAILike"):
        Proposer(OpenAI(model="my-finetune", api_key="sk-secret"), name=name)


def test_no_message_shows_a_callers_key() -> None:
    llm = OpenAI(model="gpt-4o", api_key="sk-secret")
    wrong: list[dict[str, Any]] = [
        {"proposers": llm},
        {"proposers": {llm.model: llm}},
        {"proposers": [{"llm": llm}]},
        {"proposers": [[llm], llm]},
        {"aggregator": [llm]},
        {"aggregator": {"llm": llm}},
        *({name: llm} for name in inspect.signature(seat_mixture).parameters if name != "aggregator"),
        *({name: [llm]} for name in ("strategy", "policies", "nb_models_by_layer", "timeout", "finish")),
    ]
    for options in wrong:
        with pytest.raises(ConfigurationError) as raised:
            seat_mixture(**{"proposers": models(), "aggregator": aggregator(), **options})
        assert "sk-secret" not in str(raised.value)
    for options in ({"name": llm}, {"role": llm}, {"timeout": llm}, {"seed": llm}, {"temperature": [llm]}):
        with pytest.raises(ConfigurationError) as raised:
            Proposer(llm, **options)
        assert "sk-secret" not in str(raised.value)


def test_one_model_without_its_list_is_named_by_its_type_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"found an OpenAI.*into a list"):
        seat_mixture(OpenAI(model="gpt-4o", api_key="sk-secret"), aggregator())
    with pytest.raises(ConfigurationError, match="found a list of ScriptedLLM"):
        seat_mixture(models(), models(1))


class Historian(Proposer):
    def __init__(self, llm: ScriptedLLM, century: int) -> None:
        super().__init__(llm, role=f"You know the {century}th century.")
        self.century = century


@pytest.mark.parametrize("strategy", ["model", "role", "temperature", "self"])
def test_a_proposer_of_a_class_of_ones_own_stays_one(strategy: str) -> None:
    one = Historian(models(1)[0], 18)
    mixture = seat_mixture([one, one, one], aggregator(), num_layers=2, strategy=strategy)
    seated = [seat.proposer for seat in mixture.layers[0]]
    assert [(type(p), getattr(p, "century", 0), p.role) for p in seated] == [(Historian, 18, one.role)] * 3
    assert names(mixture) == [["m0", "m0-2", "m0-3"]]
    assert (one.name, one.sampling.given()) == ("m0", {})


def test_a_replaced_setting_can_be_taken_away_and_an_unknown_one_is_refused() -> None:
    own = Proposer(models(1)[0], temperature=0.1, seed=7)
    assert own.replaced(temperature=None).sampling.given() == {"seed": 7}
    with pytest.raises(TypeError, match="takes no colour"):
        own.replaced(colour="red")


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


def one_seat(model: Any, **settings: Any) -> str:
    return seat_mixture([Proposer(model, name="same", **settings)], aggregator()).fingerprint(QUESTION)


def test_a_role_a_model_and_its_class_each_have_a_fingerprint_of_their_own() -> None:
    class Other(ScriptedLLM):
        def __init__(self) -> None:
            super().__init__("x", model="m")

    class Agent:
        name = "m"

        def run(self, **_: object) -> None: ...

    prints = [
        one_seat(ScriptedLLM("x", model="m")),
        one_seat(ScriptedLLM("x", model="m"), role="A poet."),
        one_seat(ScriptedLLM("x", model="n")),
        one_seat(Other()),
        one_seat(Agent()),
    ]
    assert len(set(prints)) == len(prints)
    assert one_seat(ScriptedLLM("other words", model="m")) == prints[0]


def test_who_begins_to_share_a_prefix_reads_other_prompts_and_has_another_fingerprint() -> None:
    class LocalLLM(ScriptedLLM):
        _key: str | None = PrivateAttr(default=None)

        def __init__(self, model: str, key: str | None) -> None:
            super().__init__("x", model=model)
            self._key = key

        @property
        def prefix_sharing_key(self) -> str | None:
            return self._key

    def local(key: str | None) -> str:
        proposers = [LocalLLM("a", key), LocalLLM("b", key)]
        return seat_mixture(proposers, aggregator()).fingerprint(QUESTION)

    assert local("weights") == local("other weights") != local(None)


@pytest.mark.parametrize("prompt", ["AGGREGATE", "REFINE", "MATERIAL", "ABSENT", "HOW_TO_REPLY"])
def test_other_prompts_have_another_fingerprint(monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    before = fingerprint()
    monkeypatch.setattr(prompts, prompt, "other words")
    assert fingerprint() != before


def test_whatever_a_message_holds_it_has_a_fingerprint_that_stays() -> None:
    class Thing:
        pass

    def asked() -> list[ChatMessage]:
        kwargs = {"thing": Thing(), "set": {1}, "nested": [{"thing": Thing(), "bytes": b"x"}]}
        return [ChatMessage(content="half a pair: \ud83d", additional_kwargs=kwargs)]

    assert fingerprint(asked()) == fingerprint(asked()) != fingerprint()


def test_a_question_with_an_image_has_a_fingerprint_of_its_own() -> None:
    def shown(image: bytes) -> list[ChatMessage]:
        return [
            ChatMessage(blocks=[TextBlock(text="Why?"), ImageBlock(image=image, image_mimetype="image/png")])
        ]

    assert fingerprint(shown(b"one")) == fingerprint(shown(b"one"))
    assert len({fingerprint(), fingerprint(shown(b"one")), fingerprint(shown(b"two"))}) == 3
