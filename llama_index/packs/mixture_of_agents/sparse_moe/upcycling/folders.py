"""A folder that appears whole or not at all.

Files are written beside the destination and the folder is renamed into place at the end, so a kill at
any moment leaves nothing under the destination's name. What a killed run left beside it is removed by
the next. It does not know what is written.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

# Where folders cannot be locked, only age tells that nobody is writing any more.
_ABANDONED_AFTER_SECONDS = 24 * 3600


@contextmanager
def published_folder(destination: Path) -> Iterator[Path]:
    """Give a folder to fill; it becomes `destination` when the block ends without an error.

    Args:
        destination: Must not exist, or be an empty folder; its parents are made.

    Yields:
        The folder to write into, on the same file system.

    Raises:
        ConfigurationError: The destination is taken, or cannot be made.
    """
    require_free(destination)
    parent = destination.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(destination)
        folder = parent / f"{_prefix(destination)}{secrets.token_hex(6)}"
        folder.mkdir()
    except OSError as problem:
        raise ConfigurationError(
            f"cannot write beside {destination}: {problem}; choose another place"
        ) from problem
    lock = _locked(folder)
    try:
        yield folder
        _sync_all(folder)
        _rename(folder, destination)
        _sync(parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def require_free(destination: Path) -> None:
    """Refuse a destination that holds something.

    Raises:
        ConfigurationError: It is a file, or a folder with content.
    """
    taken = destination.is_symlink() or (destination.exists() and not destination.is_dir())
    if taken or (destination.is_dir() and any(destination.iterdir())):
        raise ConfigurationError(
            f"{destination} exists and is not an empty folder; remove it or name another"
        )


def _prefix(destination: Path) -> str:
    return f".{destination.name}.partial-"


def _remove_abandoned(destination: Path) -> None:
    for folder in destination.absolute().parent.glob(f"{_prefix(destination)}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Tell whether the process that wrote this folder is gone. Its lock dies with it."""
    age = time.time() - folder.stat().st_mtime
    if sys.platform == "win32":
        return age > _ABANDONED_AFTER_SECONDS
    lock = _locked(folder)
    if lock is None:
        return False
    os.close(lock)
    # Between making and locking a folder lies a moment in which it only looks abandoned.
    return age > 1.0


def _locked(folder: Path) -> int | None:
    """Take the folder's lock; None if another process holds it or folders cannot be locked."""
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _rename(folder: Path, destination: Path) -> None:
    try:
        if destination.is_dir():
            destination.rmdir()
        folder.rename(destination)
    except OSError as problem:
        raise ConfigurationError(
            f"{destination} was taken while the model was being made ({problem}); remove it or name another"
        ) from problem


def _sync_all(folder: Path) -> None:
    mode = folder.stat().st_mode & 0o666
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            # safetensors writes files for their owner only; the folder's mode is what this user wants.
            path.chmod(mode)
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
