"""Threads sleep in processes that are the command line's own, and nobody's choice is overruled."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llama_index.packs.mixture_of_agents.app.sleeping import POLICY, let_threads_sleep


def said(script: str, environment: dict[str, str]) -> str:
    """The last line of a script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def test_threads_sleep_unless_the_caller_chose() -> None:
    quiet: dict[str, str] = {}
    let_threads_sleep(quiet)
    assert quiet == {POLICY: "PASSIVE"}
    chosen = {POLICY: "ACTIVE"}
    let_threads_sleep(chosen)
    assert chosen == {POLICY: "ACTIVE"}


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_moa_lets_threads_sleep_before_anything_is_loaded(given: str | None) -> None:
    script = (
        "import os, sys\n"
        "sys.argv = ['moa', '--version']\n"
        "from llama_index.packs.mixture_of_agents.app.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print(os.environ.get({POLICY!r}), 'torch' in sys.modules)\n"
    )
    kept = {} if given is None else {POLICY: given}
    done = subprocess.run(
        [sys.executable, "-c", script], env=kept, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{given or 'PASSIVE'} False"


def test_importing_the_package_changes_no_environment() -> None:
    script = (
        "import os\nbefore = dict(os.environ)\n"
        "import llama_index.packs.mixture_of_agents\n"
        "import llama_index.packs.mixture_of_agents.app.ordering\n"
        f"print({POLICY!r} in os.environ)\n"
    )
    assert said(script, {}) == "False"
