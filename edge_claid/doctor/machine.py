"""Memory, cache, networks, cameras and galleries."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_claid import ops
from edge_claid.capture.gstreamer import has_element
from edge_claid.config import Settings
from edge_claid.doctor.check import OK, PROBLEM, WARNING, Check
from edge_claid.engines.cache import engines_folder
from edge_claid.engines.memory import available_bytes, what_to_close
from edge_claid.errors import EdgeClaidError, MachineError, StorageError
from edge_claid.frames.cameras import csi_cameras, v4l2_cameras
from edge_claid.gallery.store import Gallery
from edge_claid.models.cache import cache_home, models_folder, offline
from edge_claid.models.network import is_here
from edge_claid.models.zoo import entry

# An enrolment's peak was 682 MB (benchmarks/results/enroll.json); below half of it not even a search runs.
_ENOUGH_MEMORY, _LEAST_MEMORY = 800 << 20, 350 << 20
_ENOUGH_DISK = 500 << 20
_ELEMENTS = ("videoconvert", "appsink")
_JETSON_ELEMENTS = ("nvarguscamerasrc", "nvvidconv")


def machine_checks(settings: Settings, jetson: bool, galleries: Sequence[Path] = ()) -> Iterator[Check]:
    """Compiled arithmetic, memory, cache, networks, camera stack, and these galleries."""
    yield _arithmetic()
    yield _memory(available_bytes())
    yield _cache()
    for name in (settings.networks.vit, settings.networks.descriptor):
        yield _network(name)
    yield _gstreamer(jetson)
    yield from _cameras()
    for path in galleries:
        yield _gallery(path)


def _arithmetic() -> Check:
    try:
        backend = ops.load()
    except MachineError as error:
        reason, _, fix = str(error).rpartition(": ")
        return Check("compiled parts", PROBLEM, reason, fix)
    return Check("compiled parts", OK, f"backend {backend.name}")


def _memory(available: int | None) -> Check:
    if available is None:
        return Check("memory", OK, "this system does not say how much is free")
    told = f"{available / 1e9:.1f} GB free"
    if available < _LEAST_MEMORY:
        return Check("memory", PROBLEM, told, what_to_close())
    return Check("memory", WARNING, told, what_to_close()) if available < _ENOUGH_MEMORY else Check("memory", OK, told)


def _cache() -> Check:
    place = cache_home()
    try:
        engines_folder()
        models_folder()
    except StorageError as error:
        reason, _, fix = str(error).rpartition(": ")
        return Check("cache", PROBLEM, reason, fix)
    free = shutil.disk_usage(place).free
    told = f"{place}, writable, {free / 1e9:.1f} GB free"
    if free < _ENOUGH_DISK:
        return Check("cache", WARNING, told, "free some space, or set EDGE_CLAID_CACHE_DIR elsewhere")
    return Check("cache", OK, told)


def _network(name: str) -> Check:
    try:
        known = entry(name)
        here = is_here(known)
    except EdgeClaidError as error:
        return Check(f"network {name}", PROBLEM, str(error), "choose another in the settings file")
    if here:
        return Check(f"network {name}", OK, "on this machine")
    fix = f"edge-claid models fetch {name}"
    if known.wheel is None or offline():
        return Check(f"network {name}", PROBLEM, "not on this machine, and cannot be fetched here", fix)
    return Check(f"network {name}", WARNING, "not on this machine yet; it is fetched on first use", fix)


def _gstreamer(jetson: bool) -> Check:
    wanted = (*_ELEMENTS, *(_JETSON_ELEMENTS if jetson else ()))
    missing = [name for name in wanted if not has_element(name)]
    if not missing:
        return Check("GStreamer", OK, f"has {', '.join(wanted)}")
    told = f"no {' and no '.join(missing)}: csi:// and gst: sources do not work"
    packages = "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
    return Check("GStreamer", WARNING, told, f"apt install {packages}" + (" nvidia-l4t-gstreamer" if jetson else ""))


def _cameras() -> Iterator[Check]:
    cameras = v4l2_cameras()
    found = [*cameras, *csi_cameras(cameras, lambda: has_element("nvarguscamerasrc"))]
    for camera in found:
        if camera.problem:
            yield Check(camera.uri, WARNING, f"{camera.name}: {camera.problem}", "see `edge-claid sources`")
        else:
            yield Check(camera.uri, OK, f"{camera.name}, {len(camera.formats)} formats")
    if not found:
        yield Check("cameras", OK, "none at this machine; files, folders and rtsp:// need none")


def _gallery(path: Path) -> Check:
    try:
        with Gallery.open(path) as gallery:
            facts = gallery.info()
    except EdgeClaidError as error:
        fix = f"edge-claid gallery verify --repair {path}"
        if not path.exists():
            fix = f"edge-claid enroll FOLDER --gallery {path} makes one"
        return Check(f"gallery {path}", PROBLEM, str(error).partition("; `")[0], fix)
    return Check(f"gallery {path}", OK, f"{facts.images:,} images, {facts.regions:,} regions")
