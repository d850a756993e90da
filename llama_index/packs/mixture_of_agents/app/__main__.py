"""The `moa` program. It starts without typer and rich, so that it can say where to get them."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from llama_index.packs.mixture_of_agents.errors import MissingExtraError


def main() -> None:
    """Run `moa` with this process's command line, and exit with its status."""
    if any(find_spec(name) is None for name in ("typer", "rich")):
        sys.stderr.write(f"moa: {MissingExtraError('The command line', 'cli')}\n")
        raise SystemExit(2)
    # Not at the top: these libraries are an extra.
    from llama_index.packs.mixture_of_agents.app.commands import run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()
