"""Which pipeline a gallery belongs to. A search with another one would answer wrongly and look right."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from edge_claid.errors import GalleryError


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """What the gallery says of itself. Raises GalleryError where that is damaged."""
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if not all(isinstance(text, str) for pair in meta.items() for text in pair):
        raise GalleryError("what the gallery says of itself is damaged (values of the wrong kind)")
    return meta


def write_meta(connection: sqlite3.Connection, **values: str) -> None:
    connection.executemany(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        values.items(),
    )


def settings_from_meta(meta: dict[str, str]) -> dict[str, Any]:
    """The describing settings stored with the gallery; empty where none can be read."""
    try:
        settings = json.loads(meta.get("describe_settings", "{}"))
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def parts_from_meta(meta: dict[str, str]) -> list[int]:
    """Lengths of the parts of the gallery's descriptors; empty for descriptors of one part."""
    described = settings_from_meta(meta).get("descriptor")
    parts = described.get("parts") if isinstance(described, dict) else None
    if not isinstance(parts, list) or not all(isinstance(size, int) and size > 0 for size in parts):
        return []
    return parts if str(sum(parts)) == meta.get("descriptor_dim") else []


def require_same(path: str, meta: dict[str, str], pipeline_id: str, settings: dict[str, Any]) -> None:
    """Raises GalleryError that names what differs where the gallery was made by another pipeline."""
    made_by = meta.get("pipeline_id")
    if made_by is None or made_by == pipeline_id:
        return
    differing = differences(settings_from_meta(meta), settings) or [f"pipeline id {made_by} against {pipeline_id}"]
    shown = "; ".join(differing[:6])
    raise GalleryError(
        f"gallery {path} belongs to another pipeline ({shown}); use that pipeline, "
        f"or move the gallery with `edge-claid gallery reencode {path}`"
    )


def differences(gallery: Any, pipeline: Any, name: str = "", other: str = "here") -> list[str]:
    """Each setting that differs, as ``name: gallery's value, here pipeline's value``; nested names joined by dots.

    other: what to call the place of the second one.
    """
    # Through JSON, since the stored side went through it and has lists for tuples.
    gallery, pipeline = json.loads(json.dumps(gallery)), json.loads(json.dumps(pipeline))
    if isinstance(gallery, dict) and isinstance(pipeline, dict):
        found = []
        for key in sorted(gallery.keys() | pipeline.keys()):
            inner = f"{name}.{key}" if name else str(key)
            found += differences(gallery.get(key), pipeline.get(key), inner, other)
        return found
    if gallery == pipeline:
        return []
    return [f"{name}: gallery {json.dumps(gallery)}, {other} {json.dumps(pipeline)}"]
