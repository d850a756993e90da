"""The `moa` program. It starts without typer and rich, so that it can say where to get them."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from llama_index.packs.mixture_of_agents.app.sleeping import let_threads_sleep
from llama_index.packs.mixture_of_agents.errors import MissingExtraError


def main() -> None:
    """Run `moa` with this process's command line, and exit with its status."""
    if any(find_spec(name) is None for name in ("typer", "rich")):
        sys.stderr.write(f"moa: {MissingExtraError('The command line', 'cli')}\n")
        raise SystemExit(2)
    _stand_in_for_closed_streams()
    let_threads_sleep()
    try:
        # Not at the top: these libraries are an extra.
        from llama_index.packs.mixture_of_agents.app.commands import run
    except KeyboardInterrupt:  # it takes a second or two, in which one may think better of it
        raise SystemExit(130) from None
    run(sys.argv[1:])


def _stand_in_for_closed_streams() -> None:
    """Where the caller closed standard output (`>&-`), Python has None in its place, and prints fail."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for the whole process)


if __name__ == "__main__":
    main()
