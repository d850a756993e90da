"""A server on 127.0.0.1 that behaves as each test scripts it, and tells what it saw.

It answers as a model would, fails with any status and headers, or hangs; it counts attempts, how many
were in flight at once, and notices clients that hang up. It runs in a thread of its own, so that it
goes on whatever the loops under test do.

    with FaultServer() as server:
        server.script("a", Failure(500), Answer("recovered"))
        ...                                # point a client at server.url, model "a"
        assert server.attempts("a") == 2
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.loopback import api_shapes

LONGEST_HANG = 30.0
"""Seconds after which even a scripted hang ends, so that no test can wait for ever."""


@dataclass(frozen=True)
class Answer:
    """An answer, whole or streamed as the client asked.

    Attributes:
        text: What it says; None for a text that names the model.
        after: Seconds before the first byte.
        pause: Seconds between a stream's pieces.
        breaks_after: Pieces of a stream after which the connection is cut; None for a whole one.
    """

    text: str | None = None
    after: float = 0.0
    pause: float = 0.0
    breaks_after: int | None = None


@dataclass(frozen=True)
class Failure:
    """An HTTP error.

    Attributes:
        status: The HTTP status.
        headers: Further headers, Retry-After for instance.
        code: The `code` in OpenAI's error object.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None


@dataclass(frozen=True)
class Hang:
    """No answer; the connection stays open until the client closes it."""


Behaviour = Answer | Failure | Hang


@dataclass
class Attempt:
    """One request that came in.

    Attributes:
        model: The model it asked for.
        path: The path and query.
        body: Its JSON.
        headers: Its headers, names in lower case.
        arrived: When, in `time.monotonic` seconds.
        over: When the last piece of its answer began to go out: the client may go on from there, long
            before this loop hears of it. Infinity until then.
        hung_up: Set when the client closed the connection before the answer was out.
    """

    model: str
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    arrived: float = field(default_factory=time.monotonic)
    over: float = math.inf
    hung_up: threading.Event = field(default_factory=threading.Event)


class FaultServer:
    """The server; use it as a context manager. It may be read from any thread.

    Attributes:
        seen: Every request so far.
        accepted: Connections so far.
        default: What requests for models without a script meet.
    """

    def __init__(self) -> None:
        self.seen: list[Attempt] = []
        self.accepted = 0
        self.default: Behaviour = Answer()
        self._scripts: dict[str, list[Behaviour]] = {}
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="fault-server", daemon=True)
        self._ready = threading.Event()
        self._port = 0

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """How many connections are open, in use or kept alive."""
        return len(self._connections)

    @property
    def peak(self) -> int:
        """Most requests that were under way at one time."""
        seen = list(self.seen)
        under_way = (sum(other.arrived <= one.arrived < other.over for other in seen) for one in seen)
        return max(under_way, default=0)

    def script(self, model: str, *behaviours: Behaviour) -> None:
        """What requests for `model` meet, one after the other; the last one goes on for ever."""
        self._scripts[model] = list(behaviours)

    def attempts(self, model: str | None = None) -> int:
        """How many requests came in, for one model or for all."""
        return len(self.of(model))

    def of(self, model: str | None = None) -> list[Attempt]:
        """The requests that came in, for one model or for all, in order."""
        return [attempt for attempt in list(self.seen) if model in (None, attempt.model)]

    def hung_up(self, model: str | None = None) -> int:
        """How many of them the client gave up on before it had the answer."""
        return sum(attempt.hung_up.is_set() for attempt in self.of(model))

    def __enter__(self) -> FaultServer:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fault server did not start within 10 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)
        if self._thread.is_alive():
            raise RuntimeError("the fault server did not stop within 10 s")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._done = self._loop.create_future()
        try:
            self._loop.run_until_complete(self._listen())
        finally:
            self._loop.close()

    def _stop(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._done
        server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.accepted += 1
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (attempt := await _read_request(reader)) is not None:
            behaviour = self._enter(attempt)
            try:
                stays = await _unless_hung_up(self._behave(behaviour, attempt, writer), attempt, reader)
            finally:
                attempt.over = min(attempt.over, time.monotonic())
            if not stays:
                return

    def _enter(self, attempt: Attempt) -> Behaviour:
        self.seen.append(attempt)
        script = self._scripts.get(attempt.model, [self.default])
        return script.pop(0) if len(script) > 1 else script[0]

    async def _behave(self, behaviour: Behaviour, attempt: Attempt, writer: asyncio.StreamWriter) -> None:
        if isinstance(behaviour, Hang):
            await asyncio.sleep(LONGEST_HANG)
        elif isinstance(behaviour, Failure):
            await _send_failure(behaviour, attempt, writer)
        else:
            await asyncio.sleep(behaviour.after)
            text = f"answer of {attempt.model}" if behaviour.text is None else behaviour.text
            await _send(text, behaviour, attempt, writer)


async def _read_request(reader: asyncio.StreamReader) -> Attempt | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    path = first.split(" ", 2)[1]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", 0))
    body = json.loads(await reader.readexactly(length)) if length else {}
    return Attempt(_model(path, body), path, body, headers)


def _model(path: str, body: dict[str, Any]) -> str:
    in_path = re.search(r"/models/([^:/?]+)", path)  # where Google's API has it
    return in_path[1] if in_path else str(body.get("model", ""))


class _CutOffError(Exception):
    """The script says that the connection breaks here."""


async def _unless_hung_up(
    response: Coroutine[Any, Any, None], attempt: Attempt, reader: asyncio.StreamReader
) -> bool:
    """Send the response; False when the connection is over. Notes a client that left before the end."""
    sending = asyncio.ensure_future(response)
    # Clients here wait for one response before the next request, so a read returns only at the end.
    leaving = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and not isinstance(sending.exception(), ConnectionError):
            return sending.exception() is None
        attempt.hung_up.set()
        return False
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send(text: str, how: Answer, attempt: Attempt, writer: asyncio.StreamWriter) -> None:
    wire = api_shapes.answer(attempt.path, attempt.body, text)
    attempt.over = time.monotonic()
    if len(wire.pieces) == 1:
        (body,) = wire.pieces
        writer.write(_head(200, wire.media_type, {"Content-Length": str(len(body))}) + body)
        await writer.drain()
        return
    writer.write(_head(200, wire.media_type, {"Transfer-Encoding": "chunked"}))
    for piece in wire.pieces[: how.breaks_after]:
        if piece is wire.pieces[-1]:
            attempt.over = time.monotonic()
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(how.pause)
    if how.breaks_after is not None:
        raise _CutOffError
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _send_failure(failure: Failure, attempt: Attempt, writer: asyncio.StreamWriter) -> None:
    error = {"message": f"scripted {failure.status}", "type": "scripted_error", "code": failure.code}
    payload = json.dumps({"type": "error", "error": error}).encode()
    headers = {"Content-Length": str(len(payload)), **failure.headers}
    attempt.over = time.monotonic()
    writer.write(_head(failure.status, api_shapes.JSON, headers) + payload)
    await writer.drain()


def _head(status: int, media_type: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {media_type}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether the condition came true in time, for what another thread is about to notice."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return condition()
