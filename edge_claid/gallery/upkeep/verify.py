"""Is everything in a gallery sound? Reads every byte of it and changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_claid.errors import EdgeClaidError, GalleryError
from edge_claid.gallery.storage import identity, stored_space
from edge_claid.gallery.storage.batch import Space
from edge_claid.gallery.storage.rows import ImageRow, checksum, matrix_from_bytes, regions_from_bytes
from edge_claid.gallery.store import Gallery

# Codes made on another machine may differ from those made here where two codewords are as near, and in little else.
_SAME_CODES = 0.5
_TOLD = 20  # problems of SQLite's own check that are told one by one


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. image: path of the image it concerns, or None for the gallery as a whole.

    part: "file", "references", "identity", "space", or of an image "facts", "regions", "descriptors", "codes".
    root: name of the image's root. image_id: its id.
    """

    image: str | None
    what: str
    part: str = "file"
    root: str | None = None
    image_id: int | None = None


@dataclass(frozen=True)
class Expected:
    """What every image is held against. width: of descriptors. space: row id and code space, None where uncoded.

    code_bytes: of a region's code, 0 where uncoded.
    """

    width: int | None
    space: tuple[int, Space] | None
    code_bytes: int


def verify(gallery: Gallery) -> Iterator[Problem]:
    """Every problem found: pages, references, identity, checksums, shapes, codes against the code book."""
    told: set[str] = set()
    for part, check in (
        ("file", _pages),
        ("references", _references),
        ("identity", _identity),
        ("space", _space),
        ("facts", _images),
    ):
        try:
            for problem in check(gallery):
                told.add(problem.what)
                yield problem
        except EdgeClaidError as error:
            what = _without_place(str(error), gallery.path)
            if what not in told:
                yield Problem(None, what, part)
            told.add(what)


def expected_of(gallery: Gallery) -> Expected:
    """What the images of a gallery have to be like. Raises GalleryError where its code space is damaged."""
    with gallery.reading() as connection:
        width = identity.read_meta(connection).get("descriptor_dim", "")
        active = stored_space.active(connection)
    space = gallery.space
    dim = int(width) if width.isdecimal() else None
    if active is None or space is None:
        return Expected(dim, None, 0)
    try:
        code_bytes = space.encode(np.zeros((1, dim or 1), np.float32)).shape[1]
    except (EdgeClaidError, ValueError) as error:
        raise GalleryError(f"its code space does not take descriptors of {dim} values") from error
    return Expected(dim, (active[0], space), code_bytes)


def image_problems(connection: sqlite3.Connection, row: ImageRow, expected: Expected) -> Iterator[tuple[str, str]]:
    """(part, what is wrong) of one image; to be called inside a read transaction."""
    parts = {
        table: connection.execute(f"SELECT * FROM {table} WHERE image = ?", (row.id,)).fetchone()
        for table in ("regions", "masks", "descriptors", "codes")
    }
    for part, found in (
        ("facts", _wrong_facts(row)),
        ("regions", _wrong_regions(parts["regions"], parts["masks"], row)),
        ("descriptors", _wrong_descriptors(parts["descriptors"], row.regions, expected)),
        ("codes", _wrong_codes(parts["codes"], parts["descriptors"], row.regions, expected)),
    ):
        for what in found:
            yield part, what


def _without_place(message: str, path: str) -> str:
    """An error's message without the gallery's name and the advice to verify it."""
    told = message.removeprefix(f"gallery {path}").lstrip(":, ").split("; `edge-claid gallery verify")[0]
    return told if told.startswith("its") else f"it {told}" if told.startswith("is ") else told


def _pages(gallery: Gallery) -> Iterator[Problem]:
    with gallery.reading() as connection:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({_TOLD})")]
    for text in found:
        # One answer may be a heading and a hundred lines.
        lines = [line for line in text.splitlines() if line and not line.startswith("***")]
        if text != "ok":
            more = f" (and {len(lines) - _TOLD} more like it)" if len(lines) > _TOLD else ""
            yield from (Problem(None, f"database: {line}") for line in lines[: _TOLD - 1])
            yield from (Problem(None, f"database: {line}{more}") for line in lines[_TOLD - 1 : _TOLD])


def _references(gallery: Gallery) -> Iterator[Problem]:
    with gallery.reading() as connection:
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    for table, row, parent, _ in broken:
        yield Problem(None, f"row {row} of {table} belongs to no row of {parent}", "references")


