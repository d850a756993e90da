"""Builds this project's wheel and sdist, and reads what is in them.

Knows how to build and list; what belongs in there is for the tests to say.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path


def build(source: Path, destination: Path, *kinds: str) -> list[Path]:
    """Build `source` with the backend installed here, without a network; give the files built."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(destination)]
    command += [*(f"--{kind}" for kind in kinds), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return sorted(destination.iterdir())


def wheel_files(wheel: Path) -> list[str]:
    """The names in a wheel, sorted."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def wheel_metadata(wheel: Path) -> str:
    """A wheel's METADATA file."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode("utf-8")


def sdist_files(sdist: Path) -> list[str]:
    """The names of the files in an sdist, without its top folder, sorted."""
    with tarfile.open(sdist) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
    return sorted(name.partition("/")[2] for name in names)


def unpack_sdist(sdist: Path, destination: Path) -> Path:
    """Unpack an sdist and give its top folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(destination, filter="data")
    (top,) = destination.iterdir()
    return top
