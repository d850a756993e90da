"""Recorded runs again: the same answers with no calls; after a change, only the calls that it takes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding

from llama_index.packs.mixture_of_agents import MixtureError, MixtureOfAgentsPack, Proposer
from llama_index.packs.mixture_of_agents.agreement import Similarity
from llama_index.packs.mixture_of_agents.app.replaying import model_like, replay_of
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, TraceError
from llama_index.packs.mixture_of_agents.facts import ModelIdentity
from llama_index.packs.mixture_of_agents.finishes import Synthesize
from llama_index.packs.mixture_of_agents.records.trace import Trace
from llama_index.packs.mixture_of_agents.records.traces.reading import read_trace
from llama_index.packs.mixture_of_agents.records.traces.run_records import RunRecord
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.app.recorded_runs import Recorded, options_at, recorded, speaker

PLAIN: dict[str, Any] = {
    "num_layers": 3,
    "strategy": "model",
    "finish": "synthesize",
    "pass_on": "proposals",
    "stop_early": None,
    "roles": "run",
}


def plain(folder: Path, **options: Any) -> Recorded:
    return recorded(folder, 1, fails=0.0, **{**PLAIN, **options})


def outcome(run: RunRecord, **changes: Any) -> tuple[str | None, str]:
    try:
        return replay_of(run, **changes).run().text, ""
    except MixtureError as error:
        return None, str(error)


@pytest.mark.parametrize("block", range(5))
def test_fifty_recorded_runs_are_replayed_to_the_same_answers_with_no_calls(
    tmp_path: Path, block: int
) -> None:
    for number in range(10 * block, 10 * block + 10):
        was = recorded(tmp_path, number)
        before = was.calls
        replay = replay_of(was.run, strict=True)
        text, error = None, ""
        try:
            response = replay.run()
            text = response.text
            assert was.run.ended is not None
            assert response.decision == was.run.ended.decision
            assert response.stopped_after == was.run.ended.stopped_after
            if not response.missing:  # what a failed call took nobody knows; a repeated failure takes nothing
                assert response.usage == was.run.ended.usage
            assert [cast.roles for cast in response.roles] == [cast.roles for cast in was.run.ended.roles]
        except MixtureError as raised:
            error = str(raised)
        assert (text, error) == (was.text, was.error), (number, was.options)
        assert was.calls == before
        assert (replay.policy.unknown, replay.going.usages) == ([], [])
        assert replay.policy.answered == len(was.run.calls)


def test_the_fifty_runs_are_of_every_kind(tmp_path: Path) -> None:
    kinds = Counter[str]()
    for number in range(50):
        options = options_at(number)
        finish = options["finish"]
        kinds.update([options["strategy"], options["pass_on"], getattr(finish, "name", finish)])
    wanted = ("model", "role", "self", "temperature", "proposals", "condensed")
    assert min(kinds[kind] for kind in (*wanted, "synthesize", "sequential", "rank", "vote")) >= 3


def test_the_fifty_runs_end_in_every_way(tmp_path: Path) -> None:
    ends = Counter(recorded(tmp_path, number).run.status for number in range(0, 50, 2))
    assert {"answered", "degraded", "failed"} <= set(ends)


@pytest.mark.parametrize("number", [0, 3, 7, 11])
@pytest.mark.parametrize("finish", ["synthesize", "rank"])
def test_with_another_aggregator_only_aggregator_calls_go_out(
    tmp_path: Path, number: int, finish: str
) -> None:
    was = recorded(tmp_path, number, fails=0.0, pass_on="proposals", finish=finish)
    before, other = was.calls, speaker("other")
    replay = replay_of(was.run, swap={"aggregator": other})
    response = replay.run()
    assert was.calls == before
    assert len(other.calls) == len(replay.going.usages) == 1
    assert replay.policy.answered == len(was.run.calls) - 1
    assert response.proposals[0].text in other.calls[0].text
    if finish == "synthesize":
        assert response.text != was.text
        assert response.synthesizer == "other"


def test_a_vote_needs_no_aggregator_so_another_one_changes_nothing(tmp_path: Path) -> None:
    was = plain(tmp_path, finish="vote")
    other = speaker("other")
    assert replay_of(was.run, swap={"aggregator": other}).run().text == was.text
    assert other.calls == []


def test_another_model_in_a_proposers_place_recomputes_what_reads_of_it(tmp_path: Path) -> None:
    was, other = plain(tmp_path), speaker("other")
    revived = {name: speaker(name) for name in was.models}
    replay = replay_of(was.run, swap={"bob": other}, model_for=lambda identity: revived[identity.model])
    response = replay.run()
    # Round 1: ann and cid stay. Round 2 and the answer read the new draft.
    assert replay.policy.answered == 2
    assert {name: len(model.calls) for name, model in revived.items()} == {
        "ann": 1,
        "bob": 0,
        "cid": 1,
        "judge": 1,
    }
    assert len(other.calls) == 2
    assert [p.proposer for p in response.proposals] == ["ann", "other", "cid"] * 2


def test_a_swapped_proposer_keeps_the_role_and_settings_of_the_seat(tmp_path: Path) -> None:
    was, other = plain(tmp_path, temperature=0.3, num_layers=2), speaker("other")
    replay_of(was.run, swap={"bob": other}, model_for=lambda identity: speaker(identity.model)).run()
    assert "You are Bob." in other.calls[0].text
    assert other.calls[0].options["temperature"] == 0.3


def test_a_dropped_proposer_leaves_the_answers_of_its_round_as_they_are(tmp_path: Path) -> None:
    was = plain(tmp_path)
    revived: dict[str, ScriptedLLM] = {}

    def model_for(identity: ModelIdentity) -> ScriptedLLM:
        return revived.setdefault(identity.model, speaker(identity.model))

    replay = replay_of(was.run, drop=["ann"], model_for=model_for)
    response = replay.run()
    first = [p.text for p in response.proposals if p.layer == 1]
    assert first == [p.record.text for p in was.run.calls if p.asked.layer == 1 and p.asked.index > 0]  # type: ignore[union-attr]
    assert replay.policy.answered == 2
    assert sorted(revived) == ["bob", "cid", "judge"]


@pytest.mark.parametrize("roles", ["run", "layer"])
def test_the_others_keep_the_roles_that_were_written_for_them(tmp_path: Path, roles: str) -> None:
    was = plain(tmp_path, strategy="role", num_layers=2, roles=roles)
    replay = replay_of(was.run, drop=["ann"], model_for=lambda identity: speaker(identity.model))
    replay.run()
    assert replay.policy.answered == 2
    assert replay.policy.unknown == ["judge, layer 2 (synthesize)"]


def test_another_question_is_asked_of_models_made_again(tmp_path: Path) -> None:
    was = plain(tmp_path, num_layers=2)
    made: list[str] = []

    def model_for(identity: ModelIdentity) -> ScriptedLLM:
        made.append(identity.model)
        return ScriptedLLM(f"{identity.model} anew", model=identity.model)

    replay = replay_of(was.run, prompt="What else?", model_for=model_for)
    assert replay.run().text == "judge anew"
    assert sorted(made) == ["ann", "bob", "cid", "judge"]
    assert replay.policy.answered == 0


def test_no_model_is_made_that_is_not_asked(tmp_path: Path) -> None:
    was = plain(tmp_path)

    def model_for(identity: ModelIdentity) -> ScriptedLLM:
        pytest.fail(f"{identity} was made")

    assert replay_of(was.run, model_for=model_for).run().text == was.text
    assert (
        "other" in replay_of(was.run, swap={"aggregator": speaker("other")}, model_for=model_for).run().text
    )


def test_a_strict_replay_that_lacks_a_call_is_refused(tmp_path: Path) -> None:
    was, other = plain(tmp_path), speaker("other")
    replay = replay_of(was.run, swap={"aggregator": other}, strict=True)
    with pytest.raises(TraceError, match=r"not in the record: other, layer 3 \(synthesize\)"):
        replay.run()
    assert other.calls == []


def test_recorded_failures_are_repeated(tmp_path: Path) -> None:
    was = recorded(tmp_path, 1, fails=0.5, **PLAIN)
    assert was.run.status == "degraded"
    again = replay_of(was.run, strict=True).run()
    assert was.run.ended is not None
    assert again.missing == was.run.ended.missing


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"drop": ["anne"]}, "'anne'; there are 'ann', 'bob', 'cid'. Did you mean 'ann'"),
        ({"swap": {"agregator": speaker("x")}}, "Did you mean 'aggregator'"),
        ({"swap": {"role_writer": speaker("x")}}, "Nobody in this run"),
        ({"drop": ["ann", "bob", "cid"]}, "no proposers left"),
        ({"drop": ["ann"], "swap": {"ann": speaker("x")}}, "say one of the two"),
    ],
)
def test_a_change_that_names_nobody_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        replay_of(plain(tmp_path).run, **changes)


def test_a_redacted_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "redacted.jsonl"
    MixtureOfAgentsPack(speaker("judge"), [speaker("ann")], trace=Trace(path, redact=True)).run("Why?")
    with pytest.raises(TraceError, match="were redacted"):
        replay_of(read_trace(path)[0])


def test_a_run_that_was_refused_is_no_run_to_replay(tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    pack = MixtureOfAgentsPack(
        speaker("judge"), [speaker("ann")], budget=1e-9, prices={"*": {"input": 1, "output": 1}}, trace=path
    )
    with pytest.raises(ConfigurationError):
        pack.run("Why?")
    with pytest.raises(TraceError, match=r"asked nobody, .*: A budget of .* too small"):
        replay_of(read_trace(path)[0], model_for=lambda identity: speaker("one that costs"))


class Constant(BaseEmbedding):
    """All texts are alike to it."""

    def _get_query_embedding(self, query: str) -> list[float]:
        return [1.0, 0.0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return [1.0, 0.0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return [1.0, 0.0]


def test_a_stop_by_similarity_is_replayed_without_the_embedding_model(tmp_path: Path) -> None:
    was = plain(tmp_path, num_layers=4, stop_early=Similarity(Constant(model_name="constant")))
    assert was.run.agreed is not None
    again = replay_of(was.run, strict=True).run()
    assert (again.text, again.stopped_after) == (was.text, 1)


class Shortest(Synthesize):
    """A finish of the caller's own."""

    name = "shortest"


