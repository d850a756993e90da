"""A stand-in for the three hosts that LlamaIndex's pack downloader asks, on loopback.

    with GithubProxy(repository, folder) as proxy:
        subprocess.run(..., env={"HTTPS_PROXY": proxy.url, "REQUESTS_CA_BUNDLE": str(proxy.ca_file)})
    proxy.asked, proxy.refused

It takes `CONNECT`, opens the TLS connection itself with a certificate made a moment ago, and answers from
a working tree as GitHub would. A host it does not stand for is refused and remembered; nothing is ever
passed on. Knows the downloader's addresses, nothing of what is downloaded.
"""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import TracebackType

from tests.ways_in.certificates import write_certificates

PAGES = "github.com"
FILES = "raw.githubusercontent.com"
COUNTER = "llamahub.ai"

TREE_PREFIX = "/run-llama/llama_index/tree/main/"
FILE_PREFIX = "/run-llama/llama_index/main/"
COUNTER_PATH = "/api/analytics/downloads"
PACKS = PurePosixPath("llama-index-packs")


@dataclass(frozen=True)
class Asked:
    """One request that reached a host."""

    method: str
    host: str
    path: str
    body: str = ""


@dataclass(frozen=True)
class Answer:
    """What a host says."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class Repository:
    """One pack's folder in LlamaIndex's repository, served from a working tree.

    Attributes:
        root: The working tree.
        name: The pack's folder in the repository.
        shared: What of the tree is there: files, and folders with all they hold.
    """

    root: Path
    name: str
    shared: tuple[str, ...]

    def answer(self, asked: Asked) -> Answer | None:
        """The answer to a request, or None where the host would say 404."""
        if asked.host == PAGES and asked.method == "GET" and asked.path.startswith(TREE_PREFIX):
            return self._listing(asked.path.removeprefix(TREE_PREFIX).removesuffix("?recursive=1"))
        if asked.host == FILES and asked.method == "GET" and asked.path.startswith(FILE_PREFIX):
            return self._file(asked.path.removeprefix(FILE_PREFIX))
        if asked.host == COUNTER and asked.method == "POST" and asked.path == COUNTER_PATH:
            return Answer(b"{}", "application/json")
        return None

    def _local(self, path: str) -> Path | None:
        """The file or folder of the tree that a repository path names, if it is shared."""
        full = PurePosixPath(path)
        if ".." in full.parts or not full.is_relative_to(PACKS / self.name):
            return None
        inside = full.relative_to(PACKS / self.name)
        if not any(inside.is_relative_to(shared) for shared in self.shared):
            return None
        return self.root / inside

    def _listing(self, path: str) -> Answer | None:
        folder = self._local(path)
        if folder is None or not folder.is_dir():
            return None
        items = [
            {
                "name": entry.name,
                "path": (PurePosixPath(path) / entry.name).as_posix(),
                "contentType": "directory" if entry.is_dir() else "file",
            }
            for entry in sorted(folder.iterdir())
            if entry.name != "__pycache__"
        ]
        page = {"payload": {"tree": {"items": items}}}
        return Answer(json.dumps(page).encode(), "application/json; charset=utf-8")

    def _file(self, path: str) -> Answer | None:
        file = self._local(path)
        if file is None or not file.is_file():
            return None
        return Answer(file.read_bytes(), "text/plain; charset=utf-8")


@dataclass
class _Site:
    """What the handlers of one proxy share."""

    repository: Repository
    tls: ssl.SSLContext
    asked: list[Asked] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, site: _Site) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.site = site


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: _Server
    host = ""

    def do_CONNECT(self) -> None:
        host = self.path.rpartition(":")[0]
        if host not in (PAGES, FILES, COUNTER):
            self.server.site.refused.append(self.path)
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        self.send_response(HTTPStatus.OK, "Connection established")
        self.end_headers()
        self.wfile.flush()
        self._open_tls(host)

    def _open_tls(self, host: str) -> None:
        """Go on with the same connection, encrypted, as `host`."""
        self.host = host
        self.rfile.close()
        self.connection = self.server.site.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")
        self.close_connection = False

    def do_GET(self) -> None:
        self._respond("")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._respond(self.rfile.read(length).decode())

    def _respond(self, body: str) -> None:
        if not self.host:  # plain HTTP through the proxy: no host here speaks it
            self.server.site.refused.append(self.path)
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        asked = Asked(self.command, self.host, self.path, body)
        self.server.site.asked.append(asked)
        answer = self.server.site.repository.answer(asked)
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """What was asked is in the record; nothing is printed."""


class GithubProxy:
    """The proxy, running while the `with` block does.

    Args:
        repository: What it answers from.
        folder: Where it may write its certificates.
    """

    def __init__(self, repository: Repository, folder: Path) -> None:
        certificates = write_certificates(folder, [PAGES, FILES, COUNTER])
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates.chain, certificates.key)
        self.ca_file = certificates.authority
        self._site = _Site(repository, tls)
        self._server = _Server(self._site)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The address to give as `HTTPS_PROXY`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[Asked]:
        """What was asked of the hosts it stands for, in order."""
        return list(self._site.asked)

    @property
    def refused(self) -> list[str]:
        """Whatever else was asked for."""
        return list(self._site.refused)

    def __enter__(self) -> GithubProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)
