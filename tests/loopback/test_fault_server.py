"""What the fault server counts is what its clients did."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

from tests.loopback.fault_server import FaultServer

REQUEST_BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(REQUEST_BODY)
) + REQUEST_BODY


def test_a_request_that_follows_an_answer_is_not_under_way_with_it(server: FaultServer) -> None:
    with ExitStack() as stack:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        clients = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(2)]
        for turn in range(2000):
            client = clients[turn % 2]
            client.sendall(REQUEST)
            assert client.recv(65536)
    assert server.peak == 1
