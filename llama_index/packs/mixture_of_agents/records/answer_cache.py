"""A cache of answers across runs and processes, for who asks for one.

It keeps answers by the content of their calls, in one SQLite file. Failures are not kept, nor answers that
ask for tools, nor those of agents: whether those tools would still say the same, nobody here knows. What the
cache cannot do costs a warning, never a call. It knows nothing of rounds.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from llama_index.packs.mixture_of_agents.calls.threads import in_thread
from llama_index.packs.mixture_of_agents.checks import shown
from llama_index.packs.mixture_of_agents.databases import Layout
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, TraceError
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.records.replaying.answers import call_key
from llama_index.packs.mixture_of_agents.records.traces.redaction import cleaned
from llama_index.packs.mixture_of_agents.results import Missing, Proposal

FROM_CACHE = "cache"
"""Stands in `details["source"]` of a proposal that came from the cache; its usage is that of the call which
was answered, and now took nothing."""
_ASKS_FOR_TOOLS = ("tool_calls", "tool_use", "function_call")
_LAYOUT = Layout(
    application=0x6D6F6131,
    version=1,
    table="CREATE TABLE IF NOT EXISTS answers "
    "(key TEXT PRIMARY KEY, kept_at REAL NOT NULL, proposal TEXT NOT NULL)",
    patience=5.0,
)

_logger = logging.getLogger(__name__)


class AnswerCache:
    """A `CallPolicy` that answers what was answered before: `MixtureOfAgentsPack(..., policies=[cache])`.

    At a temperature above 0 it makes equal what otherwise differs from run to run. It holds what was said,
    so it is as private as that; its owner alone may read it.

    Args:
        path: The file; it is made where there is none. Processes may share it, on a local disk.
        clock: Seconds since 1970.

    Raises:
        TraceError: It cannot be opened, or is no such file.
        ConfigurationError: It is no path.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self.path, self._clock = _checked(path), clock
        self._warned = False
        try:
            _LAYOUT.make(self.path)
        except (OSError, ValueError, sqlite3.Error) as error:
            raise TraceError(
                f"The cache {self.path} cannot be used ({error}). See that it is a file of this package and "
                "may be written to, or pass another path."
            ) from error

    async def before(self, call: Call) -> Proposal | None:
        """The answer to such a call, where there was one; what tools it might call, nobody can know."""
        if _may_use_tools(call):
            return None
        found = await in_thread(lambda: self._find(call_key(call)))
        if found is None:
            return None
        details = {**found.details, "source": FROM_CACHE}
        return found.model_copy(update={"layer": call.layer, "details": details})

    async def after(self, call: Call, outcome: Proposal | Missing) -> None:
        """Keep an answer."""
        if isinstance(outcome, Proposal) and not _may_use_tools(call) and _is_whole(outcome):
            await in_thread(lambda: self._keep(call_key(call), outcome))

    def __len__(self) -> int:
        with _LAYOUT.reading(self.path, _LAYOUT.patience) as database:
            row = None if database is None else database.execute("SELECT count(*) FROM answers").fetchone()
        return 0 if row is None else int(row[0])

    def _find(self, key: str) -> Proposal | None:
        try:
            with _LAYOUT.reading(self.path, _LAYOUT.patience) as database:
                asked = "SELECT proposal FROM answers WHERE key = ?"
                row = None if database is None else database.execute(asked, (key,)).fetchone()
            return None if row is None else Proposal.model_validate(json.loads(row[0]))
        except (OSError, sqlite3.Error, ValidationError, ValueError) as error:
            self._warn(error)
            return None

    def _keep(self, key: str, proposal: Proposal) -> None:
        # In ASCII: SQLite takes no half of a surrogate pair, and ends texts at NUL in some of its tools.
        text = json.dumps(cleaned(proposal.model_dump(mode="json")))
        try:
            with _LAYOUT.writing(self.path) as database:
                row = (key, self._clock(), text)
                database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", row)
        except (OSError, ValueError, sqlite3.Error) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _logger.warning("The cache %s cannot be used (%s); calls go out instead", self.path, error)


def _may_use_tools(call: Call) -> bool:
    return bool(call.tools) or call.identity.is_agent


def _is_whole(proposal: Proposal) -> bool:
    """Whether the text is all there was: a proposal does not hold the tools that were asked for."""
    return bool(proposal.text.strip()) and proposal.details.get("finish_reason") not in _ASKS_FOR_TOOLS


def _checked(path: object) -> Path:
    named = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(named, str) or not named.strip() or "\0" in named:
        raise ConfigurationError(f"A cache needs the path of a file; found {shown(path)}.")
    return Path(named)
