"""``gallery export`` and ``gallery import``: a gallery in other formats, copied, and facts brought back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_claid.cli.gallery.arguments import AsJson, GalleryPath, InRoot, Patterns, WithLabel
from edge_claid.cli.gallery.thumbnails import thumbnail_maker
from edge_claid.cli.printing import counted, json_line, print_json, shown
from edge_claid.errors import UsageError
from edge_claid.gallery.selection import Selection
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.storage.whole_file import require_free, whole_file
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.backup import copy_to, import_gallery
from edge_claid.gallery.upkeep.contact_sheet import write_contact_sheet
from edge_claid.gallery.upkeep.export import gallery_records, index_records, write_coco, write_lines
from edge_claid.gallery.upkeep.import_records import Imported, import_records

_SQLITE = b"SQLite format 3\0"


def export(
    gallery: GalleryPath,
    paths: Patterns = None,
    label: WithLabel = None,
    root: InRoot = None,
    jsonl: Annotated[Path | None, typer.Option(help="JSON lines: images, labels, regions; - for stdout.")] = None,
    coco: Annotated[Path | None, typer.Option(help="COCO JSON: regions as annotations.")] = None,
    html: Annotated[Path | None, typer.Option(help="Folder for contact sheets that a browser shows.")] = None,
    faiss: Annotated[Path | None, typer.Option(help="faiss index; FILE.ids.jsonl says what its rows are.")] = None,
    to: Annotated[Path | None, typer.Option(help="A consistent copy of the gallery, even while it is in use.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: AsJson = False,
) -> None:
    """Write a gallery, or the images that match, in other formats, or copy it while it is in use."""
    meant = Selection(paths or (), label, root)
    if not any((jsonl, coco, html, faiss, to)):
        raise UsageError("name at least one of --jsonl, --coco, --html, --faiss and --to")
    if meant and (faiss or to):
        raise UsageError("--faiss and --to write the whole gallery; leave out paths, --label and --root")

    with Gallery.open(gallery) as store:
        rows = list(meant.images(store))
        for place, format, write in (
            (jsonl, "jsonl", _write_lines),
            (coco, "coco", _write_coco),
            (html, "html", _write_sheets),
            (faiss, "faiss", _write_faiss),
            (to, "claid", _write_copy),
        ):
            if place:
                facts = write(store, rows, place, overwrite)
                _tell_written(place, {"format": format} | facts, json)


def import_(
    gallery: GalleryPath,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A gallery, or JSON lines.")],
    json: AsJson = False,
) -> None:
    """Bring labels, times and places back from JSON lines, or take a gallery from outside as a new one."""
    try:
        with open(source, "rb") as file:
            is_gallery = file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise UsageError(f"{source} cannot be read ({error.strerror})") from error
    if is_gallery:
        with Gallery.open(source) as outside:
            images = import_gallery(outside, str(gallery))
        print_json({"images": images}) if json else print(f"{counted(images, 'image')}, all verified")
        return
    with Gallery.open(gallery, "rw") as store:
        counts = import_records(store, str(source), _telling(json))
    if json:
        print_json({"summary": counts})
    else:
        print(", ".join(f"{count} {status}" for status, count in counts.items()))


def _tell_written(place: Path, facts: dict[str, Any], json: bool) -> None:
    if str(place) == "-":
        return
    if json:
        print_json({"written": str(place)} | facts)
    else:
        words = ", ".join(f"{count:,} {name}" for name, count in facts.items() if name != "format")
        print(f"{shown(str(place))}: {words}")


def _telling(json: bool) -> Callable[[Imported], None]:
    def tell(outcome: Imported) -> None:
        if json:
            print_json({"image": outcome.image, "status": outcome.status, "reason": outcome.reason})
        elif outcome.status == "rejected":
            print(f"rejected {shown(outcome.image)}: {shown(outcome.reason)}")

    return tell


# Each of these writes a gallery, or rows of it, to a place; what is told of it beside the place.


def _write_lines(store: Gallery, rows: list[ImageRow], place: Path, overwrite: bool) -> dict[str, Any]:
    records = gallery_records(store, rows)
    if str(place) == "-":
        for record in records:
            sys.stdout.write(json_line(record) + "\n")
    else:
        with whole_file(str(place), overwrite) as file:
            write_lines(records, file)
    return {"images": len(rows)}


def _write_coco(store: Gallery, rows: list[ImageRow], place: Path, overwrite: bool) -> dict[str, Any]:
    with whole_file(str(place), overwrite) as file:
        write_coco(store, rows, file)
    return {"images": len(rows)}


def _write_sheets(store: Gallery, rows: list[ImageRow], place: Path, overwrite: bool) -> dict[str, Any]:
    pictures = write_contact_sheet(str(place), Path(store.path).stem, rows, thumbnail_maker(store), overwrite)
    return {"images": len(rows), "pictures": pictures}


def _write_copy(store: Gallery, rows: list[ImageRow], place: Path, overwrite: bool) -> dict[str, Any]:
    return {"bytes": copy_to(store, str(place), overwrite)}


def _write_faiss(store: Gallery, rows: list[ImageRow], path: Path, overwrite: bool) -> dict[str, Any]:
    # Imported here, since faiss is an extra.
    from edge_claid.codes.faiss_io import faiss_from_space, write_faiss
    from edge_claid.codes.space import CodeSpace

    space = store.space
    if not isinstance(space, CodeSpace):
        raise UsageError(f"gallery {store.path} has no code space yet, and so no codes to export; enrol more first")
    side = Path(f"{path}.ids.jsonl")
    for file in (path, side):
        require_free(str(file), overwrite)
    with store.reading():
        index = store.load_index()
        assert index.codes is not None
        beside = Path(f"{path}.part")
        try:
            write_faiss(faiss_from_space(space, index.codes), str(beside))
            with whole_file(str(side), overwrite) as lines:
                write_lines(index_records(store), lines)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    return {"images": len(index.image_ids), "rows": len(index)}
