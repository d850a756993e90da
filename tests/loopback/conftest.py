"""Servers on loopback and mixtures that speak to them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import certifi
import pytest
from tenacity.wait import wait_exponential

from llama_index.packs.mixture_of_agents import MixtureOfAgentsPack
from llama_index.packs.mixture_of_agents.calls import retries
from tests.loopback import katan
from tests.loopback.clients import CLIENTS, Client
from tests.loopback.fault_server import FaultServer

# A local model beside a served one needs what `tests/sparse_moe` needs.
collect_ignore = [] if find_spec("torch") and find_spec("transformers") else ["test_local_and_served.py"]


@pytest.fixture(scope="session", autouse=True)
def _few_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each HTTP client reads every certificate authority there is, 40 ms of work; one will do here."""
    bundle = Path(certifi.where()).read_text(encoding="utf-8")
    end = "-----END CERTIFICATE-----"
    first = tmp_path_factory.mktemp("certificates") / "one.pem"
    first.write_text(bundle[: bundle.index(end) + len(end)], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(first))
        yield


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's proxy must not stand between a client and loopback."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _imported(_few_certificates: None) -> None:
    """The clients import half of themselves at the first call, a second that counts in no test."""
    with FaultServer() as server:
        for client in CLIENTS:
            *proposers, aggregator = client.llms(server.url)
            MixtureOfAgentsPack(aggregator, proposers, num_layers=2).run("hello")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(params=CLIENTS, ids=str)
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    return chosen


@pytest.fixture
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that still grow, for tests whose subject is not how long they are."""
    monkeypatch.setattr(retries, "_BACKOFF", wait_exponential(multiplier=0.02, max=1.0))


@pytest.fixture
def mixture(client: Client, server: FaultServer) -> Any:
    """Makes packs of that client's three proposers and aggregator, all on the fault server."""

    def make(**options: Any) -> MixtureOfAgentsPack:
        *proposers, aggregator = client.llms(server.url)
        return MixtureOfAgentsPack(aggregator, proposers, **options)

    return make


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with katan.serving(tmp_path_factory.mktemp("echo")) as url:
        yield url


@pytest.fixture(scope="session")
def rate_limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """429 without Retry-After for every request but the first."""
    with katan.serving(tmp_path_factory.mktemp("rate_limited"), "--rate-limit-after", "1") as url:
        yield url


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """500 for every request."""
    with katan.serving(tmp_path_factory.mktemp("broken"), "--error-rate", "1.0") as url:
        yield url


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Answers after 20 seconds."""
    with katan.serving(tmp_path_factory.mktemp("slow"), "--latency-ms", "20000") as url:
        yield url


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """503 for whoever comes while two requests are in flight."""
    options = ("--max-inflight", "2", "--latency-ms", "150")
    with katan.serving(tmp_path_factory.mktemp("narrow"), *options) as url:
        yield url