def _identity(gallery: Gallery) -> Iterator[Problem]:
    with gallery.reading() as connection:
        meta = identity.read_meta(connection)
        images = connection.execute("SELECT count(*) FROM images").fetchone()[0]
    if not images and not meta:
        return
    for key in ("pipeline_id", "describe_settings", "descriptor_dim"):
        if not meta.get(key):
            yield Problem(None, f"it does not know its {key.replace('_', ' ')}", "identity")
    try:
        json.loads(meta.get("describe_settings", "{}"))
    except ValueError:
        yield Problem(None, "its describing settings are no JSON", "identity")


def _space(gallery: Gallery) -> Iterator[Problem]:
    """Both copies are held against their checksums; reading the space raises where none is sound."""
    with gallery.reading() as connection:
        yield from (Problem(None, what, "space") for what in stored_space.problems(connection))
    space = gallery.space
    stored = gallery.info().code_space
    if space is not None and space.id != stored:
        yield Problem(None, f"the code space is stored as {stored} and is {space.id}", "space")
    with gallery.reading() as connection:
        idle = connection.execute("SELECT count(*) FROM code_spaces WHERE active <> 1").fetchone()[0]
    if idle:
        yield Problem(None, f"{idle} code spaces that nothing uses", "space")


def _images(gallery: Gallery) -> Iterator[Problem]:
    expected = expected_of(gallery)
    for displaced in (False, True):
        for row in gallery.images(displaced):
            with gallery.reading() as connection:
                found = list(image_problems(connection, row, expected))
            yield from (Problem(row.path, what, part, row.root, row.id) for part, what in found)


def _wrong_facts(row: ImageRow) -> Iterator[str]:
    numbers = (row.size, row.mtime_ns, row.width, row.height, row.regions)
    if not all(isinstance(number, int) for number in numbers) or not isinstance(row.content_hash, bytes):
        yield "its entry holds values of the wrong kind"
    elif min(row.width, row.height, row.regions) < 1 or row.size < 0 or not row.content_hash:
        yield "its entry holds impossible values"
    if not all(isinstance(text, str | None) for text in (row.label, row.taken)):
        yield "its label or time is no text"
    if not all(isinstance(place, int | float | None) for place in (row.latitude, row.longitude)):
        yield "its place is no number"


def _wrong_regions(regions: Any, masks: Any, row: ImageRow) -> Iterator[str]:
    if regions is None or masks is None:
        yield "its regions are missing"
        return
    if checksum(regions[1], regions[2]) != regions[3] or checksum(masks[3]) != masks[4]:
        yield "its regions are damaged (checksum)"
    size = row.width, row.height
    yield from _failing(lambda: regions_from_bytes(regions[1], regions[2], masks[3], (masks[1], masks[2]), size))
    if len(regions[1]) != row.regions * 16:
        yield f"it has {len(regions[1]) // 16} regions and is listed with {row.regions}"


def _wrong_descriptors(descriptors: Any, count: int, expected: Expected) -> Iterator[str]:
    if descriptors is None:
        if expected.space is None:
            yield "it has neither descriptors nor codes"
        return
    if checksum(descriptors[1]) != descriptors[2]:
        yield "its descriptors are damaged (checksum)"
    yield from _failing(lambda: matrix_from_bytes(descriptors[1], count, "<f2"))
    if expected.width is not None and len(descriptors[1]) != 2 * count * expected.width:
        yield f"its descriptors have {len(descriptors[1])} bytes for {count} regions of {expected.width} values"


def _wrong_codes(codes: Any, descriptors: Any, count: int, expected: Expected) -> Iterator[str]:
    if expected.space is None:
        if codes is not None:
            yield "it has codes and the gallery has no code space"
        return
    if codes is None:
        yield "its codes are missing"
        return
    sound = checksum(codes[2]) == codes[3]
    if not sound:
        yield "its codes are damaged (checksum)"
    if codes[1] != expected.space[0]:
        yield "its codes are of another code space"
    if len(codes[2]) != count * expected.code_bytes:
        yield f"its codes have {len(codes[2])} bytes for {count} regions of {expected.code_bytes}"
    elif sound and descriptors is not None and checksum(descriptors[1]) == descriptors[2]:
        yield from _unlike(codes[2], descriptors[1], count, expected.space[1])


def _unlike(codes: bytes, descriptors: bytes, count: int, space: Space) -> Iterator[str]:
    """Codes of another space have the right length and say something else."""
    try:
        fresh = space.encode(matrix_from_bytes(descriptors, count, "<f2").astype(np.float32)).ravel()
    except EdgeClaidError as error:
        yield str(error)
        return
    if (fresh == np.frombuffer(codes, np.uint8)).mean() < _SAME_CODES:
        yield "its codes are not those of its descriptors"


def _failing(read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except EdgeClaidError as error:
        yield str(error)
