"""Is everything in a gallery sound? Reads every byte of it and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge_claid.errors import EdgeClaidError
from edge_claid.gallery.rows import checksum, matrix_from_bytes, regions_from_bytes
from edge_claid.gallery.store import Gallery


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. image: path of the image it concerns, or None for the gallery as a whole."""

    image: str | None
    what: str


def verify(gallery: Gallery) -> Iterator[Problem]:
    """Every problem found: pages, references, checksums, shapes, codes against the code space."""
    for check in (_pages, _references, _space, _images):
        try:
            yield from check(gallery)
        except EdgeClaidError as error:
            yield Problem(None, str(error))


def _pages(gallery: Gallery) -> Iterator[Problem]:
    with gallery.reading() as connection:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(100)")]
    yield from (Problem(None, f"database: {text}") for text in found if text != "ok")


def _references(gallery: Gallery) -> Iterator[Problem]:
    with gallery.reading() as connection:
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    for table, row, parent, _ in broken:
        yield Problem(None, f"row {row} of {table} belongs to no row of {parent}")


def _space(gallery: Gallery) -> Iterator[Problem]:
    """Reading the space checks its bytes; one that cannot be read raises."""
    space = gallery.space
    stored = gallery.info().code_space
    if space is not None and space.id != stored:
        yield Problem(None, f"the code space is stored as {stored} and is {space.id}")


def _images(gallery: Gallery) -> Iterator[Problem]:
    with gallery.reading() as connection:
        active = connection.execute("SELECT id FROM code_spaces WHERE active = 1").fetchone()
        widths = connection.execute(
            "SELECT length(c.content) / i.regions FROM codes c JOIN images i ON i.id = c.image LIMIT 1"
        ).fetchone()
    for displaced in (False, True):
        for row in gallery.images(displaced):
            with gallery.reading() as connection:
                parts = {
                    table: connection.execute(f"SELECT * FROM {table} WHERE image = ?", (row.id,)).fetchone()
                    for table in ("regions", "masks", "descriptors", "codes")
                }
            size = (row.width, row.height)
            for what in _wrong(parts, row.regions, size, active and active[0], widths and widths[0]):
                yield Problem(row.path, what)


def _wrong(
    parts: dict[str, Any], count: int, size: tuple[int, int], space: int | None, code_bytes: int | None
) -> Iterator[str]:
    regions, masks, descriptors, codes = (parts[name] for name in ("regions", "masks", "descriptors", "codes"))
    if regions is None or masks is None:
        yield "its regions are missing"
    else:
        if checksum(regions[1], regions[2]) != regions[3] or checksum(masks[3]) != masks[4]:
            yield "its regions are damaged (checksum)"
        yield from _failing(lambda: regions_from_bytes(regions[1], regions[2], masks[3], (masks[1], masks[2]), size))
        if len(regions[1]) != count * 16:
            yield f"it has {len(regions[1]) // 16} regions and is listed with {count}"
    if descriptors is not None:
        if checksum(descriptors[1]) != descriptors[2]:
            yield "its descriptors are damaged (checksum)"
        yield from _failing(lambda: matrix_from_bytes(descriptors[1], count, "<f2"))
    if space is None and descriptors is None:
        yield "it has neither descriptors nor codes"
    if space is not None:
        yield from _wrong_codes(codes, count, space, code_bytes)


def _wrong_codes(codes: Any, count: int, space: int, code_bytes: int | None) -> Iterator[str]:
    if codes is None:
        yield "its codes are missing"
        return
    if checksum(codes[2]) != codes[3]:
        yield "its codes are damaged (checksum)"
    if codes[1] != space:
        yield "its codes are of another code space"
    if len(codes[2]) != count * (code_bytes or 0):
        yield f"its codes have {len(codes[2])} bytes for {count} regions"


def _failing(read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except EdgeClaidError as error:
        yield str(error)
