"""A lock on a file's neighbour, that dies with the process that holds it. Knows nothing of contents."""

from __future__ import annotations

import errno
import logging
import os
import sys
import weakref
from pathlib import Path

_logger = logging.getLogger(__name__)
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class HeldElsewhereError(Exception):
    """Someone else holds the lock."""


class FileLock:
    """Holds `path` from construction until `release`, or until its process dies, however that happens.

    The operating system forgets the lock of a killed process; the file that is then left is no obstacle.

    Args:
        path: A file for the lock alone; it is made, and deleted on release.

    Raises:
        HeldElsewhereError: Another process or another object holds it.
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        handle = _held(path)
        self._finalizer = weakref.finalize(self, _release, handle, path)
        # A forked child leaves by way of the same exit handlers; the lock is not its to release.
        self._finalizer.atexit = False

    def release(self) -> None:
        """Let others have it; a second time does nothing."""
        self._finalizer()


def _held(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock_or_warn(handle, path)
            if _is_at(path, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder deleted it between our opening and our locking it


def _lock_or_warn(handle: int, path: Path) -> None:
    try:
        _lock(handle)
    except (BlockingIOError, PermissionError) as error:
        raise HeldElsewhereError(str(path)) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
        _logger.warning(
            "%s is on a file system without locks (%s): nothing keeps two runs apart", path, error
        )


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _release(handle: int, path: Path) -> None:
    try:
        if sys.platform != "win32":  # Windows deletes no open file; there it stays, and is used again
            path.unlink(missing_ok=True)
    except OSError as error:
        _logger.warning("%s could not be deleted (%s); it is no longer needed", path, error)
    finally:
        os.close(handle)
