"""What the figures were measured on. It knows no benchmark."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("llama-index-core", "llama-index-workflows", "mixture-llm")


def machine(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Processor, cores and the versions that matter."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def in_a_line(about: dict[str, str]) -> str:
    """A machine as text."""
    return ", ".join(f"{name} {value}" for name, value in about.items())


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
