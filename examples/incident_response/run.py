"""Looks into an alert bundle with a crew, and writes a report.

    python -m examples.incident_response.run                                  # offline, on the embedded model
    python -m examples.incident_response.run --bundle incident/bundle --model openai:gpt-4o-mini
    python -m examples.incident_response.run --seed 7 --confirm --out report

Without a bundle it generates one; the truth about it is marked against the findings at the end, and no agent
ever reads it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from examples.incident_response import report, team
from examples.incident_response.findings import compare
from examples.incident_response.generate import QUESTION, SCENARIOS, generate
from examples.incident_response.tools import IncidentTools
from llama_index.packs.mixture_of_agents.agents import Crew, CrewResponse, Plan
from llama_index.packs.mixture_of_agents.agents.narration import Narrator

LOCAL = "local"


async def look_into(crew: Crew, question: str, show: bool = True) -> CrewResponse:
    """Ask the crew, and show what it does as it does it."""
    narrator = Narrator()
    async for item in crew.astream(question):
        if isinstance(item, CrewResponse):
            return item
        for line in narrator.lines(item) if show else ():
            print(line, flush=True)
    raise RuntimeError("the crew ended without an answer")


def model_named(name: str) -> Any:
    """The embedded default for "local", else a model by its name, "openai:gpt-4o-mini" for instance."""
    if name != LOCAL:
        from llama_index.packs.mixture_of_agents.providers import llm_named

        return llm_named(name)
    from llama_index.packs.mixture_of_agents.app.choosing import view_for
    from llama_index.packs.mixture_of_agents.app.ordering import local_model

    view = view_for()
    try:
        return local_model(view, words_facts=True)
    finally:
        view.close()


def ask_at_terminal(plan: Plan) -> bool:
    """Show a plan and ask whether to carry it out."""
    print(plan.as_text())
    return input("Carry it out? [Y/n] ").strip().lower() in ("", "y", "yes")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    given = _parser().parse_args(arguments)
    out = Path(given.out or tempfile.mkdtemp(prefix="incident-"))
    truth: Path | None = None
    folder = given.bundle
    if folder is None:
        folder, truth = generate(given.seed, out, scenario=given.scenario, with_injections=given.injections)
    tools = IncidentTools(folder)
    crew = team.crew(
        tools,
        model_named(given.model),
        small=given.model == LOCAL,
        confirm=ask_at_terminal if given.confirm else None,
    )
    question = tools.bundle.alert.get("question", QUESTION)
    response = asyncio.run(look_into(crew, question))
    path = report.write(out, response, tools)
    print(f"\n{path.read_text(encoding='utf-8')}\nThe report is in {path}")
    if truth is not None and "find_movement" in tools.used:
        marked = compare(tools.findings, truth)
        print(f"Against the truth: right = {marked.perfect}")
        for part, found in marked.recall.items():
            right = f"{marked.precision[part]:.0%} of what is reported is true"
            print(f"  {part:<11}{found:.0%} of the truth is found, {right}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", help="folder with an alert and logs; without it one is generated")
    parser.add_argument("--seed", type=int, default=7, help="of the bundle that is generated")
    parser.add_argument("--scenario", choices=SCENARIOS, default="lateral")
    parser.add_argument("--injections", action="store_true", help="some lines speak to the model")
    parser.add_argument("--model", default=LOCAL, help="provider:model; by default the embedded one, offline")
    parser.add_argument("--out", help="folder for the report")
    parser.add_argument("--confirm", action="store_true", help="ask before the plan is carried out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
