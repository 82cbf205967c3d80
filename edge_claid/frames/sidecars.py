"""Which JSON file beside a picture speaks of it: ``picture.jpg.json`` or ``picture.json``."""

from __future__ import annotations

import os
from collections.abc import Iterable


def sidecars(names: Iterable[str], media_suffixes: frozenset[str]) -> dict[str, str]:
    """Picture or video to its sidecar, by the file names of one folder; the longer name is the surer one."""
    present = set(names)
    found = {}
    for name in present:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in media_suffixes:
            sidecar = next((one for one in (f"{name}.json", f"{stem}.json") if one in present), None)
            if sidecar is not None:
                found[name] = sidecar
    return found
