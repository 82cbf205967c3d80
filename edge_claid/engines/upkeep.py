"""What is in the cache of engines, whether it can still be used, and what of it can go."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_claid.engines import cache
from edge_claid.engines.recipe import recipe
from edge_claid.engines.typed import graph_id
from edge_claid.errors import EdgeClaidError, EngineError, MachineError
from edge_claid.models.cache import storage_errors
from edge_claid.models.network import source_sha256
from edge_claid.models.zoo import entry
from edge_claid.runners.cuda_driver import Driver, driver
from edge_claid.runners.engine_file import Manifest, Running, check_fit
from edge_claid.runners.tensorrt_api import Flavour, flavour

# States of an engine, the useful ones first.
RUNS, ELSEWHERE, STALE, DAMAGED = "runs here", "for another machine", "stale", "damaged"


@dataclass(frozen=True)
class State:
    """An engine of the cache and what it is good for. reason: why it does not run here, or ""."""

    entry: cache.Entry
    state: str
    reason: str = ""


def states(cache_dir: Path | None = None, here: Driver | None = None) -> list[State]:
    """Every engine of the cache; nothing is loaded. here: the driver, None asks it."""
    asked = driver() if here is None else here
    return [_state(found, asked, cache_dir) for found in cache.entries(cache_dir)]


def damages(cache_dir: Path | None = None) -> list[State]:
    """Engines whose bytes are not those that were built, or whose manifest cannot be read; every byte is compared."""
    found = []
    for known in cache.entries(cache_dir):
        if known.manifest is None:
            found.append(State(known, DAMAGED, known.problem))
            continue
        try:
            cache.verified_bytes(known.folder, known.manifest)
        except EngineError as error:
            found.append(State(known, DAMAGED, str(error)))
    return found


def prunable(cache_dir: Path | None = None, *, every: bool = False) -> list[tuple[Path, str]]:
    """Folders that can go and why: damaged, stale, left by a build that was killed; with `every` all of them.

    Every byte of every engine is compared.
    """
    found = [(path, "left by a build that was killed") for path in cache.leftovers(cache_dir)]
    damaged = {state.entry.folder: state for state in damages(cache_dir)}
    for known in states(cache_dir):
        known = damaged.get(known.entry.folder, known)
        if every or known.state in (STALE, DAMAGED):
            found.append((known.entry.folder, known.reason or known.state))
    return found


def remove(folders: Sequence[Path]) -> None:
    """Delete folders of the cache; of a link to a folder only the link. Raises StorageError where that cannot be."""
    for folder in folders:
        with storage_errors(folder):
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder)


def is_current(manifest: Manifest, cache_dir: Path | None = None) -> bool:
    """Whether a build today would start from the same graph."""
    try:
        known = recipe(manifest.network)
        weights = source_sha256(entry(manifest.network), cache_dir)
    except EdgeClaidError:
        return False
    return manifest.graph == graph_id(weights, known, manifest.precision, manifest.wider)


def _state(known: cache.Entry, asked: Driver, cache_dir: Path | None) -> State:
    manifest = known.manifest
    if manifest is None:
        return State(known, DAMAGED, known.problem)
    if not is_current(manifest, cache_dir):
        return State(known, STALE, "its network, recipe or this program changed since it was built")
    reasons = [asked.problem] if not asked.gpus else []
    library: Flavour | None = None
    try:
        library = flavour(manifest.flavour)
    except MachineError as error:
        reasons.append(str(error))
    for gpu in asked.gpus if library else ():
        assert library is not None
        try:
            check_fit(manifest, Running(library.name, library.version, library.cuda, gpu.sm))
        except EngineError as error:
            reasons.append(str(error))
            continue
        return State(known, RUNS)
    return State(known, ELSEWHERE, "; ".join(reasons))
