"""``edge-claid gallery VERB NAME.claid``: look into a gallery and change it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from edge_claid.cli.enroll import open_pipeline, tell_outcome, tell_summary, with_training
from edge_claid.cli.printing import print_json, shown
from edge_claid.errors import GalleryError, UsageError
from edge_claid.frames.folder import PictureFiles
from edge_claid.gallery.enroll import EnrollOptions
from edge_claid.gallery.labels import read_labels
from edge_claid.gallery.reencode import enrolled_files
from edge_claid.gallery.reencode import reencode as run_reencoding
from edge_claid.gallery.rows import ImageRow
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.verify import verify as run_verification

app = typer.Typer(help="Look into a gallery and change it.", no_args_is_help=True)

GalleryPath = Annotated[Path, typer.Argument(metavar="NAME.claid", help="The gallery file.")]
Patterns = Annotated[list[str] | None, typer.Argument(metavar="[PATH]...", help="Paths or quoted patterns (*, ?).")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]
WithLabel = Annotated[str | None, typer.Option("--label", help="Only images with this label.")]


@app.command()
def info(gallery: GalleryPath, json: AsJson = False) -> None:
    """Counts, pipeline and code space."""
    with Gallery.open(gallery) as store:
        facts = asdict(store.info())
    if json:
        print_json(facts)
        return
    settings = facts.pop("describe_settings")
    facts["roots"] = ", ".join(facts["roots"])
    for name, value in facts.items():
        number = isinstance(value, int) and not isinstance(value, bool)
        print(f"{name.replace('_', ' '):>18}  {f'{value:,}' if number else shown(str(value))}")
    for name, value in settings.items():
        print(f"{name:>18}  {value}")


@app.command("list")
def list_images(gallery: GalleryPath, paths: Patterns = None, label: WithLabel = None, json: AsJson = False) -> None:
    """Every image, or those that match."""
    with Gallery.open(gallery) as store:
        for row in _matching(store.images(), paths, label):
            if json:
                print_json(_as_json(row))
            else:
                named = f"  {shown(row.label)}" if row.label else ""
                print(f"{shown(row.root)}/{shown(row.path)}  {row.width}x{row.height}  {row.regions} regions{named}")


@app.command()
def remove(gallery: GalleryPath, paths: Patterns = None, label: WithLabel = None, json: AsJson = False) -> None:
    """Remove images by path, pattern or label; the picture files stay."""
    if not paths and label is None:
        raise UsageError("name paths, patterns or a --label to remove ('*' for all)")
    with Gallery.open(gallery, "rw") as store:
        rows = list(_matching(store.images(), paths, label))
        removed = store.remove(row.id for row in rows)
    if json:
        for row in rows:
            print_json({"image": row.path, "root": row.root, "status": "removed"})
    print_json({"removed": removed}) if json else print(f"{removed} images removed")


@app.command()
def label(
    gallery: GalleryPath,
    paths: Patterns = None,
    text: Annotated[str | None, typer.Option("--set", help="The label; an empty one takes it away.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV table: path, label.")] = None,
) -> None:
    """Label images by path or pattern, or by a table."""
    if (text is None) == (labels is None) or (text is not None and not paths):
        raise UsageError("give --set TEXT with paths or patterns ('*' for all), or --labels FILE.csv")
    table = read_labels(labels) if labels else None
    changed = 0
    with Gallery.open(gallery, "rw") as store:
        rows = list(_matching(store.images(), paths, None))
        with store.batch() as batch:
            for row in rows:
                wanted = text or None if table is None else table.table.get(row.path, row.label)
                if wanted != row.label:
                    batch.label(row.id, wanted)
                    changed += 1
    print(f"{changed} labels changed")


@app.command()
def verify(gallery: GalleryPath, json: AsJson = False) -> None:
    """Read everything and check it; exit 8 where something is wrong."""
    problems = 0
    with Gallery.open(gallery) as store:
        for problem in run_verification(store):
            problems += 1
            where = f"{shown(problem.image)}: " if problem.image is not None else ""
            print_json(asdict(problem)) if json else print(f"{where}{problem.what}", flush=True)
        images = len(store)
    if problems:
        raise GalleryError(
            f"gallery {gallery}: {problems} problems found; remove the images named and enrol them again"
        )
    print_json({"images": images, "problems": 0}) if json else print(f"{images} images, all sound")


@app.command()
def compact(gallery: GalleryPath) -> None:
    """Write the file anew without gaps; needs as much free space again."""
    with Gallery.open(gallery, "rw") as store:
        saved = store.compact()
    print(f"{saved:,} bytes saved")


@app.command()
def reencode(
    gallery: GalleryPath,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Remove images whose pictures are gone.")
    ] = False,
    code_bytes: Annotated[int | None, typer.Option(help="Bytes per region of the new code space.")] = None,
    json: AsJson = False,
) -> None:
    """Move the gallery to the present pipeline, from its pictures."""
    with Gallery.open(gallery, "rw") as store, open_pipeline() as pipeline:
        keep = store.info().keep_descriptors
        sources = [
            PictureFiles(root.location, root.location, [f"{root.location}/{path}" for path in paths])
            for root, paths in enrolled_files(store)
        ]
        options = with_training(EnrollOptions(keep_descriptors=keep), code_bytes)
        tell = lambda outcome: tell_outcome(outcome, json)  # noqa: E731
        summary = run_reencoding(store, sources, pipeline, options, drop_missing, tell)
    tell_summary(summary, json)


def _matching(rows: Iterable[ImageRow], patterns: list[str] | None, label: str | None) -> Iterator[ImageRow]:
    for row in rows:
        names = (row.path, f"{row.root}/{row.path}")
        if patterns and not any(
            name == pattern or fnmatchcase(name, pattern) for pattern in patterns for name in names
        ):
            continue
        if label is None or row.label == label:
            yield row


def _as_json(row: ImageRow) -> dict[str, object]:
    facts = asdict(row)
    for name in ("id", "root_id", "mtime_ns", "displaced"):
        del facts[name]
    return {"image": facts.pop("path"), "hash": facts.pop("content_hash").hex()} | facts
