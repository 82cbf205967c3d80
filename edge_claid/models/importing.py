"""Takes network files that lie on this machine into the cache: wheels, what they hold, and exported networks."""

from __future__ import annotations

from pathlib import Path

from edge_claid.errors import UsageError
from edge_claid.models.cache import sha256_of
from edge_claid.models.exported import checked_export, keep_exported
from edge_claid.models.fetch import import_weights, import_wheel
from edge_claid.models.zoo import zoo

SUFFIXES = (".whl", ".pth", ".onnx")


def import_path(source: Path, cache_dir: Path | None = None) -> list[str]:
    """Imports a file, or every known network file of a folder (not of folders in it); returns the networks' names.

    Files are known by their SHA-256, whatever they are called; only an exported ONNX says itself what it holds, and is
    checked. Raises UsageError where nothing can be used, MachineError on a pinned wheel's name with other content,
    StorageError.
    """
    if source.is_dir():
        names = []
        for path in sorted(source.iterdir()):
            if path.suffix in SUFFIXES and path.is_file() and (name := _import_file(path, cache_dir, strict=False)):
                names.append(name)
        if not names:
            raise UsageError(f"{source} holds no network file: expected the pinned {', '.join(SUFFIXES)} of zoo.toml")
        return names
    if not source.is_file():
        raise UsageError(f"{source} is neither a file nor a folder")
    name = _import_file(source, cache_dir, strict=True)
    assert name is not None
    return [name]


def _import_file(source: Path, cache_dir: Path | None, *, strict: bool) -> str | None:
    found = sha256_of(source)
    for known in zoo().values():
        if known.wheel is None:
            continue
        # By name too: a damaged wheel deserves to be called damaged, not unknown.
        if found == known.wheel.sha256 or source.name == known.wheel.file:
            import_wheel(source, known, cache_dir)
            return known.name
        if found == known.wheel.member_sha256 or source.name == Path(known.wheel.member).name:
            import_weights(source, known, cache_dir)
            return known.name
    if source.suffix != ".onnx":
        if strict:
            raise UsageError(f"{source} is no file that zoo.toml pins: its SHA-256 is {found}")
        return None
    try:
        known = checked_export(source)
    except UsageError:
        if strict:
            raise
        return None
    keep_exported(known, source, cache_dir)
    return known.name
