"""Virtual environments for tests: made by pip, then used as a user's machine would use them.

Knows Python and pip, not what is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.policy.tree import ROOT

INSTALL_SECONDS = 300
COMMAND_SECONDS = 120

# Without these, a command in an environment could see this test run's Python and packages.
HIDDEN = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS")


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder of its own."""

    folder: Path

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.bin / "python"

    @property
    def site_packages(self) -> Path:
        """Where pip puts packages."""
        return Path(str(self.ask("import sysconfig; say(sysconfig.get_path('purelib'))")))

    def run(
        self,
        *command: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment by name; its output is kept, its failure left to the caller."""
        name, *rest = map(str, command)
        return subprocess.run(
            [str(self.bin / name), *rest],
            env=dict(env) if env is not None else _visible(),
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def ask(self, code: str, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Any:
        """Run Python code there and give what it passes to `say`, which is sent as JSON."""
        prelude = "import json\ndef say(value): print('\\n' + json.dumps(value))\n"
        done = self.run("python", "-c", prelude + code, env=env, cwd=cwd)
        if done.returncode:
            raise RuntimeError(f"{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])

    def install(self, *arguments: str | Path) -> None:
        """Let pip install into it, from wherever pip is set up to look."""
        done = self.run("python", "-m", "pip", "install", "--quiet", *arguments, seconds=INSTALL_SECONDS)
        if done.returncode:
            raise RuntimeError(done.stderr)

    def uninstall(self, distribution: str) -> None:
        """Remove a distribution, if it is there."""
        done = self.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", distribution)
        if done.returncode:
            raise RuntimeError(done.stderr)


def _visible() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in HIDDEN}


def constrained(file: str) -> list[str]:
    """Arguments for pip that hold it to a constraints file, whose pins are those of Python 3.11."""
    return ["--constraint", str(ROOT / file)] if sys.version_info[:2] == (3, 11) else []


def create(folder: Path, *arguments: str | Path) -> Environment:
    """A new environment, with what pip installs for `arguments`."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=COMMAND_SECONDS)
    environment = Environment(folder)
    if arguments:
        environment.install(*arguments)
    return environment


@contextmanager
def kept(shelf: Path, arguments: Sequence[str]) -> Iterator[Environment]:
    """An environment that outlives the test run, made anew when what it was made from changes.

    One test run at a time holds it; a half-made one is removed.
    """
    folder, made = shelf / "environment", shelf / "made-from"
    recipe = _recipe(arguments)
    with (shelf / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made.is_file() and made.read_text(encoding="utf-8") == recipe):
            made.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            create(folder, *arguments)
            made.write_text(recipe, encoding="utf-8")
        yield Environment(folder)


def _recipe(arguments: Sequence[str]) -> str:
    files = [Path(argument) for argument in arguments if Path(argument).is_file()]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return json.dumps([sys.version, *arguments, digest])
