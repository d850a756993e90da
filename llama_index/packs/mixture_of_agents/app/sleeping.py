"""Threads of OpenMP that sleep while they wait. It knows neither torch nor models."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

POLICY = "OMP_WAIT_POLICY"


def let_threads_sleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have this process's OpenMP threads sleep between computations, unless the caller chose otherwise.

    By default they spin, which takes the time of whoever they wait for where cores are busy: a small model
    then answers several times slower (`benchmarks/busy_cores.py`), and no faster where they are idle. It is
    read once, when torch is loaded, so this has to come before.

    Args:
        environment: Of the process.
    """
    environment.setdefault(POLICY, "PASSIVE")
