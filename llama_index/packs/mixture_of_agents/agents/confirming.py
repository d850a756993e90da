"""Showing a plan to whoever may change it or say no. It knows no workflow."""

from __future__ import annotations

from llama_index.packs.mixture_of_agents.agents.options import Confirm
from llama_index.packs.mixture_of_agents.agents.plans import Plan
from llama_index.packs.mixture_of_agents.calls.threads import called
from llama_index.packs.mixture_of_agents.errors import PlanRejectedError


async def ask_for_consent(confirm: Confirm, plan: Plan) -> Plan:
    """The plan that may be carried out: the one shown, or a changed one.

    Args:
        confirm: Who is asked; a plain function may block, as one that asks at a terminal does.
        plan: The plan.

    Raises:
        PlanRejectedError: The answer was no.
    """
    said = await called(confirm, plan)
    if said is False:
        raise PlanRejectedError("the plan was rejected; nothing of it was carried out")
    if isinstance(said, Plan) and said != plan:
        return said.model_copy(update={"source": "edited"})
    return plan
