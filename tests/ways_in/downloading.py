"""Runs LlamaIndex's pack downloader, unmodified, against the stand-in for its hosts.

Knows the settings that keep it on this machine; what it should bring is for the tests to say.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.policy.tree import ROOT
from tests.ways_in.environments import Environment
from tests.ways_in.github_proxy import Asked, GithubProxy, Repository

PACK = "llama_index/packs/mixture_of_agents"
REPOSITORY = Repository(ROOT, "llama-index-packs-mixture-of-agents", (PACK, "pyproject.toml"))

# pip needs nothing but itself and hatchling. PIP_NO_BUILD_ISOLATION=0 is how it reads "no isolation".
PIP_OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


@dataclass(frozen=True)
class Download:
    """What came of one download: the process, and what it asked of the network."""

    process: subprocess.CompletedProcess[str]
    asked: list[Asked]
    refused: list[str]


def offline(environment: Environment, home: Path, proxy: GithubProxy | None = None) -> dict[str, str]:
    """The environment variables of a user with nothing set, behind the proxy if there is one."""
    variables = {
        "PATH": f"{environment.bin}{os.pathsep}{os.defpath}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        **PIP_OFFLINE,
    }
    if proxy is not None:
        variables |= {
            "HTTPS_PROXY": proxy.url,
            "HTTP_PROXY": proxy.url,
            "REQUESTS_CA_BUNDLE": str(proxy.ca_file),
        }
    return variables


def download(environment: Environment, home: Path, *command: str) -> Download:
    """Run a command of the environment in `home`, with the stand-in as its only network."""
    with GithubProxy(REPOSITORY, home) as proxy:
        process = environment.run(*command, env=offline(environment, home, proxy), cwd=home)
    return Download(process, proxy.asked, proxy.refused)
