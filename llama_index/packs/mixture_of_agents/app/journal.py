"""The journal of a batch: what is answered, so that a killed batch goes on where it was.

It is a folder beside the output: a file of finished rows, and for each row in work the checkpoint of its run.
A row is in the journal before it is in the output; the output grows in order, and is at every moment the
beginning of what it will be. It knows neither models nor what a row says.

    answers.jsonl                          rows 1 to n, in order
    answers.jsonl.journal/finished.jsonl   a header, then rows as they were finished
    answers.jsonl.journal/row-17.json      a checkpoint
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from llama_index.packs.mixture_of_agents.app.batch_rows import Row, line_of
from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.locks import FileLock, HeldElsewhereError

VERSION = 1


class Journal:
    """The state of a batch on disk, held by this process until it is closed.

    Args:
        output: Where answers go.
        rows: All rows of the batch.
        mixture: Whom they are put to, as JSON.

    Attributes:
        finished: Rows that are done, by number.

    Raises:
        ConfigurationError: The output is there without a journal, or the journal belongs to other rows or
            another mixture, is in use, or cannot be read or written.
    """

    def __init__(self, output: Path, rows: Sequence[Row], mixture: Mapping[str, Any]) -> None:
        self._output, self._rows = output, rows
        self._folder = output.with_name(f"{output.name}.journal")
        self._file = self._folder / "finished.jsonl"
        self._writing = threading.Lock()
        self._next, self._closed = 1, False
        self.finished: dict[int, dict[str, Any]] = {}
        try:
            self._open(mixture)
        except OSError as error:
            raise ConfigurationError(
                f"{output} cannot be written ({error}). See that its folder exists and may be written to, or "
                "name another file."
            ) from error

    def checkpoint(self, row: Row) -> Path:
        """Where the run of a row in work is kept."""
        return self._folder / f"row-{row.number}.json"

    def finish(self, row: Row, answer: Mapping[str, Any]) -> None:
        """Keep a finished row, and put out what is now complete. It may be called from any thread.

        Raises:
            OSError: It cannot be written.
        """
        with self._writing:
            if self._closed:  # the batch was interrupted; another process may have it by now
                return
            entry = {"row": row.number, "digest": row.digest, "answer": answer}
            _append(self._file, line_of(entry))
            self.finished[row.number] = dict(answer)
            self._put_out()
        self.checkpoint(row).unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process have it; a complete batch needs no journal any more."""
        with self._writing:
            self._closed = True
            if self._next > len(self._rows):  # all is put out, not only known
                for path in (*self._folder.glob("row-*.json*"), self._file):
                    path.unlink(missing_ok=True)
            self._lock.release()
            if not any(self._folder.iterdir()):
                self._folder.rmdir()

    def _open(self, mixture: Mapping[str, Any]) -> None:
        if self._output.exists() and not self._folder.is_dir():
            raise ConfigurationError(
                f"{self._output} exists, and no journal of an unfinished batch is beside it. Name another "
                "file, or delete it."
            )
        self._folder.mkdir(exist_ok=True)
        try:
            self._lock = FileLock(self._folder / "lock")
        except HeldElsewhereError as error:
            raise ConfigurationError(f"Another process is writing {self._output}; wait for it.") from error
        try:
            self._resume(mixture)
        except BaseException:
            self._lock.release()
            raise

    def _resume(self, mixture: Mapping[str, Any]) -> None:
        header = {"version": VERSION, "mixture": json.loads(json.dumps(mixture, default=str))}
        lines = _whole_lines(self._file)
        if lines:
            self._check_header(lines[0], header)
        else:
            _append(self._file, line_of(header))
        for line in lines[1:]:
            self._take(line)
        self._check_output()

    def _check_header(self, line: bytes, header: Mapping[str, Any]) -> None:
        found = self._read(line)
        was, now = found.get("mixture"), header["mixture"]
        if found.get("version") != VERSION or not isinstance(was, dict):
            raise ConfigurationError(
                f"{self._folder} is not a journal of this version of moa. {self._advice}"
            )
        changed = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
        if changed:
            raise ConfigurationError(
                f"{self._output} was begun with other settings; these differ: {', '.join(changed)}. "
                f"Give the same command again to go on. {self._advice}"
            )

    def _take(self, line: bytes) -> None:
        entry = self._read(line)
        number, answer = entry.get("row"), entry.get("answer")
        row = self._rows[number - 1] if isinstance(number, int) and 0 < number <= len(self._rows) else None
        if row is None or row.digest != entry.get("digest") or not isinstance(answer, dict):
            raise ConfigurationError(
                f"Row {number} is not what it was when {self._output} was begun. Give the same prompts; "
                f"new ones may be added behind them. {self._advice}"
            )
        self.finished[row.number] = answer

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ConfigurationError(f"{self._file} cannot be read ({error}). {self._advice}") from error
        return entry if isinstance(entry, dict) else {}

    @property
    def _advice(self) -> str:
        return f"To start over, delete {self._output} and {self._folder}."

    def _check_output(self) -> None:
        """The output must be the beginning of what it will be; a line cut by a kill is such a beginning."""
        there = self._output.read_bytes() if self._output.exists() else b""
        lines = self._complete()
        complete = b"".join(lines)
        if not complete.startswith(there):
            raise ConfigurationError(f"{self._output} was changed since the batch wrote it. {self._advice}")
        _append(self._output, complete[len(there) :])
        self._next += len(lines)

    def _put_out(self) -> None:
        lines = self._complete()
        if lines:
            _append(self._output, b"".join(lines))
            self._next += len(lines)  # not before: what the disk had no room for is put out by the next

    def _complete(self) -> list[bytes]:
        """The lines that follow those put out already, up to the first row that is not done."""
        done = takewhile(self.finished.__contains__, count(self._next))
        return [line_of(self.finished[number]) for number in done]


def _append(path: Path, content: bytes) -> None:
    """Append all of it or nothing: half a line would spoil the next one."""
    # Without a buffer, which would be written once more when the file is closed.
    with path.open("ab", buffering=0) as file:
        end, left = file.tell(), memoryview(content)
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)
            raise


def _whole_lines(path: Path) -> list[bytes]:
    """A file's lines; one that a kill cut short is taken off it."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return whole.splitlines()
