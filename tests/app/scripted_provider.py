"""Scripted models behind provider names, for tests of the command line.

Tests add these rows to the table of providers; the product has none of them. As a program, this file
adds the rows and runs `moa` with its own arguments.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index.packs.mixture_of_agents import providers
from llama_index.packs.mixture_of_agents.testing import LatencyLLM, ScriptedLLM


def scripted(model: str) -> ScriptedLLM:
    """Says who it is."""
    return ScriptedLLM(f"answer of {model}", model=model)


def failing(model: str) -> ScriptedLLM:
    """Always down."""
    return ScriptedLLM(lambda messages: RuntimeError(f"{model} is down"), model=model)


class SlowLLM(LatencyLLM):
    """Answers in a minute; writes a file when it is asked, and one when its call is cancelled."""

    async def achat(self, messages: Any, **kwargs: Any) -> Any:
        """Leave traces of the call in the folder that MOA_TEST_TRACES names."""
        traces = Path(os.environ["MOA_TEST_TRACES"])
        (traces / f"{self.model}.asked").touch()
        try:
            return await super().achat(messages, **kwargs)
        except asyncio.CancelledError:
            (traces / f"{self.model}.cancelled").touch()
            raise


def slow(model: str) -> SlowLLM:
    """Answers in a minute."""
    return SlowLLM(latency=60, model=model)


ROWS: Mapping[str, providers.Provider] = {
    name: providers.Provider(module="tests.app.scripted_provider", class_name=name)
    for name in ("scripted", "failing", "slow")
}

if __name__ == "__main__":
    from llama_index.packs.mixture_of_agents.app.__main__ import main

    providers.PROVIDERS = {**providers.PROVIDERS, **ROWS}
    sys.argv[0] = "moa"
    main()
