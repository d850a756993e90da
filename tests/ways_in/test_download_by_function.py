"""`download_llama_pack` from Python: the class it gives is usable at once, in the same process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ways_in.conversation import ANSWER, asking
from tests.ways_in.downloading import download
from tests.ways_in.environments import INSTALL_SECONDS, Environment

pytestmark = [pytest.mark.timeout(INSTALL_SECONDS + 120), pytest.mark.network, pytest.mark.slow]

DOWNLOAD = """
import json
def say(value): print("\\n" + json.dumps(value))
from llama_index.core.llama_pack import download_llama_pack
MixtureOfAgentsPack = download_llama_pack("MixtureOfAgentsPack", "./pack")
"""


def test_the_class_it_gives_answers(downloader: Environment, tmp_path: Path) -> None:
    done = download(downloader, tmp_path, "python", "-c", asking(DOWNLOAD))
    assert done.process.returncode == 0, done.process.stdout + done.process.stderr
    assert done.refused == []
    said = json.loads(done.process.stdout.splitlines()[-1])
    assert said["answer"] == ANSWER
    assert "llama_index.core.llama_pack.base.BaseLlamaPack" in said["bases"]
    # Loaded from the copy by path, but its `base` module is the one that pip installed.
    assert Path(said["file"]).is_relative_to(downloader.site_packages)
    assert (tmp_path / "pack" / "pyproject.toml").is_file()
