"""Where engines lie, and how one gets there whole or not at all: ``engines/<key>/{model.engine,manifest.json}``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_claid.engines.recipe import Shapes
from edge_claid.errors import EngineError
from edge_claid.models.cache import atomic_file, cache_home, lock, sha256_of, storage_errors
from edge_claid.runners.engine_file import MANIFEST, Manifest, Running, check_fit, engine_path, read_manifest

_STAGING = ".building"


def engines_folder(cache_dir: Path | None = None) -> Path:
    """The folder of engines, made if missing and tried by writing. Raises StorageError where it cannot be written."""
    folder = (cache_dir or cache_home()) / "engines"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{uuid.uuid4().hex}"
        probe.write_bytes(b"")
        probe.unlink()
    return folder


def engine_key(
    onnx_sha256: str, flavour: str, version: str, cuda: str, targets: Sequence[str], precision: str, shapes: Shapes
) -> str:
    """Everything an engine depends on, as 16 hexadecimal digits: another of any is another engine."""
    sizes = [shapes.smallest, shapes.usual, shapes.largest]
    facts = [onnx_sha256, flavour, version, cuda, sorted(targets), precision, sizes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """One folder of the cache. manifest: None where it cannot be read, and then ``problem`` says why."""

    folder: Path
    manifest: Manifest | None
    problem: str = ""


def entries(cache_dir: Path | None = None) -> list[Entry]:
    """Every engine of the cache, in order of network, precision and key; damaged ones too."""
    folder = (cache_dir or cache_home()) / "engines"
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            manifest = read_manifest(path)
            engine_path(path, manifest)
            found.append(Entry(path, manifest))
        except EngineError as error:
            found.append(Entry(path, None, str(error)))
    return sorted(found, key=_order)


def leftovers(cache_dir: Path | None = None) -> list[Path]:
    """Folders of builds that were killed half-way; not of those that go on, which hold their lock."""
    folder = (cache_dir or cache_home()) / "engines"
    found = []
    for path in sorted(folder.glob(f".*{_STAGING}")) if folder.is_dir() else []:
        if not _is_held(folder / f".{path.name[1:].split('.')[0]}.lock"):
            found.append(path)
    return found


def matching(
    network: str, precision: str, graphs: Collection[str], running: Running, cache_dir: Path | None = None
) -> tuple[Entry | None, list[Entry]]:
    """The engine of a network that runs here, and the ones of the same network that do not.

    graphs: identities of the typed ONNX that are current, see ``typed.graph_id``.
    """
    same = [
        entry
        for entry in entries(cache_dir)
        if entry.manifest and (entry.manifest.network, entry.manifest.precision) == (network, precision)
    ]
    for entry in same:
        assert entry.manifest is not None
        with contextlib.suppress(EngineError):
            check_fit(entry.manifest, running)
            if entry.manifest.graph in graphs:
                return entry, [other for other in same if other is not entry]
    return None, same


@contextlib.contextmanager
def building(key: str, waiting: Callable[[], None], cache_dir: Path | None = None) -> Iterator[Path]:
    """A folder to build in, for one process at a time; what is left in it is gone if the build fails or is killed."""
    folder = engines_folder(cache_dir)
    with lock(folder / f".{key}.lock", waiting):
        # Whoever left these held the lock that we hold now, so it is dead.
        for left in folder.glob(f".{key}.*{_STAGING}"):
            shutil.rmtree(left, ignore_errors=True)
        staging = folder / f".{key}.{uuid.uuid4().hex[:8]}{_STAGING}"
        with storage_errors(staging):
            staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def install(staging: Path, manifest: Manifest) -> Path:
    """Give a finished engine its place at once, instead of an older one of its key; to be called in ``building``."""
    target = staging.parent / manifest.key
    with storage_errors(target):
        (staging / MANIFEST).write_text(manifest.as_json(), encoding="utf-8")
        for path in (*staging.iterdir(), staging):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if target.exists():
            os.rename(target, staging.with_name(f".{manifest.key}.{uuid.uuid4().hex[:8]}{_STAGING}"))
        os.rename(staging, target)
    for replaced in target.parent.glob(f".{manifest.key}.*{_STAGING}"):
        shutil.rmtree(replaced, ignore_errors=True)
    return target


def rewrite_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a manifest in place of the one that is there, at once."""
    with atomic_file(folder / MANIFEST) as part:
        part.write_text(manifest.as_json(), encoding="utf-8")


def verified_bytes(folder: Path, manifest: Manifest) -> Path:
    """The engine file after its every byte was compared with the manifest. Raises EngineError."""
    path = engine_path(folder, manifest)
    return engine_path(folder, manifest, sha256_of(path))


def _order(entry: Entry) -> tuple[str, str, str]:
    known = entry.manifest
    return (known.network, known.precision, entry.folder.name) if known else ("", "", entry.folder.name)


def _is_held(path: Path) -> bool:
    """Whether a process holds this lock."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
