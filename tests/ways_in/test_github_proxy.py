"""The stand-in for the downloader's hosts answers as they do, and passes nothing on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.ways_in.github_proxy import Asked, GithubProxy, Repository

TREE = "https://github.com/run-llama/llama_index/tree/main/llama-index-packs/demo/"
RAW = "https://raw.githubusercontent.com/run-llama/llama_index/main/llama-index-packs/demo/"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[GithubProxy]:
    tree = tmp_path / "tree"
    (tree / "pack" / "inner").mkdir(parents=True)
    (tree / "pack" / "__pycache__").mkdir()
    (tree / "pack" / "inner" / "a.py").write_text("'ä'\n", encoding="utf-8")
    (tree / "secret.txt").write_text("no", encoding="utf-8")
    with GithubProxy(Repository(tree, "demo", ("pack",)), tmp_path) as running:
        yield running


@pytest.fixture
def session(proxy: GithubProxy) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"https": proxy.url, "http": proxy.url}
        session.verify = str(proxy.ca_file)
        yield session


def test_a_folder_is_listed(session: requests.Session) -> None:
    page = session.get(f"{TREE}pack?recursive=1", timeout=5).json()
    assert page["payload"]["tree"]["items"] == [
        {"name": "inner", "path": "llama-index-packs/demo/pack/inner", "contentType": "directory"}
    ]


def test_a_file_is_served_as_text(session: requests.Session) -> None:
    assert session.get(f"{RAW}pack/inner/a.py", timeout=5).text == "'ä'\n"


@pytest.mark.parametrize(
    "url", [f"{RAW}secret.txt", f"{RAW}pack/%2e%2e/secret.txt", f"{RAW}pack/none.py", f"{TREE}none", TREE]
)
def test_nothing_else_is(session: requests.Session, url: str) -> None:
    assert session.get(url, timeout=5).status_code == 404


def test_what_was_asked_is_kept_in_order(session: requests.Session, proxy: GithubProxy) -> None:
    session.get(f"{TREE}pack", timeout=5)
    session.post("https://llamahub.ai/api/analytics/downloads", json={"type": "llamapack"}, timeout=5)
    first, second = proxy.asked
    assert first == Asked("GET", "github.com", TREE.removeprefix("https://github.com") + "pack")
    assert (second.method, second.host) == ("POST", "llamahub.ai")
    assert json.loads(second.body) == {"type": "llamapack"}


def test_another_host_is_refused_and_remembered(session: requests.Session, proxy: GithubProxy) -> None:
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        session.get("https://example.com/", timeout=5)
    assert (proxy.refused, proxy.asked) == (["example.com:443"], [])


def test_plain_http_is_refused_even_for_its_own_hosts(session: requests.Session, proxy: GithubProxy) -> None:
    assert session.get("http://github.com/", timeout=5).status_code == 403
    assert (proxy.refused, proxy.asked) == (["http://github.com/"], [])


def test_a_stranger_does_not_trust_it(session: requests.Session) -> None:
    session.verify = True
    with pytest.raises(requests.exceptions.SSLError):
        session.get(f"{TREE}pack", timeout=5)
