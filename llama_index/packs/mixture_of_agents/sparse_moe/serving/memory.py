"""Is there memory enough? Asked before work begins, so that the answer is a message and not a crash.

It reads what is free now, on the device that will hold the tensors. It does not know what is being made.
"""

from __future__ import annotations

import torch

from llama_index.packs.mixture_of_agents.errors import OutOfMemoryError


def available_bytes(device: torch.device) -> int:
    """Read how much memory a device could give now, in bytes."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    import psutil

    return int(psutil.virtual_memory().available)


def require_memory(what: str, needed: int, device: torch.device, remedy: str) -> None:
    """Refuse work that does not fit.

    Args:
        what: What is being made, as the subject of a sentence.
        needed: In bytes.
        device: Where it will be.
        remedy: What would help.

    Raises:
        OutOfMemoryError: Says how much is needed and how much is free.
    """
    free = available_bytes(device)
    if needed > free:
        raise OutOfMemoryError(
            f"{what} needs {_readable(needed)} of memory and {_readable(free)} is free on {device}; {remedy}"
        )


def _readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
