"""``edge-claid search``: find the things cut out of pictures in a gallery."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_claid import drawing, ops
from edge_claid.cli.enroll import open_pipeline
from edge_claid.cli.printing import counted, print_json, shown
from edge_claid.cli.queries import Query, RejectedQuery, one_query, read_queries
from edge_claid.cli.saved_names import SavedNames, saved_stem
from edge_claid.errors import BadImageError, UsageError
from edge_claid.frames.reading import read_picture
from edge_claid.gallery.labels import ids_of_labels
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.roots import all_roots
from edge_claid.gallery.store import Gallery
from edge_claid.records import Frame, Hit

_MOST_TILES = 400  # of a contact sheet: JPEG has no more than 65,500 rows, and who would look through them


def search(
    gallery: Annotated[Path, typer.Argument(help="Gallery file, NAME.claid.")],
    query: Annotated[str | None, typer.Argument(help="Picture that shows the thing.")] = None,
    box: Annotated[
        list[str] | None, typer.Option(help="x0,y0,x1,y1 in pixels; several: pictures that hold all of them.")
    ] = None,
    queries: Annotated[Path | None, typer.Option(help='JSON lines {"id","image","box" or "boxes"}.')] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=0, help="Hits a query; 0 for all images.")] = 10,
    label: Annotated[
        list[str] | None, typer.Option(help="Search only pictures of this label; several: of any of them.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score by float descriptors, where kept.")] = False,
    save: Annotated[Path | None, typer.Option(help="Folder for annotated pictures and a contact sheet.")] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON line a query.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where a query could not be used.")] = False,
) -> None:
    """Find things in a gallery: best images first, each with the box where the thing is held to be."""
    asked = _asked(query, box or [], queries)
    refused = 0
    saved = SavedNames()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Gallery.open(gallery))
        pipeline = stack.enter_context(open_pipeline())
        store.require_pipeline(pipeline.id, pipeline.describe_settings)
        finder = GallerySearch(store, ops.load().code_scan, pipeline.settings.search, exact=exact)
        if not len(finder):
            typer.echo(f"gallery {gallery} is empty: enrol pictures into it", err=True)
        only = ids_of_labels(store, label) if label else None
        if only == []:
            typer.echo(f"gallery {gallery} has no picture labelled {' or '.join(map(shown, label or []))}", err=True)
        for one in asked:
            try:
                if isinstance(one, RejectedQuery):
                    raise UsageError(one.reason)
                frame = read_picture(one.image)
                descriptors = pipeline.describe(frame, boxes=one.boxes)
            except (BadImageError, UsageError) as error:
                if queries is None:
                    raise
                refused += 1
                typer.echo(f"query {shown(one.id)} rejected: {shown(str(error))}", err=True)
                continue
            start = time.perf_counter()
            hits = finder.query(descriptors, top_k, only)
            _tell(one, hits, time.perf_counter() - start, json)
            if save:
                _save(save / saved.name_of(one.id), frame, one.boxes, hits, store)
    if refused and (strict or refused == len(asked)):
        raise typer.Exit(1 if strict else 2)


def _asked(query: str | None, boxes: list[str], queries: Path | None) -> Sequence[Query | RejectedQuery]:
    if (query is None) == (queries is None):
        raise UsageError("give either a query picture or --queries FILE")
    if queries is not None and boxes:
        raise UsageError("--box goes with one query picture; in --queries FILE every line has its own box")
    return read_queries(queries) if queries is not None else [one_query(query or "", boxes)]


def _tell(query: Query, hits: list[Hit], seconds: float, json: bool) -> None:
    if json:
        print_json({"query": query.id, "hits": [_hit_json(hit) for hit in hits], "seconds": round(seconds, 5)})
        return
    print(f"{shown(query.id)}: {counted(len(hits), 'hit')}")
    for hit in hits:
        corners = ",".join(str(round(value)) for value in hit.box)
        label = f"  {shown(hit.label)}" if hit.label else ""
        print(f"  {hit.score:6.3f}  {shown(hit.image)}  [{corners}]{label}")


def _hit_json(hit: Hit) -> dict[str, Any]:
    return {
        "image": hit.image,
        "root": hit.root,
        "score": round(hit.score, 5),
        "box": [round(value, 1) for value in hit.box],
        "label": hit.label,
        "match": hit.match,
    }


def _save(folder: Path, frame: Frame, boxes: Sequence[drawing.Box], hits: list[Hit], store: Gallery) -> None:
    """Every hit annotated in a folder, and the query and they on one sheet; files that are gone are left out."""
    locations = {root.name: root.location for root in all_roots(store)}
    tiles = [drawing.thumbnail(drawing.with_boxes(frame.pixels, boxes, drawing.QUERY_COLOUR))]
    captions = ["query"]
    for rank, hit in enumerate(hits, 1):
        path = os.path.join(locations[hit.root], hit.image)
        try:
            pixels = read_picture(path).pixels
        except (BadImageError, UsageError) as error:
            typer.echo(f"hit {shown(hit.image)} cannot be drawn: {shown(str(error))}", err=True)
            continue
        drawn = drawing.with_boxes(pixels, [hit.box], drawing.HIT_COLOUR, f"{rank}. {hit.score:.3f}")
        drawing.save_picture(folder / f"{rank:02d}-{saved_stem(hit.image)}.jpg", drawn)
        if len(tiles) < _MOST_TILES:
            tiles.append(drawing.thumbnail(drawn))
            captions.append(f"{rank}. {hit.score:.3f} {Path(hit.image).name}")
    sheet = folder.with_name(f"{folder.name}-sheet.jpg")
    drawing.save_picture(sheet, drawing.contact_sheet(tiles, captions))
    if len(hits) >= _MOST_TILES:
        typer.echo(f"the contact sheet shows the query and the {len(tiles) - 1} best of them", err=True)
    typer.echo(f"annotated pictures: {shown(str(folder))}, contact sheet: {shown(str(sheet))}", err=True)
