"""``gallery info`` and ``gallery list``: what a gallery is and holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from edge_claid.cli.gallery.arguments import AsJson, GalleryPath, InRoot, Patterns, WithLabel
from edge_claid.cli.printing import print_json, shown
from edge_claid.gallery.drift import Drift
from edge_claid.gallery.info import GalleryInfo
from edge_claid.gallery.selection import Selection
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery


def info(gallery: GalleryPath, json: AsJson = False) -> None:
    """Counts, pipeline, code space, and whether the gallery has outgrown it."""
    with Gallery.open(gallery) as store:
        facts = store.info()
    if json:
        print_json(asdict(facts))
        return
    for name, value in _lines(facts):
        print(f"{name.replace('_', ' '):>18}  {value}")


def list_images(
    gallery: GalleryPath, paths: Patterns = None, label: WithLabel = None, root: InRoot = None, json: AsJson = False
) -> None:
    """Every image, or those that match."""
    with Gallery.open(gallery) as store:
        for row in Selection(paths or (), label, root).images(store):
            if json:
                print_json(image_json(row))
            else:
                named = f"  {shown(row.label)}" if row.label else ""
                print(f"{shown(row.root)}/{shown(row.path)}  {row.width}x{row.height}  {row.regions} regions{named}")


def image_json(row: ImageRow) -> dict[str, Any]:
    """An image's facts as every verb prints them."""
    facts = asdict(row)
    for name in ("id", "root_id", "mtime_ns", "displaced"):
        del facts[name]
    return {"image": facts.pop("path"), "hash": facts.pop("content_hash").hex()} | facts


def _lines(info: GalleryInfo) -> Iterator[tuple[str, str]]:
    facts = asdict(info) | {"drift": _drift_in_words(info.drift)}
    settings = facts.pop("describe_settings")
    for name, value in facts.items():
        yield name, _in_words(value)
    for name, value in settings.items():
        yield f"of {name}", _in_words(value)


def _in_words(value: Any) -> str:
    """A fact as a person reads it; settings may hold lists and tables of settings."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return (" + " if isinstance(value[0], int) else ", ").join(map(_in_words, value)) if value else "none"
    if isinstance(value, dict):
        # Sixteen digits of a hash tell it from any other; --json has all of them.
        return ", ".join(f"{name} {_in_words(one)[: 16 if name == 'sha256' else None]}" for name, one in value.items())
    return shown(str(value))


def _drift_in_words(drift: Drift | None) -> str:
    if drift is None:
        return "none measured"
    verdict = "; has outgrown its code book: `gallery retrain`" if drift.drifted else ""
    return (
        f"its codes lose {drift.present:.4f} (new ones {drift.newest:.4f}), in a code book trained now they would lose "
        f"{drift.expected:.4f}{verdict}"
    )
