"""A local model among busy cores: OpenMP's threads that spin while they wait, against those that sleep.

python -m benchmarks.busy_cores

Each figure is a process of its own, because the policy is read when torch is loaded. Cores are kept busy by
processes that count. It knows nothing of how the model is run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.machine import in_a_line, machine

_POLICY = "OMP_WAIT_POLICY"
TOKENS = 40
_COUNT = "while True: pass"
_ANSWER = f"""
import time
import torch  # it reads the policy now, before the package has its say
from llama_index.core.base.llms.types import ChatMessage
from llama_index.packs.mixture_of_agents.app.ordering import local_model
from llama_index.packs.mixture_of_agents.app.view import View
llm, asked = local_model(View()), [ChatMessage(role="user", content="Tell me about the moon and the sea.")]
llm.chat(asked, max_tokens=2)
began = time.perf_counter()
llm.chat(asked, max_tokens={TOKENS}, temperature=0.0)
print(time.perf_counter() - began)
"""


def seconds(policy: str | None) -> float:
    """How long the embedded default takes for some tokens under a policy; None for OpenMP's own."""
    rest = {name: value for name, value in os.environ.items() if name != _POLICY}
    environment = rest if policy is None else {**rest, _POLICY: policy}
    done = subprocess.run(
        [sys.executable, "-c", _ANSWER], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but count."""
    counting = [subprocess.Popen([sys.executable, "-c", _COUNT]) for _ in range(processes)]
    try:
        yield
    finally:
        for one in counting:
            one.kill()
            one.wait()


def main() -> None:
    """Measure and print."""
    print(in_a_line(machine(("torch", "transformers"))), flush=True)
    print(f"\nSeconds for {TOKENS} tokens:\n")
    print("| busy processes | threads spin | threads sleep | ratio |\n|---:|---:|---:|---:|")
    for processes in (0, 1, 2):
        with busy(processes):
            spins, sleeps = (min(seconds(policy) for _ in range(3)) for policy in (None, "PASSIVE"))
        print(f"| {processes} | {spins:.1f} | {sleeps:.1f} | {spins / sleeps:.2f} |", flush=True)


if __name__ == "__main__":
    main()
