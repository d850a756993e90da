"""Starts `llm-katan`, an OpenAI-compatible server from the package index, on 127.0.0.1.

Its echo backend needs no model; its own options inject faults. Knows the process, not the tests.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 40.0
STOP_SECONDS = 1.0


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """Run a server in `folder` with further command-line options; gives its address."""
    port = free_port()
    fixed = ["-m", "llm_katan.cli", "-m", "echo", "--backend", "echo", "-h", "127.0.0.1", "-p", str(port)]
    kept = ["--stats-file", str(folder / "stats.json"), "--disable-dashboard", "--max-concurrent", "64"]
    log = folder / "katan.log"
    # Warnings are errors in these tests, not in somebody else's server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *fixed, *kept, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
        )
    try:
        _wait_until_listening(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(process)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    said = re.sub(r"\s+", " ", log.read_text(errors="replace"))[-1000:]
    raise RuntimeError(f"llm-katan did not listen within {START_SECONDS:g} s; it said: {said}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # it waits for its answers in flight; nobody else does
        process.wait(STOP_SECONDS)
