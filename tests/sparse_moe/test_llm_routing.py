"""SparseMoELLM's routing options, what it counts, deadlines and shaped answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, Field
from transformers import MixtralForCausalLM

from llama_index.packs.mixture_of_agents.errors import (
    ConfigurationError,
    DeadlineExceededError,
    FragmentError,
)
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM
from llama_index.packs.mixture_of_agents.sparse_moe.options import closed_schema
from tests.sparse_moe import tiny_models
from tests.sparse_moe.tiny_models import oracle_ids, raw, tiny_mixtral, tiny_tokenizer

LONG = "The committee met on Tuesday to discuss the harbour and the new lighthouse. " * 3


class City(BaseModel):
    """A city."""

    name: str = Field(pattern="^[a-z]{1,8}$")
    founded: int = Field(ge=0, le=2000)
    coastal: bool


def _opened(folder: Path | MixtralForCausalLM, **options: Any) -> SparseMoELLM:
    own = None if isinstance(folder, Path) else tiny_tokenizer()
    return SparseMoELLM(folder, own, temperature=0.0, max_new_tokens=12, **options)


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_top_k_computes_what_a_checkpoint_of_that_width_computes(moe_folder: Path, top_k: int) -> None:
    tokenizer = tiny_tokenizer()
    expected = oracle_ids(tiny_mixtral(num_experts_per_tok=top_k), tokenizer("Hello")["input_ids"], 12)
    llm = _opened(moe_folder, top_k=top_k)
    assert llm.complete("Hello").text == tokenizer.decode(expected, True)
    assert all(layer["kept"] == top_k * layer["tokens"] for layer in llm.routing_totals["layers"])


def test_one_loaded_model_under_several_settings_at_once(model: MixtralForCausalLM) -> None:
    free, tight = _opened(model), _opened(model, capacity_factor=0.5, capacity_block=16)

    async def both() -> tuple[Any, ...]:
        return await asyncio.gather(free.acomplete(LONG), tight.acomplete(LONG), free.acomplete(LONG))

    first, limited, again = asyncio.run(both())
    assert first.text == again.text == _opened(model).complete(LONG).text
    assert free.prefix_sharing_key != tight.prefix_sharing_key
    assert raw(first)["sparse_moe"]["dropped_share"] == 0
    assert raw(limited)["sparse_moe"]["dropped_share"] > 0.1
    assert model.model.layers[0].mlp.experts.config is model.config


def test_what_raw_says_of_the_routing(moe_folder: Path) -> None:
    llm = _opened(moe_folder, capacity_factor=1.0, capacity_block=32, overflow="reroute")
    said = raw(llm.complete(LONG))["sparse_moe"]
    assert json.loads(json.dumps(said)) == said
    tokens = len(tiny_tokenizer()(LONG)["input_ids"]) + 12 - 1
    for index, layer in enumerate(said["layers"]):
        assert (layer["layer"], layer["tokens"]) == (index, tokens)
        # ceil(1.0 * 32 tokens * 2 experts per token / 4 experts)
        assert layer["capacity"] == 16
        assert layer["kept"] == sum(layer["load"])
        assert layer["kept"] + layer["dropped"] == 2 * tokens
        assert layer["rerouted"] > 0
    assert said["settings"]["overflow"] == "reroute"
    assert said["prefix"] == {"shared_tokens": 0, "not_shared_because": None}
    assert raw(llm.complete(LONG))["sparse_moe"]["prefix"]["shared_tokens"] == 224


def test_totals_add_up_over_calls_and_doors(moe_folder: Path) -> None:
    llm = _opened(moe_folder)
    assert llm.routing_totals == {"layers": []}
    one = raw(llm.complete("Hello"))["sparse_moe"]["tokens"]
    two = raw(list(llm.stream_chat([ChatMessage(content="Hello")]))[-1])["sparse_moe"]["tokens"]
    assert llm.model_copy().routing_totals["tokens"] == one + two


def test_a_stream_counts_at_its_end_only_and_an_abandoned_one_counts_too(moe_folder: Path) -> None:
    llm = _opened(moe_folder)
    pieces = list(llm.stream_complete("Hello"))
    assert all("sparse_moe" not in raw(piece) for piece in pieces[:-1])
    counted = llm.routing_totals["tokens"]
    stream = llm.stream_complete("Hello", max_tokens=200)
    next(stream)
    stream.close()
    deadline = asyncio.run(_until(lambda: llm.routing_totals["tokens"] > counted))
    assert deadline


async def _until(condition: Any) -> bool:
    for _ in range(1000):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


def test_nothing_is_counted_when_nobody_wants_to_know(moe_folder: Path) -> None:
    llm = _opened(moe_folder, routing_stats=False)
    assert "sparse_moe" not in raw(llm.complete("Hello"))
    assert llm.routing_totals == {"layers": []}


def test_batch_scope_shares_nothing(moe_folder: Path) -> None:
    llm = _opened(moe_folder, capacity_factor=1.0, capacity_scope="batch")
    assert llm.prefix_sharing_key is None
    assert "capacity_scope='batch'" in raw(llm.complete(LONG))["sparse_moe"]["prefix"]["not_shared_because"]


def test_copies_share_and_others_do_not(moe_folder: Path) -> None:
    llm = _opened(moe_folder)
    assert llm.prefix_sharing_key == llm.model_copy(update={"temperature": 1.0}).prefix_sharing_key
    assert llm.prefix_sharing_key == _opened(moe_folder).prefix_sharing_key
    assert llm.prefix_sharing_key != _opened(moe_folder, top_k=1).prefix_sharing_key
    assert hash(llm.prefix_sharing_key) is not None


@pytest.mark.parametrize("per_call", [True, False])
def test_a_call_that_is_out_of_time_says_so(moe_folder: Path, slow_steps: Any, per_call: bool) -> None:
    llm = _opened(moe_folder, timeout=None if per_call else 0.3)
    llm.load()
    slow_steps(0.1)
    given: dict[str, Any] = {"timeout": 0.3} if per_call else {}
    with pytest.raises(DeadlineExceededError, match=r"its timeout of 0\.3 s; give it more time"):
        llm.complete("Hello", **given)
    assert len(llm.complete("Hello", max_tokens=1, timeout=20).text) == 1


def test_int8_is_close_and_leaves_the_callers_model_alone(model: MixtralForCausalLM) -> None:
    before = {name: (value.data_ptr(), value.sum().item()) for name, value in model.state_dict().items()}
    llm, eight = _opened(model), _opened(model, quantize="int8")
    assert llm.prefix_sharing_key != eight.prefix_sharing_key
    assert eight.complete("Hello").text
    assert {
        name: (value.data_ptr(), value.sum().item()) for name, value in model.state_dict().items()
    } == before


def test_int8_from_a_directory_is_int8_of_the_loaded_model(
    moe_folder: Path, model: MixtralForCausalLM
) -> None:
    assert (
        _opened(moe_folder, quantize="int8").complete(LONG).text
        == _opened(model, quantize="int8").complete(LONG).text
    )


def test_routing_a_directory_cannot_do_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    folder = tiny_models.save(tiny_models.tiny_phimoe(), tmp_path / "phimoe")
    with pytest.raises(ConfigurationError, match="top_k"):
        _opened(folder, top_k=1).load()


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_json_of_a_schema(moe_folder: Path, temperature: float) -> None:
    llm = _opened(moe_folder)
    answer = llm.complete(
        "A city:",
        json_schema=closed_schema(City.model_json_schema()),
        temperature=temperature,
        seed=3,
        max_tokens=400,
    )
    assert (raw(answer)["finish_reason"], raw(answer)["complete"]) == ("stop", True)
    assert City.model_validate_json(answer.text).founded <= 2000


def test_an_answer_that_was_cut_says_that_it_is_a_fragment(moe_folder: Path) -> None:
    llm = _opened(moe_folder)
    assert raw(llm.complete("A year:", regex="1[0-9]{3}", max_tokens=3))["complete"] is False
    assert raw(llm.complete("A number:", regex="[0-9]+", max_tokens=3))["complete"] is True
    assert "complete" not in raw(llm.complete("A year:"))


def test_text_of_a_regex_and_of_nothing_at_once(moe_folder: Path) -> None:
    llm = _opened(moe_folder)

    async def both() -> tuple[Any, ...]:
        return await asyncio.gather(llm.acomplete("A year:", regex="1[0-9]{3}"), llm.acomplete("A year:"))

    shaped, free = asyncio.run(both())
    assert shaped.text.isdigit()
    assert len(shaped.text) == 4
    assert free.text == llm.complete("A year:").text


def test_structured_predict_gives_the_object() -> None:
    llm, prompt = _opened(tiny_mixtral(window=4096)), PromptTemplate("A city in {country}.")
    settings: dict[str, Any] = {"max_tokens": 400}
    assert isinstance(llm.structured_predict(City, prompt, settings, country="Malta"), City)
    assert isinstance(asyncio.run(llm.astructured_predict(City, prompt, settings, country="Malta")), City)


def test_a_streamed_object_is_held_to_its_schema_too() -> None:
    llm, prompt = _opened(tiny_mixtral(window=4096)), PromptTemplate("A city in {country}.")
    settings: dict[str, Any] = {"max_tokens": 400}
    expected = llm.structured_predict(City, prompt, settings, country="Malta").model_dump()
    *_, last = llm.stream_structured_predict(City, prompt, settings, country="Malta")

    async def streamed() -> list[Any]:
        parts = await llm.astream_structured_predict(City, prompt, settings, country="Malta")
        return [part async for part in parts]

    assert last.model_dump() == expected
    assert asyncio.run(streamed())[-1].model_dump() == expected


def test_an_object_that_was_cut_says_what_would_help() -> None:
    llm, prompt = _opened(tiny_mixtral(window=4096)), PromptTemplate("A city in {country}.")
    with pytest.raises(FragmentError, match=r"no whole City: .* give it more tokens"):
        llm.structured_predict(City, prompt, {"max_tokens": 5}, country="Malta")


def test_a_schema_is_closed_where_it_speaks_of_objects_and_nowhere_else() -> None:
    open_one = {
        "properties": {"properties": {"type": "string"}, "kind": {"const": {"properties": {"x": 1}}}},
        "anyOf": [{"properties": {}}, {"properties": {}, "additionalProperties": True}],
        "$defs": {"a": {"items": {"properties": {}}}, "b": {"allOf": [{"properties": {}}]}},
    }
    assert closed_schema(open_one) == {
        "additionalProperties": False,
        "properties": open_one["properties"],
        "anyOf": [{"properties": {}, "additionalProperties": False}, open_one["anyOf"][1]],  # type: ignore[index]
        "$defs": {
            "a": {"items": {"properties": {}, "additionalProperties": False}},
            "b": {"allOf": [{"properties": {}}]},
        },
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"json_schema": {"type": "nonsense"}}, "json_schema"),
        ({"regex": "("}, "regex"),
        ({"regex": "a", "json_schema": {}}, "cannot both"),
    ],
)
def test_grammars_that_cannot_be_are_refused(moe_folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _opened(moe_folder).complete("Hello", **options)


def test_a_penalty_for_repetition_holds_for_every_call_until_one_says_otherwise(moe_folder: Path) -> None:
    own = _opened(moe_folder, repetition_penalty=1.7)
    assert own.complete("Hello").text == _opened(moe_folder).complete("Hello", repetition_penalty=1.7).text
    assert own.complete("Hello", repetition_penalty=1.0).text == _opened(moe_folder).complete("Hello").text
    with pytest.raises(ConfigurationError, match="repetition_penalty=0 is not valid"):
        _opened(moe_folder, repetition_penalty=0)
