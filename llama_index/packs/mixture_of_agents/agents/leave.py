"""Leave to write, asked of whoever reads the stream of the crew's run.

    data_specialist(source, folder=folder, confirm=ask_by_event)

    handler = crew.workflow.run(request="Clean the sales table and save it.")
    async for event in handler.stream_events():
        if isinstance(event, WriteQuestionEvent):
            handler.ctx.send_event(WriteDecisionEvent(question=event.question, approved=True))

What is written is not known here.
"""

from __future__ import annotations

from llama_index.packs.mixture_of_agents.agents.live_crew import current_crew
from llama_index.packs.mixture_of_agents.errors import ToolError


async def ask_by_event(what: str) -> bool:
    """Put a `WriteQuestionEvent` on the run's stream and wait for its `WriteDecisionEvent`.

    It is a `confirm` for tools that write. The run's clock stands still meanwhile; the task's does not.

    Args:
        what: What is about to be written, and where.

    Raises:
        ToolError: No crew is at work here, or nobody reads its stream.
    """
    try:
        live = current_crew()
    except LookupError:
        raise ToolError(
            f"not done: {what} needs a confirmation, and no crew is at work to ask for one"
        ) from None
    return await live.ask(what)
