"""``gallery remove``, ``gallery label`` and ``gallery compact``: what a gallery holds is changed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from edge_claid.cli.gallery.alike import images_alike
from edge_claid.cli.gallery.arguments import AsJson, GalleryPath, InRoot, Patterns, WithLabel
from edge_claid.cli.printing import counted, print_json, shown
from edge_claid.errors import UsageError
from edge_claid.gallery.labels import read_labels
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.selection import Selection
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery


def remove(
    gallery: GalleryPath,
    paths: Patterns = None,
    label: WithLabel = None,
    root: InRoot = None,
    like: Annotated[str | None, typer.Option(help="Images that show what this picture shows.")] = None,
    box: Annotated[str | None, typer.Option(help="With --like: x0,y0,x1,y1 of the thing in it.")] = None,
    above: Annotated[float | None, typer.Option(help="With --like: only images of at least this score.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --like: remove them, do not only show them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed; change nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Remove images by path, pattern, label, root or likeness; the picture files stay."""
    meant = Selection(paths or (), label, root)
    if not meant and like is None:
        raise UsageError("name paths, patterns ('*' for all), a --label, a --root or --like PICTURE to remove")
    if (like is None) != (above is None) or (like is None and (box or yes)):
        raise UsageError("--like PICTURE goes with --above SCORE; --box and --yes go with --like")
    if above is not None and not math.isfinite(above):
        raise UsageError(f"--above {above}: name a score, at most 1")
    with Gallery.open(gallery, "r" if dry_run or (like and not yes) else "rw") as store:
        scores: dict[int, float] = {}
        rows = list(meant.images(store)) if meant else []
        _tell_unmet(meant, rows, gallery)
        if like is not None:
            assert above is not None
            scores = images_alike(store, like, box, above)
            rows = [row for row in (rows if meant else store.images_by_id(scores)) if row.id in scores]
        only_shown = dry_run or (like is not None and not yes)
        if not only_shown:
            store.remove(_with_displaced(store, rows, meant))
    _tell_removed(rows, scores, "would be removed" if only_shown else "removed", json)
    if only_shown and not dry_run:
        typer.echo("nothing was removed yet: look at the list, then add --yes", err=True)


def label(
    gallery: GalleryPath,
    paths: Patterns = None,
    text: Annotated[str | None, typer.Option("--set", help="The label; an empty one takes it away.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV table: path, label.")] = None,
    old: Annotated[str | None, typer.Option("--label", help="Only images that have this label now.")] = None,
    root: InRoot = None,
    json: AsJson = False,
) -> None:
    """Label images by path, pattern, present label or root, or by a table."""
    meant = Selection(paths or (), old, root)
    if (text is None) == (labels is None) or (text is not None and not meant):
        raise UsageError("give --set TEXT with paths or patterns ('*' for all), or --labels FILE.csv")
    table = read_labels(labels) if labels else None
    changed: list[tuple[ImageRow, str | None]] = []
    with Gallery.open(gallery, "rw") as store:
        places = {one.id: one.location for one in all_roots(store)}
        with store.batch() as batch:
            rows = list(meant.images(store))
            _tell_unmet(meant, rows, gallery)
            for row in rows:
                given = table.given(row.path, os.path.join(places[row.root_id], row.path)) if table else text
                wanted = given or (row.label if table else None)
                if wanted != row.label:
                    batch.label(row.id, wanted)
                    changed.append((row, wanted))
    if json:
        for row, wanted in changed:
            print_json({"image": row.path, "root": row.root, "label": wanted, "was": row.label})
    print_json({"labelled": len(changed)}) if json else print(f"{counted(len(changed), 'label')} changed")


def compact(gallery: GalleryPath, json: AsJson = False) -> None:
    """Write the file anew without gaps; needs as much free space again."""
    with Gallery.open(gallery, "rw") as store:
        saved = store.compact()
    print_json({"saved_bytes": saved}) if json else print(f"{saved:,} bytes saved")


def _tell_unmet(meant: Selection, rows: list[ImageRow], gallery: Path) -> None:
    for name in meant.unmet(rows):
        place = shown(str(gallery))
        typer.echo(f"no image matches {shown(name)}; `edge-claid gallery list {place}` shows those there are", err=True)


def _with_displaced(store: Gallery, rows: Iterable[ImageRow], meant: Selection) -> list[int]:
    """What goes with a whole root: also images that had lost their file to another."""
    ids = [row.id for row in rows]
    if meant.root is not None and not meant.paths and meant.label is None:
        ids += [row.id for row in meant.images(store, displaced=True)]
    return ids


def _tell_removed(rows: list[ImageRow], scores: dict[int, float], status: str, json: bool) -> None:
    for row in rows:
        score = scores.get(row.id)
        if json:
            known = {} if score is None else {"score": round(score, 5)}
            print_json({"image": row.path, "root": row.root, "status": status} | known)
        elif score is not None or status != "removed":
            told = "" if score is None else f"{score:6.3f}  "
            print(f"{told}{shown(row.root)}/{shown(row.path)}")
    if json:
        print_json({status.replace(" ", "_"): len(rows)})
    else:
        print(f"{counted(len(rows), 'image')} {status}")
