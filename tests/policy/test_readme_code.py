"""Python in the README and in pages of docs/ runs: a page's blocks in order, as one program, without a key.

A block marked ```python notest is shown only; that is for code that needs a key or a large model.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.policy.tree import ROOT

DOCS = ("agents.md", "gate.md", "telemetry.md", "traces.md")
PAGES = [path for path in (ROOT / "README.md", *(ROOT / "docs" / name for name in DOCS)) if path.exists()]
FENCE = re.compile(r"^```(?P<info>python[^\n]*)\n(?P<code>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
REASONS_TO_SKIP = re.compile(r"OpenAI\(|MistralAI\(|Anthropic\(|API_KEY|SparseMoELLM\(|openai:|mistral")

# Top-level `await`, as in a notebook; a warning of ours is an error here too.
RUNNER = """
import ast, asyncio, inspect, sys
source = open(sys.argv[1], encoding="utf-8").read()
code = compile(source, sys.argv[2], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
result = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(result):
    asyncio.run(result)
"""


def python_blocks(text: str) -> list[tuple[int, str, str]]:
    """Each Python fence of a Markdown text: its first line's number, its info string and its code."""
    return [
        (text.count("\n", 0, match.start()) + 2, match["info"].strip(), match["code"])
        for match in FENCE.finditer(text)
    ]


def as_one_program(text: str) -> str:
    """The blocks that run, each at its own line, so that a traceback points into the page."""
    lines: list[str] = []
    for number, info, code in python_blocks(text):
        if "notest" not in info.split():
            lines += [""] * (number - 1 - len(lines)) + code.splitlines()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    source = tmp_path / "page.py"
    source.write_text(as_one_program(page.read_text(encoding="utf-8")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(source), page.name],
        capture_output=True,
        text=True,
        timeout=55,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_only_what_needs_a_key_is_left_out(page: Path) -> None:
    blocks = python_blocks(page.read_text(encoding="utf-8"))
    needless = [
        line for line, info, code in blocks if "notest" in info.split() and not REASONS_TO_SKIP.search(code)
    ]
    assert not needless, f"{page.name}: the blocks on these lines could run: {needless}"


def test_blocks_keep_their_line_numbers() -> None:
    text = "# Title\n\n```python\na = 1\n```\n\n```python notest\nb = key\n```\n```python\nc = a\n```\n"
    assert as_one_program(text).splitlines() == ["", "", "", "a = 1", *[""] * 6, "c = a"]


@pytest.mark.parametrize("fence", ["```bash", "```toml", "```"])
def test_other_fences_are_not_python(fence: str) -> None:
    assert python_blocks(f"{fence}\nls\n```\n") == []
