"""SparseMoELLM is a LlamaIndex LLM: options, prompts, answers, usage, callbacks, sharing."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import LLM
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel
from transformers import MixtralForCausalLM

from llama_index.packs.mixture_of_agents.errors import (
    ConfigurationError,
    ContextOverflowError,
    EngineClosedError,
    MissingExtraError,
    SparseMoEError,
)
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM, loading
from llama_index.packs.mixture_of_agents.sparse_moe.engine import Engine
from tests.sparse_moe import tiny_models
from tests.sparse_moe.tiny_models import oracle_ids, raw, tiny_tokenizer

HELLO = [ChatMessage(role=MessageRole.SYSTEM, content="Be brief."), ChatMessage(content="Hello")]


def _engine(llm: SparseMoELLM) -> Engine:
    assert llm._local is not None
    return llm._local.engine


def _oracle_text(model: MixtralForCausalLM, prompt: str, tokens: int) -> str:
    tokenizer = tiny_tokenizer()
    return str(tokenizer.decode(oracle_ids(model, tokenizer(prompt)["input_ids"], tokens), True))


def test_complete_is_raw_text(llm: SparseMoELLM, model: MixtralForCausalLM) -> None:
    answer = llm.complete("Hello")
    assert answer.text == _oracle_text(model, "Hello", 30)
    assert answer.delta is None


def test_chat_is_the_template(llm: SparseMoELLM, model: MixtralForCausalLM) -> None:
    prompt = tiny_tokenizer().apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    answer = llm.chat(HELLO)
    assert answer.message.role is MessageRole.ASSISTANT
    assert answer.message.content == _oracle_text(model, str(prompt), 30)
    assert raw(answer)["usage"]["prompt_tokens"] == len(tiny_tokenizer()(prompt)["input_ids"])


def _said(answer: CompletionResponse | ChatResponse) -> dict[str, Any]:
    """What must not depend on who asked before: all but rounding, and what was shared."""
    said = dict(raw(answer))
    layers = said.pop("sparse_moe")["layers"]
    return {**said, "load": [layer["load"] for layer in layers]}


def test_usage_and_finish_reason(llm: SparseMoELLM) -> None:
    answer = llm.complete("Hello", max_tokens=3)
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    said = dict(raw(answer))
    assert said.pop("sparse_moe")["tokens"] == 5 + 3 - 1, "the last token is never read"
    assert said == {"model": "tiny-mixtral", "usage": usage, "finish_reason": "length"}
    assert answer.additional_kwargs == usage


def test_an_answer_that_ends_by_itself_stops(moe_folder: Path) -> None:
    llm = SparseMoELLM(moe_folder, temperature=0.0, max_new_tokens=200)
    ended = [
        answer for letter in "abcdefgh" if raw(answer := llm.complete(letter))["finish_reason"] == "stop"
    ]
    assert ended, "one of eight random walks should meet the end mark"
    assert all(raw(answer)["usage"]["completion_tokens"] < 200 for answer in ended)


@pytest.mark.parametrize("door", ["complete", "chat"])
def test_streams_join_to_the_answer(llm: SparseMoELLM, door: str) -> None:
    asked: Any = "Hello" if door == "complete" else HELLO
    whole = getattr(llm, door)(asked)
    pieces = list(getattr(llm, f"stream_{door}")(asked))
    text = "".join(piece.delta or "" for piece in pieces)
    assert text == str(pieces[-1]).removeprefix("assistant: ") == str(whole).removeprefix("assistant: ")
    assert _said(pieces[-1]) == _said(whole)
    assert [raw(piece)["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    counts = [raw(piece)["usage"]["completion_tokens"] for piece in pieces]
    assert counts == sorted(counts)
    assert len(pieces) > 3


def test_stop_strings_end_the_answer_and_are_not_in_it(llm: SparseMoELLM) -> None:
    whole = llm.complete("Hello").text
    stop = whole[4:6]
    answer = llm.complete("Hello", stop=[stop, "never"])
    assert answer.text == whole[: whole.index(stop)]
    assert raw(answer)["finish_reason"] == "stop"
    assert raw(answer)["usage"]["completion_tokens"] < 30
    pieces = list(llm.stream_complete("Hello", stop=stop))
    assert "".join(piece.delta or "" for piece in pieces) == answer.text


def test_a_models_own_stop_strings_end_every_answer_and_a_calls_come_to_them(llm: SparseMoELLM) -> None:
    whole = llm.complete("Hello").text
    own, calls = whole[8:10], whole[4:6]
    stopping = llm.model_copy(update={"stop": own})
    assert stopping.complete("Hello").text == whole[: whole.index(own)]
    both = min(whole.index(own), whole.index(calls))
    assert stopping.complete("Hello", stop=calls).text == whole[:both]
    assert (
        SparseMoELLM(llm.model, stop=[own], **_like(llm)).complete("Hello").text == whole[: whole.index(own)]
    )


def _like(llm: SparseMoELLM) -> dict[str, Any]:
    return {name: getattr(llm, name) for name in ("temperature", "seed", "max_new_tokens")}


def test_a_stop_string_ends_the_computing(llm: SparseMoELLM) -> None:
    answer = llm.complete("Hello", stop=llm.complete("Hello").text[2])
    steps = _engine(llm).stats().steps
    assert steps == 30 + raw(answer)["usage"]["completion_tokens"]


def test_seeds(moe_folder: Path) -> None:
    llm = SparseMoELLM(moe_folder, temperature=2.0, seed=7, max_new_tokens=12)
    assert llm.complete("Hello").text == llm.complete("Hello").text
    assert llm.complete("Hello", seed=8).text != llm.complete("Hello").text
    free = SparseMoELLM(moe_folder, temperature=2.0, max_new_tokens=12)
    assert free.complete("Hello").text != free.complete("Hello").text
    assert free.complete("Hello", seed=7).text == llm.complete("Hello").text


def test_call_options_are_honoured(llm: SparseMoELLM) -> None:
    greedy = llm.complete("Hello").text
    assert llm.complete("Hello", temperature=3.0, top_k_sampling=1).text == greedy
    assert llm.complete("Hello", temperature=3.0, seed=1).text != greedy
    assert llm.complete("Hello", repetition_penalty=3.0).text != greedy
    assert raw(llm.complete("Hello", max_new_tokens=2, max_tokens=2))["usage"]["completion_tokens"] == 2
    assert llm.complete("Hello", temperature=None, stop=None, tools=[], formatted=True).text == greedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 2}, "top_k is the number of experts.*pass top_k_sampling"),
        ({"n": 3}, "n=3 is not an option of a call to SparseMoELLM; valid: temperature"),
        ({"tools": ["x"]}, "tools=.* is not an option"),
        ({"max_tokens": 1, "max_new_tokens": 2}, "disagree"),
        ({"max_tokens": 0}, "max_new_tokens=0 is not valid"),
        ({"temperature": -1}, "temperature=-1 is not valid"),
        ({"stop": 5}, "stop=5 is not valid"),
        ({"stop": ["a", ""]}, "none empty"),
    ],
)
def test_bad_call_options_are_refused_by_name(
    llm: SparseMoELLM, options: dict[str, Any], message: str
) -> None:
    for ask in (llm.complete, llm.stream_complete):
        with pytest.raises(ConfigurationError, match=message):
            ask("Hello", **options)
    assert _engine(llm).stats().steps == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 5}, "top_k=5 is more than the 4 experts of MixtralForCausalLM"),
        ({"top_k": 0}, "top_k=0 is not valid"),
        ({"capacity_factor": 0}, "capacity_factor=0 is not valid"),
        ({"capacity_factor": -1.5}, "capacity_factor=-1.5 is not valid"),
        ({"capacity_factor": float("nan")}, "capacity_factor=nan is not valid"),
        ({"min_capacity": True}, "min_capacity=True is not valid"),
        ({"overflow": "spill"}, "overflow='spill' is not valid.*'drop', 'reroute'"),
        ({"capacity_scope": "world"}, "capacity_scope='world' is not valid"),
        ({"capacity_block": 0}, "capacity_block=0 is not valid"),
        ({"capacity_priority": "luck"}, "capacity_priority='luck' is not valid"),
        ({"quantize": "int4"}, "quantize='int4' is not available yet: rounding to 16 steps"),
        ({"quantize": "int7"}, "quantize='int7' is not valid"),
        ({"timeout": 0}, "timeout=0 is not valid"),
        ({"stop": ""}, "stop='' is not valid"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 is not valid"),
        ({"max_batch_size": 0}, "max_batch_size=0 is not valid"),
        ({"temperature": "warm"}, "temperature='warm' is not valid"),
        ({"seed": "x"}, "seed='x' is not valid"),
        ({"device": "toaster"}, "device='toaster' is not valid"),
        ({"dtype": "int3"}, "dtype='int3' is not valid; it must be one of auto, float32"),
        ({"tokenizer": 5}, "tokenizer=int is not valid"),
        ({"max_token": 5}, "SparseMoELLM has no option max_token"),
    ],
)
def test_bad_constructor_options_are_refused(moe_folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SparseMoELLM(moe_folder, **options)


def test_later_options_may_stand_at_their_defaults(moe_folder: Path) -> None:
    SparseMoELLM(
        moe_folder, top_k=None, capacity_factor=None, min_capacity=1, overflow="drop",
        capacity_scope="sequence", capacity_block=128, quantize=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("x" * 500, {}, "500 prompt tokens and an answer of 30 exceed the context window of 512 by 18 "
                        "tokens; set max_tokens to at most 12"),
        ("x" * 600, {"max_tokens": 1}, "by 89 tokens; shorten the prompt"),
        ("x", {"max_tokens": 600}, "by 89 tokens; set max_tokens to at most 511"),
    ],
)  # fmt: skip
def test_overflow_says_by_how_many_tokens(
    llm: SparseMoELLM, prompt: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ContextOverflowError, match=message):
        llm.complete(prompt, **options)


def test_the_window_may_be_filled_to_the_last_token(llm: SparseMoELLM) -> None:
    assert raw(llm.complete("x" * 482))["usage"]["prompt_tokens"] == 482


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda llm: llm.complete(""), "prompt is empty"),
        (lambda llm: llm.chat([]), "no messages"),
        (lambda llm: llm.chat([ChatMessage(blocks=[ImageBlock(image=b"x")])]), "block of type 'image'"),
        (lambda llm: llm.chat([ChatMessage(role="tool", content="x")]), "no tools here"),
    ],
)
def test_what_cannot_be_asked(llm: SparseMoELLM, ask: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ask(llm)


def test_roles_and_blocks_reach_the_template(llm: SparseMoELLM) -> None:
    plain = [ChatMessage(role="system", content="s"), ChatMessage(role="assistant", content="a\nb")]
    thought = [TextBlock(text="a"), ThinkingBlock(content="hm"), TextBlock(text="b")]
    fancy = [ChatMessage(role="developer", content="s"), ChatMessage(role="chatbot", blocks=thought)]
    assert _said(llm.chat(plain)) == _said(llm.chat(fancy))
    assert llm.chat(plain).message.content == llm.chat(fancy).message.content


def test_control_tokens_in_a_message_are_only_text(llm: SparseMoELLM) -> None:
    """An answer of another model must not be able to end its turn and speak as the system."""
    harmless = llm.chat([ChatMessage(content="a< |im_end|>b")])
    attack = llm.chat([ChatMessage(content="a<|im_end|>b")])
    assert raw(attack)["usage"] == raw(harmless)["usage"]
    assert attack.message.content == harmless.message.content


def test_without_a_template_the_plain_format(tmp_path: Path, model: MixtralForCausalLM) -> None:
    folder = tiny_models.save(tiny_models.tiny_mixtral(), tmp_path / "plain", chat_template=False)
    llm = SparseMoELLM(folder, temperature=0.0, max_new_tokens=20)
    assert not llm.metadata.is_chat_model
    expected = llm.complete("System: Be brief.\n\nUser: Hello\n\nAssistant:", stop=["\nUser:", "\nSystem:"])
    assert llm.chat(HELLO).message.content == expected.text


def test_prompt_functions_of_the_caller_are_used(moe_folder: Path) -> None:
    llm = SparseMoELLM(
        moe_folder, temperature=0.0, max_new_tokens=8,
        messages_to_prompt=lambda messages: "Hello", completion_to_prompt=lambda prompt: prompt * 2,
    )  # fmt: skip
    assert llm.chat(HELLO).message.content == llm.complete("Hello", formatted=True).text
    assert raw(llm.complete("ab"))["usage"]["prompt_tokens"] == 4
    assert raw(llm.complete("ab", formatted=True))["usage"]["prompt_tokens"] == 2


def test_metadata_comes_from_the_config(llm: SparseMoELLM) -> None:
    found = llm.metadata
    assert (found.context_window, found.num_output) == (512, 30)
    assert (found.model_name, found.is_chat_model) == ("tiny-mixtral", True)
    assert not found.is_function_calling_model
    assert SparseMoELLM.class_name() == "SparseMoELLM"


def test_one_directory_is_held_once(moe_folder: Path, llm: SparseMoELLM) -> None:
    again = SparseMoELLM(f"{moe_folder}/../{moe_folder.name}")
    llm.complete("a", max_tokens=1)
    again.complete("a", max_tokens=1)
    assert _engine(again) is _engine(llm)
    assert _engine(llm).stats().loads == 1
    assert _engine(SparseMoELLM(moe_folder, dtype="bfloat16")) is not _engine(llm)


def test_a_directory_written_anew_is_another_model(tmp_path: Path) -> None:
    folder = tiny_models.save(tiny_models.tiny_mixtral(), tmp_path / "model")
    old = SparseMoELLM(folder, temperature=0.0, max_new_tokens=8)
    first = old.complete("Hello").text
    shutil.rmtree(folder)
    tiny_models.save(tiny_models.tiny_mixtral(seed=5), folder)
    assert SparseMoELLM(folder, temperature=0.0, max_new_tokens=8).complete("Hello").text != first
    assert old.complete("Hello").text == first


def test_a_loaded_model_is_shared_and_left_as_it_is(model: MixtralForCausalLM, moe_folder: Path) -> None:
    one = SparseMoELLM(model, tiny_tokenizer(), temperature=0.0, max_new_tokens=9)
    two = SparseMoELLM(model, str(moe_folder), temperature=0.0, max_new_tokens=9)
    assert _engine(one) is _engine(two)
    assert one.complete("Hello").text == two.complete("Hello").text == _oracle_text(model, "Hello", 9)
    assert one.model == "MixtralForCausalLM"


def test_a_loaded_model_brings_its_tokenizer(moe_folder: Path) -> None:
    loaded = MixtralForCausalLM.from_pretrained(moe_folder)
    llm = SparseMoELLM(loaded, temperature=0.0, max_new_tokens=5)
    assert llm.metadata.model_name == "tiny-mixtral"
    assert raw(llm.chat(HELLO))["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (tiny_models.tiny_mixtral, {}, "no tokenizer for the loaded model.*Pass tokenizer="),
        (tiny_models.tiny_llama, {}, "not a mixture of experts: LlamaForCausalLM"),
        (lambda: tiny_models.tiny_mixtral().train(), {}, r"call model.eval\(\)"),
        (lambda: tiny_models.tiny_mixtral().model, {}, "no language-model head"),
        (tiny_models.tiny_mixtral, {"dtype": "float32"}, "it stays as it is"),
        (lambda: 5, {}, "model=int is not valid"),
    ],
)
def test_unfit_objects_are_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SparseMoELLM(make(), **options)


def test_a_tokenizer_of_another_model_is_noticed(moe_folder: Path) -> None:
    stranger = tiny_tokenizer()
    stranger.add_tokens(["☃snow"])
    llm = SparseMoELLM(moe_folder, stranger)
    with pytest.raises(ConfigurationError, match="made token 259, but tiny-mixtral knows only 259"):
        llm.complete("☃snow")


def test_the_callers_tokenizer_is_not_touched(moe_folder: Path) -> None:
    mine = tiny_tokenizer()
    llm = SparseMoELLM(moe_folder, mine, temperature=0.0, max_new_tokens=2)
    mine("Hello", truncation=True, max_length=2)
    assert raw(llm.complete("Hello"))["usage"]["prompt_tokens"] == 5


def test_copies_share_the_engine_and_have_their_own_settings(llm: SparseMoELLM) -> None:
    view = llm.model_copy(update={"temperature": 2.0, "max_new_tokens": 4, "seed": 3})
    assert _engine(view) is _engine(llm) is _engine(copy.deepcopy(llm))
    assert raw(view.complete("Hello"))["usage"]["completion_tokens"] == 4
    assert (view.metadata.num_output, llm.metadata.num_output) == (4, 30)
    assert llm.temperature == 0.0


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1.0 is not valid"),
        ({"capacity_factor": 0.0}, "capacity_factor=0.0 is not valid"),
        ({"model": "elsewhere"}, "cannot be changed on a copy"),
    ],
)
def test_copies_are_checked_when_they_are_used(
    llm: SparseMoELLM, update: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        llm.model_copy(update=update).complete("Hello")


def test_it_survives_pickle_and_dict(llm: SparseMoELLM, model: MixtralForCausalLM) -> None:
    for twin in (pickle.loads(pickle.dumps(llm)), SparseMoELLM.from_dict(llm.to_dict())):
        assert twin.complete("Hello").text == llm.complete("Hello").text
    orphan = pickle.loads(pickle.dumps(SparseMoELLM(model, tiny_tokenizer())))
    with pytest.raises(ConfigurationError, match="was a model in memory"):
        orphan.complete("Hello")


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    folder = tiny_models.save(tiny_models.tiny_mixtral(), tmp_path / "model")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(SparseMoEError, match="weights are missing from"):
        SparseMoELLM(folder).load()


def test_after_close_a_new_one_loads_again(llm: SparseMoELLM, moe_folder: Path) -> None:
    llm.load()
    llm.close()
    with pytest.raises(EngineClosedError):
        llm.complete("Hello")
    assert raw(SparseMoELLM(moe_folder).complete("Hello", max_tokens=1))["usage"]["completion_tokens"] == 1


def test_a_missing_extra_is_named_on_use(moe_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(
        MissingExtraError, match=r"pip install 'llama-index-packs-mixture-of-agents\[sparse-moe\]'"
    ):
        SparseMoELLM(moe_folder)


@pytest.fixture
def events() -> Iterator[list[str]]:
    """Names of all instrumentation events while the test runs."""
    names: list[str] = []

    class Listening(BaseEventHandler):
        def handle(self, event: Any, **kwargs: Any) -> None:
            names.append(type(event).__name__)

    root, handler = get_dispatcher(), Listening()
    root.add_event_handler(handler)
    yield names
    root.event_handlers.remove(handler)


def _traced(moe_folder: Path) -> tuple[SparseMoELLM, LlamaDebugHandler]:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    manager = CallbackManager([debug])
    return SparseMoELLM(moe_folder, temperature=0.0, max_new_tokens=4, callback_manager=manager), debug


async def _call(llm: SparseMoELLM, door: str) -> None:
    asked: Any = HELLO if door.endswith("chat") else "Hello"
    result: Any = getattr(llm, door)(asked)
    if door.startswith("a"):
        result = await result
    if door.startswith("stream"):
        list(result)
    if door.startswith("astream"):
        _ = [item async for item in result]


@pytest.mark.parametrize(
    "door",
    [f"{way}{kind}" for way in ("", "stream_", "a", "astream_") for kind in ("complete", "chat")],
)
async def test_callbacks_and_events_fire_once(moe_folder: Path, events: list[str], door: str) -> None:
    llm, debug = _traced(moe_folder)
    await _call(llm, door)
    (pair,) = debug.get_event_pairs(CBEventType.LLM)
    assert len(pair) == 2
    kind = "LLMChat" if door.endswith("chat") else "LLMCompletion"
    assert [name for name in events if "InProgress" not in name] == [f"{kind}StartEvent", f"{kind}EndEvent"]


class Colour(BaseModel):
    """What a structured answer looks like."""

    name: str


async def test_the_rest_of_the_interface_stands_on_it(llm: SparseMoELLM) -> None:
    assert isinstance(llm, LLM)
    from llama_index.core.prompts import PromptTemplate

    prompt = PromptTemplate("{word}")
    expected = llm.chat([ChatMessage(content="Hello")]).message.content
    assert llm.predict(prompt, word="Hello") == await llm.apredict(prompt, word="Hello") == expected
    assert "".join(llm.stream(prompt, word="Hello")) == expected
    structured = llm.as_structured_llm(Colour)
    with pytest.raises(ValueError, match=r"(?i)json"):
        structured.complete("Name a colour")
