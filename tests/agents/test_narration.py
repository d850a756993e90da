"""What a crew does, in lines for a terminal."""

from __future__ import annotations

from llama_index.packs.mixture_of_agents.agents import Plan
from llama_index.packs.mixture_of_agents.agents.narration import told
from tests.agents.crews import crew_of, followed


async def test_a_plan_is_told_once_and_again_where_somebody_changed_it() -> None:
    def without_last(plan: Plan) -> Plan:
        return plan.model_copy(update={"tasks": plan.tasks[:-1]})

    for confirm, drawn in (
        (None, ["Plan (planner, 3 tasks)"]),
        (without_last, ["(planner, 3", "(edited, 2"]),
    ):
        lines = [told(event) for event in (await followed(crew_of(confirm=confirm))).events]
        plans = [line for line in lines if " plan " in line]
        assert len(plans) == len(drawn)
        assert all(words in line for line, words in zip(plans, drawn, strict=True))