def test_a_finish_of_the_callers_own_has_to_be_passed_again(tmp_path: Path) -> None:
    was = plain(tmp_path, finish=Shortest())
    with pytest.raises(TraceError, match="'shortest', a way of its caller's own"):
        replay_of(was.run)
    assert replay_of(was.run, finish=Shortest(), strict=True).run().text == was.text


def test_agents_are_replayed(tmp_path: Path) -> None:
    class Agent:
        name = "agent"

        def __init__(self) -> None:
            self.runs = 0

        async def run(self, user_msg: Any, chat_history: Any) -> str:
            self.runs += 1
            return "agreed 42"

    agent, path = Agent(), tmp_path / "agent.jsonl"
    pack = MixtureOfAgentsPack(speaker("judge"), [agent, speaker("ann")], trace=Trace(path))
    said = pack.run("Why?").text
    assert replay_of(read_trace(path)[0], strict=True).run().text == said
    assert agent.runs == 2


def test_proposers_that_share_a_local_model_are_laid_out_as_they_were(tmp_path: Path) -> None:
    class Local(ScriptedLLM):
        def __init__(self) -> None:
            super().__init__(lambda messages: f"read {len(str(messages))}", model="local")

        @property
        def prefix_sharing_key(self) -> str:
            return "one"

    local = Local()
    path = tmp_path / "shared.jsonl"
    proposers = [Proposer(local, name="p", role="You are P."), Proposer(local, name="q", role="You are Q.")]
    said = MixtureOfAgentsPack(local, proposers, trace=Trace(path)).run("Why?").text
    assert replay_of(read_trace(path)[0], strict=True).run().text == said


def test_a_model_is_made_again_by_the_class_that_called_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    model = model_like(ModelIdentity(class_name="OpenAI", model="gpt-4o"))
    assert (type(model).__name__, model.metadata.model_name) == ("OpenAI", "gpt-4o")


def test_a_server_of_ones_own_is_found_in_the_configuration_of_the_run() -> None:
    config = {"models": [{"llm": "openai-like:qwen@http://127.0.0.1:9/v1"}, "openai-like: qwen, a prompt"]}
    model = model_like(ModelIdentity(class_name="OpenAILike", model="qwen"), config)
    assert (model.model, model.api_base) == ("qwen", "http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    "identity",
    [ModelIdentity(class_name="Unheard", model="x"), ModelIdentity(class_name="OpenAI", is_agent=True)],
)
def test_a_model_that_nobody_here_makes_is_refused_with_what_to_do(identity: ModelIdentity) -> None:
    with pytest.raises(ConfigurationError, match="--swap NAME=provider:model"):
        model_like(identity)
