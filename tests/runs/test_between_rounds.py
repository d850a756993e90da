"""What happens between rounds: roles written, proposals condensed, remaining rounds skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock

from llama_index.packs.mixture_of_agents import (
    ConfigurationError,
    MixtureOfAgentsPack,
    MixtureResponse,
    MixtureTimeoutError,
    ProgressEvent,
    Proposer,
)
from llama_index.packs.mixture_of_agents.agreement import Agreement
from llama_index.packs.mixture_of_agents.strategies import ROLES
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM

ROLES_WRITTEN = (
    '{"roles": [{"name": "Baker", "perspective": "Bread first.", "instructions": "Name flours."},'
    ' {"name": "Chemist", "perspective": "Starch first.", "instructions": "Name bonds."},'
    ' {"name": "Historian", "perspective": "", "instructions": "Name dates."}]}'
)


def proposers(number: int = 3) -> list[ScriptedLLM]:
    return [ScriptedLLM(f"draft {n}", model=f"p{n}") for n in range(number)]


def system_of(model: ScriptedLLM, number: int = 0) -> str:
    return model.calls[number].messages[0].content or ""


def kinds(items: Sequence[Any]) -> list[tuple[str, int, str, str]]:
    return [(e.kind, e.layer, e.proposer, e.task) for e in items if isinstance(e, ProgressEvent)]


# Roles


def test_roles_are_written_once_for_the_question_and_each_proposer_gets_one() -> None:
    writer, models = ScriptedLLM(ROLES_WRITTEN, model="w"), proposers()
    pack = MixtureOfAgentsPack(
        ScriptedLLM("answer", model="g"), models, 3, strategy="role", role_writer=writer
    )
    response = pack.run("Why does bread rise?")
    assert len(writer.calls) == 1
    assert "Why does bread rise?" in writer.calls[0].text
    for layer in (0, 1):
        assert "Baker" in system_of(models[0], layer)
        assert "Starch first." in system_of(models[1], layer)
        assert "Name dates." in system_of(models[2], layer)
    (cast,) = response.roles
    assert [role.name for role in cast.roles] == ["Baker", "Chemist", "Historian"]
    assert (cast.layer, cast.is_fixed) == (1, False)
    assert cast.writing is not None
    assert response.usage.prompt_tokens is not None
    assert not response.degraded


def test_roles_per_layer_are_written_for_each() -> None:
    writer = ScriptedLLM([ROLES_WRITTEN, ROLES_WRITTEN.replace("Baker", "Miller")], model="w")
    models = proposers()
    pack = MixtureOfAgentsPack(
        ScriptedLLM("answer", model="g"), models, 3, strategy="role", role_writer=writer, roles="layer"
    )
    response = pack.run("Why?")
    assert [cast.layer for cast in response.roles] == [1, 2]
    assert "Baker" in system_of(models[0], 0)
    assert "Miller" in system_of(models[0], 1)


def test_without_a_role_writer_the_aggregator_writes_them() -> None:
    aggregator = ScriptedLLM([ROLES_WRITTEN, "answer"], model="g")
    response = MixtureOfAgentsPack(aggregator, proposers(), 2, strategy="role").run("Why?")
    assert (response.text, response.roles[0].roles[0].name) == ("answer", "Baker")


@pytest.mark.parametrize("said", ["I would rather not.", "{", "[]"])
def test_roles_that_cannot_be_read_are_replaced_by_the_fixed_ones_and_marked(said: str) -> None:
    models = proposers()
    writer = ScriptedLLM(said, model="w")
    pack = MixtureOfAgentsPack(ScriptedLLM("a"), models, 2, strategy="role", role_writer=writer)
    (cast,) = pack.run("Why?").roles
    assert cast.is_fixed
    assert [system_of(model) for model in models] == [str(role) for role in cast.roles] == list(ROLES[:3])


def test_a_role_writer_that_is_down_is_missing_and_the_fixed_roles_stand_in() -> None:
    models, writer = proposers(), ScriptedLLM(lambda _: ValueError("down"), model="w")
    pack = MixtureOfAgentsPack(ScriptedLLM("a"), models, 2, strategy="role", role_writer=writer)
    response = pack.run("Why?")
    assert response.roles[0].is_fixed
    assert [(gone.proposer, gone.layer) for gone in response.missing] == [("w", 1)]
    assert system_of(models[0]) == ROLES[0]


def test_a_role_writer_that_hangs_takes_no_longer_than_a_round_may() -> None:
    writer = LatencyLLM(30.0, model="w")
    pack = MixtureOfAgentsPack(
        ScriptedLLM("a"), proposers(), 2, strategy="role", role_writer=writer, layer_timeout=1.0
    )
    response = pack.run("Why?")
    assert response.text == "a"
    assert "timeout" in response.missing[0].reason


def test_fixed_roles_cost_no_call_and_a_role_of_its_own_stays() -> None:
    aggregator, models = ScriptedLLM("answer", model="g"), proposers()
    own = Proposer(models[0], role="You are a pirate.")
    pack = MixtureOfAgentsPack(aggregator, [own, *models[1:]], 2, strategy="role", roles="fixed")
    assert pack.run("Why?").roles == []
    assert len(aggregator.calls) == 1
    assert [system_of(model) for model in models] == ["You are a pirate.", *ROLES[1:3]]


def test_only_seats_without_a_role_of_their_own_get_written_ones_in_order() -> None:
    writer, models = ScriptedLLM(ROLES_WRITTEN, model="w"), proposers()
    own = Proposer(models[1], role="You are a pirate.")
    pack = MixtureOfAgentsPack(
        ScriptedLLM("a"), [models[0], own, models[2]], 2, strategy="role", role_writer=writer
    )
    pack.run("Why?")
    assert "Baker" in system_of(models[0])
    assert system_of(models[1]) == "You are a pirate."
    assert "Chemist" in system_of(models[2])


def test_a_role_with_braces_and_percent_signs_is_passed_on_as_it_is() -> None:
    said = '{"roles": [{"name": "{x} %s %(y)d", "perspective": "{}", "instructions": "{0!r}"}]}'
    models, writer = proposers(1), ScriptedLLM(said, model="w")
    pack = MixtureOfAgentsPack(
        ScriptedLLM("a"), models, 2, strategy="role", role_writer=writer, nb_models_by_layer=1
    )
    pack.run("What is {this} %s?")
    assert "{x} %s %(y)d" in system_of(models[0])
    assert "{0!r}" in system_of(models[0])
    assert "What is {this} %s?" in writer.calls[0].text


@pytest.mark.parametrize(
    "options",
    [{"roles": "always"}, {"roles": None}, {"strategy": "model"}, {"roles": "fixed"}],
    ids=str,
)
def test_a_role_writer_who_would_write_for_nobody_is_refused(options: dict[str, Any]) -> None:
    settings = {"strategy": "role", "role_writer": ScriptedLLM("x"), **options}
    with pytest.raises(ConfigurationError, match="role"):
        MixtureOfAgentsPack(ScriptedLLM("a"), proposers(), 2, **settings)


# Condensing


def condensing(
    aggregator: ScriptedLLM, models: Sequence[Any], layers: int = 3, **more: Any
) -> MixtureResponse:
    pack = MixtureOfAgentsPack(aggregator, models, layers, pass_on="condensed", max_retries=0, **more)
    return pack.run("Why?")


def test_a_condensed_round_passes_on_one_text_and_the_finish_reads_all_proposals() -> None:
    models = [ScriptedLLM([f"draft {n}", f"better {n}"], model=f"p{n}") for n in range(3)]
    aggregator = ScriptedLLM(["IN SHORT", "answer"], model="g")
    response = condensing(aggregator, models)
    assert [record.text for record in response.condensed] == ["IN SHORT"]
    for model in models:
        assert "IN SHORT" in model.calls[1].text
        assert "draft" not in model.calls[1].text.replace("draft text", "").replace("draft 1", "").replace(
            "drafts", ""
        )
    assert all(f"draft {n}" in aggregator.calls[0].text for n in range(3))
    assert all(f"better {n}" in aggregator.calls[1].text for n in range(3))
    assert response.text == "answer"


def test_a_round_that_cannot_be_condensed_passes_all_its_proposals_on() -> None:
    models = [ScriptedLLM([f"first {n}", f"second {n}"], model=f"p{n}") for n in range(2)]
    aggregator = ScriptedLLM([ValueError("down"), "answer"], model="g")
    response = condensing(aggregator, models)
    assert all(f"first {n}" in model.calls[1].text for model in models for n in range(2))
    assert [(gone.proposer, gone.layer) for gone in response.missing] == [("g", 1)]


def test_every_round_but_the_last_is_condensed() -> None:
    aggregator = ScriptedLLM(["short 1", "short 2", "answer"], model="g")
    response = condensing(aggregator, proposers(), layers=4)
    assert [(record.layer, record.text) for record in response.condensed] == [(1, "short 1"), (2, "short 2")]


def test_a_round_nobody_answered_is_not_condensed() -> None:
    aggregator = ScriptedLLM(["answer"], model="g")
    broken = [ScriptedLLM(lambda _: ValueError("down"), model="p")]
    assert condensing(aggregator, broken).text == "answer"


# Stopping early


def test_rounds_are_skipped_when_proposals_agree_and_that_is_recorded() -> None:
    models = [ScriptedLLM(f"{words} 42", model=f"p{n}") for n, words in enumerate(("It is", "So:", "x ="))]
    aggregator = ScriptedLLM("answer", model="g")
    pack = MixtureOfAgentsPack(aggregator, models, 5, stop_early=Agreement("number"))
    response = pack.run("Why?")
    assert response.stopped_after == 1
    assert [len(model.calls) for model in models] == [1, 1, 1]
    assert len(aggregator.calls) == 1


def test_rounds_go_on_while_proposals_differ() -> None:
    models = [ScriptedLLM(["1", "2", "2"], model="a"), ScriptedLLM(["2", "2", "2"], model="b")]
    pack = MixtureOfAgentsPack(ScriptedLLM("x"), models, 4, stop_early=Agreement("number"))
    response = pack.run("Why?")
    assert response.stopped_after == 2
    assert [len(model.calls) for model in models] == [2, 2]


def test_a_single_proposal_agrees_with_nobody() -> None:
    model = ScriptedLLM("42", model="a")
    pack = MixtureOfAgentsPack(ScriptedLLM("x"), [model], 3, stop_early=Agreement("number"))
    assert pack.run("Why?").stopped_after is None
    assert len(model.calls) == 2


def test_a_rule_that_fails_stops_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def described(self) -> dict[str, Any]:
            return {"name": "broken"}

        async def agreed(self, texts: Sequence[str]) -> str | None:
            raise LookupError("no embeddings today")

    pack = MixtureOfAgentsPack(ScriptedLLM("x"), proposers(), 3, stop_early=Broken())
    assert pack.run("Why?").stopped_after is None
    assert "no embeddings today" in caplog.text


async def test_what_goes_on_between_rounds_is_told_in_order() -> None:
    models = [ScriptedLLM(["1", "2"], model="a"), ScriptedLLM(["2", "2"], model="b")]
    aggregator = ScriptedLLM([ROLES_WRITTEN, "short", "answer"], model="g")
    pack = MixtureOfAgentsPack(
        aggregator,
        models,
        4,
        strategy="role",
        nb_models_by_layer=2,
        pass_on="condensed",
        stop_early=Agreement("number"),
    )
    told = kinds([item async for item in pack.astream([ChatMessage(content="Why?")])])
    assert [event for event in told if event[2] != "b"] == [
        ("round", 1, "", "propose"),
        ("asked", 1, "g", "roles"),
        ("answered", 1, "g", "roles"),
        ("asked", 1, "a", "propose"),
        ("answered", 1, "a", "propose"),
        ("asked", 1, "g", "condense"),
        ("answered", 1, "g", "condense"),
        ("round", 2, "", "propose"),
        ("asked", 2, "a", "propose"),
        ("answered", 2, "a", "propose"),
        ("agreed", 2, "", "propose"),
        ("synthesis", 4, "g", "synthesize"),
        ("answered", 4, "g", "synthesize"),
    ]


# What a hostile reading found


def test_who_wrote_no_roles_or_condensed_nothing_is_not_told_of_as_a_missing_draft() -> None:
    writer = ScriptedLLM(lambda _: ValueError("down"), model="writer")
    aggregator = ScriptedLLM([ValueError("down"), "answer"], model="g")
    models = proposers(2)
    pack = MixtureOfAgentsPack(
        aggregator,
        models,
        3,
        strategy="role",
        role_writer=writer,
        nb_models_by_layer=2,
        pass_on="condensed",
        max_retries=0,
    )
    response = pack.run("Why?")
    assert [(gone.proposer, gone.layer) for gone in response.missing] == [("writer", 1), ("g", 1)]
    read = [call.text for model in (*models, aggregator) for call in model.calls]
    assert not any("No draft came from" in text for text in read)


def test_a_round_that_gave_nothing_new_is_not_condensed_again() -> None:
    models = [ScriptedLLM(["a", ValueError("down"), "c"], model="p")]
    aggregator = ScriptedLLM(["short", "answer"], model="g")
    response = condensing(aggregator, models, layers=4)
    assert [(record.layer, record.text) for record in response.condensed] == [(1, "short")]
    assert len(aggregator.calls) == 2


def test_thinking_is_not_carried_from_one_pass_of_condensing_to_the_next() -> None:
    models = [ScriptedLLM(f"[{n}] " + "word " * 300, model=f"p{n}") for n in range(4)]
    aggregator = ScriptedLLM(
        lambda _: "<think>SECRET</think>assistant: short", context_window=1400, model="g"
    )
    condensing(aggregator, models)
    assert len(aggregator.calls) > 2
    assert not any("SECRET" in call.text for call in aggregator.calls)


def test_all_passes_of_condensing_together_take_no_longer_than_a_round() -> None:
    models = [ScriptedLLM(f"[{n}] " + "word " * 300, model=f"p{n}") for n in range(8)]
    aggregator = LatencyLLM(0.9, context_window=1400, model="g")
    pack = MixtureOfAgentsPack(aggregator, models, 3, pass_on="condensed", layer_timeout=3.0)
    response = pack.run("Why?")
    assert [gone.proposer for gone in response.missing] == ["g"]
    assert "layer_timeout" in response.missing[0].reason


@pytest.mark.parametrize("said", [False, "", None])
async def test_a_rule_that_says_no_in_its_own_way_stops_nothing(said: Any) -> None:
    class Rule:
        def described(self) -> dict[str, Any]:
            return {"name": "rule"}

        async def agreed(self, texts: Sequence[str]) -> Any:
            return said

    pack = MixtureOfAgentsPack(ScriptedLLM("x"), proposers(), 3, stop_early=Rule())
    items = [item async for item in pack.astream("Why?")]
    assert isinstance(items[-1], MixtureResponse)
    assert items[-1].stopped_after is None


def test_a_rule_that_hangs_takes_no_longer_than_a_round() -> None:
    class Hangs:
        def described(self) -> dict[str, Any]:
            return {"name": "hangs"}

        async def agreed(self, texts: Sequence[str]) -> str | None:
            await asyncio.sleep(30)
            return "late"

    pack = MixtureOfAgentsPack(ScriptedLLM("x"), proposers(), 3, stop_early=Hangs(), layer_timeout=1.0)
    assert pack.run("Why?").stopped_after is None


def test_roles_in_several_tool_calls_are_all_read() -> None:
    blocks = [
        ToolCallBlock(tool_call_id=name, tool_name="RoleList", tool_kwargs={"roles": [{"name": name}]})
        for name in ("a chef", "a pilot")
    ]
    writer = ScriptedLLM(
        lambda _: ChatMessage(role="assistant", blocks=blocks), model="w", is_function_calling_model=True
    )
    pack = MixtureOfAgentsPack(ScriptedLLM("a"), proposers(3), 2, strategy="role", role_writer=writer)
    (cast,) = pack.run("Why?").roles
    assert [role.name for role in cast.roles[:2]] == ["a chef", "a pilot"]
    assert (cast.is_fixed, cast.written) == (False, 2)


def test_what_was_paid_for_is_in_what_a_timeout_leaves() -> None:
    models = [ScriptedLLM("draft", model="a"), ScriptedLLM("draft", model="b")]
    slow = [LatencyLLM(30.0, model="c")]
    writer = ScriptedLLM(ROLES_WRITTEN, model="w")
    pack = MixtureOfAgentsPack(
        ScriptedLLM("short", model="g"),
        [models, slow],
        3,
        strategy="role",
        role_writer=writer,
        nb_models_by_layer=[2, 1],
        pass_on="condensed",
        timeout=1.0,
    )
    with pytest.raises(MixtureTimeoutError) as caught:
        pack.run("Why?")
    assert [record.text for record in caught.value.partial.condensed] == ["short"]
    assert caught.value.partial.roles[0].roles[0].name == "Baker"
