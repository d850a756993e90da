"""A gate and limits in a configuration: what comes of them, and what is refused before any call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.config import MixtureConfig, RefusedError, load_config
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.gate.capacity import Capacity
from llama_index.packs.mixture_of_agents.gate.capped_gate import CappedGate
from llama_index.packs.mixture_of_agents.gate.limits import Limits
from llama_index.packs.mixture_of_agents.gate.online import OnlineGate
from llama_index.packs.mixture_of_agents.gate.protocol import Gate
from llama_index.packs.mixture_of_agents.gate.rules import RuleGate
from llama_index.packs.mixture_of_agents.gate.saved import save_gate
from llama_index.packs.mixture_of_agents.gate.training import Recipe, trained
from llama_index.packs.mixture_of_agents.results import MixtureResponse, Proposal
from llama_index.packs.mixture_of_agents.runs.mixture import Mixture
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
from tests.gate.recorded_answers import cases


class Cast:
    """Makes scripted models by name, and keeps them."""

    def __init__(self) -> None:
        self.made: dict[str, ScriptedLLM] = {}

    def __call__(self, name: str, *, settings: Mapping[str, Any]) -> ScriptedLLM:
        return self.made.setdefault(name, ScriptedLLM(f"answer of {name}: 42", model=name))


def rules(path: Path, *rule: dict[str, Any], otherwise: list[str] | None = None) -> str:
    return str(save_gate(RuleGate(rule, otherwise), path / "gate"))


def mixture_of(**values: Any) -> Mixture:
    return MixtureConfig(**values).pack(Cast()).workflow.mixture


def capacity_in(mixture: Mixture) -> Capacity:
    return next(policy for policy in mixture.policies if isinstance(policy, Capacity))


def test_a_gate_of_a_file_decides_whom_to_ask(tmp_path: Path) -> None:
    folder = rules(tmp_path, {"ask": ["small"], "words": ["sum"]}, otherwise=["large"])
    path = tmp_path / "moa.toml"
    path.write_text(f"proposers = ['small', 'large']\nnum_layers = 2\ngate = '{folder}'\n", encoding="utf-8")
    pack = load_config(path).pack(Cast())
    for question, asked in (("A sum, please", ["small"]), ("Why?", ["large"])):
        response = pack.run(question)
        assert [proposal.proposer for proposal in response.proposals] == asked
        assert [routing.asked for routing in response.routed] == [asked, []]
    assert pack.workflow.mixture.facts.config is not None
    assert pack.workflow.mixture.facts.config["gate"] == folder


def test_a_folder_that_is_no_gate_is_refused_at_its_key(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"^gate: There is no gate at .*nowhere.*moa gate train"):
        MixtureConfig(proposers=["a"], gate=tmp_path / "nowhere").pack(Cast())


def test_a_deadline_of_no_limits_is_refused() -> None:
    with pytest.raises(RefusedError, match="limits_deadline needs limits"):
        MixtureConfig(proposers=["a"], limits_deadline=30).pack(Cast())


def test_a_gate_of_other_proposers_is_refused_before_any_call(tmp_path: Path) -> None:
    some, reader = cases()
    folder = save_gate(trained(some, reader, Recipe()), tmp_path / "gate")
    cast = Cast()
    with pytest.raises(ConfigurationError, match="made for tiny, small, large; it knows nothing of huge"):
        MixtureConfig(proposers=["tiny", "huge"], gate=folder).pack(cast)
    assert not any(model.calls for model in cast.made.values())
    MixtureConfig(proposers=["tiny", "small", "large"], gate=folder).pack(cast)


def test_limits_become_a_capacity_that_takes_part_in_every_run() -> None:
    mixture = mixture_of(
        proposers=["a", "b"],
        limits={
            "ScriptedLLM": {"in_flight": 5, "requests_per_minute": 60, "tokens_per_minute": 10_000},
            "b": {"budget_share": 0.5},
        },
        budget=0.1,
    )
    assert capacity_in(mixture).limits == {
        "ScriptedLLM": Limits(in_flight=5, requests_per_minute=60, tokens_per_minute=10_000),
        "b": Limits(budget_share=0.5),
    }
    assert mixture.gate is None


def test_with_a_gate_who_has_no_room_is_passed_over(tmp_path: Path) -> None:
    gate: Gate | None = mixture_of(
        proposers=["a", "b"],
        gate=rules(tmp_path, {"ask": ["a"]}),
        limits={"a": {"requests_per_minute": 1}},
        max_retries=0,
        limits_deadline=0,
    ).gate
    assert isinstance(gate, CappedGate)
    pack = MixtureConfig(
        proposers=["a", "b"],
        aggregator="judge",
        num_layers=2,
        gate=tmp_path / "gate",
        limits={"a": {"requests_per_minute": 1}},
        max_retries=0,
    ).pack(Cast())
    asked = [pack.run("Why?").routed[0].asked for _ in range(2)]
    assert asked == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"limits": {"ScriptedLLM": {}}}, "limits.ScriptedLLM must set a limit: in_flight, "),
        ({"limits": {"ScriptedLLM": {"in_flght": 5}}}, "Did you mean 'in_flight'"),
        (
            {"limits": {"ScriptedLLM": {"in_flight": 0}}},
            "limits.ScriptedLLM.in_flight must be a whole number",
        ),
        ({"limits": {"ScriptedLLM": 5}}, r"limits.ScriptedLLM must be a table such as \{in_flight = 5"),
        ({"limits": 5}, "limits must be a table of limits by class, model or proposer"),
        ({"limits": {"openai": {"in_flight": 5}}}, r"limits.openai means nobody here.*ScriptedLLM\(a\)"),
        ({"limits": {"a": {"budget_share": 0.5}}}, "budget_share, but of what"),
        ({"limits": {"a": {"requests_per_minute": 1}}, "limits_deadline": -1}, "limits_deadline"),
        ({"gate": 3}, "gate must be"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        MixtureConfig(proposers=["a"], **values).pack(Cast())


def test_a_gate_may_reckon_with_what_it_was_told(tmp_path: Path) -> None:
    folder = rules(tmp_path, {"ask": ["a"]})
    gate = mixture_of(proposers=["a", "b"], gate=folder, gate_online=True).gate
    assert isinstance(gate, OnlineGate)
    assert not (Path(folder) / "outcomes.sqlite").exists()
    proposal = Proposal(text="answer of a: 42", proposer="a", layer=1)
    response = MixtureResponse(text=proposal.text, proposals=[proposal], run_id="r")
    gate.feedback(response, right=True, question="Why?")
    assert (Path(folder) / "outcomes.sqlite").exists()
    again = mixture_of(proposers=["a", "b"], gate=folder, gate_online=True).gate
    assert isinstance(again, OnlineGate)
    assert again.estimates()["proposer", "a"].right == 1
    assert isinstance(mixture_of(proposers=["a", "b"], gate=folder).gate, RuleGate)
    with pytest.raises(ConfigurationError, match="gate_online needs a gate"):
        mixture_of(proposers=["a"], gate_online=True)
    with pytest.raises(ConfigurationError, match="gate_online must be true or false"):
        MixtureConfig(proposers=["a"], gate=folder, gate_online="yes")
