"""A code space that cannot be right is refused before the gallery is changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import DIM, described

from edge_claid.codes import codebook_file
from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace, train_space
from edge_claid.config import CodeSettings
from edge_claid.errors import EdgeClaidError, GalleryError, UsageError
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage, checksum
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.training import trained_space
from edge_claid.gallery.upkeep.verify import verify


def space(width: int = DIM) -> CodeSpace:
    rng = np.random.default_rng(0)
    projection = Projection(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))
    return CodeSpace(projection, CodeBook(None, rng.normal(size=(4, 256, width // 4)).astype(np.float32)))


@pytest.fixture
def gallery(tmp_path: Path):
    with Gallery.open(tmp_path / "g.claid", "create") as gallery:
        gallery.bind("aa", {}, DIM, keep_descriptors=True)
        register_root(gallery, str(tmp_path), "photos")
        images = [NewImage(1, f"{i}.png", bytes([i] * 32), 1, 0, described(i, 8)) for i in range(5)]
        gallery.add(images)
        gallery.adopt_space(space(), keep_descriptors=True)
        yield gallery


def content(gallery: Gallery) -> list[tuple]:
    with gallery.reading() as connection:
        tables = ("codes", "descriptors", "code_spaces", "meta")
        return [row for table in tables for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")]


def test_too_few_regions_name_the_number_needed(gallery):
    before = content(gallery)
    with pytest.raises(UsageError, match="needs 512 regions, the gallery has 40"):
        trained_space(gallery, CodeSettings(bytes=4, width=16, views=0), None)
    assert content(gallery) == before


def test_too_few_regions_are_told_before_pictures_are_looked_at(gallery):
    with pytest.raises(UsageError, match="needs 512 regions"):
        trained_space(gallery, CodeSettings(bytes=4, width=16), Unasked())


class Unasked:
    def view_scatter(self, pictures, count, done=None):
        raise AssertionError("looked at pictures for nothing")


@pytest.mark.parametrize(("settings", "message"), [((5, 16), "5 bytes do not divide 16"), ((0, 16), "bytes|divide")])
def test_a_code_length_that_does_not_divide(gallery, settings, message):
    before = content(gallery)
    with pytest.raises(EdgeClaidError, match=message):
        train_space(gallery.descriptors(1000), CodeSettings(bytes=settings[0], width=settings[1]))
    assert content(gallery) == before


def test_a_space_of_another_width(gallery):
    before = content(gallery)
    with pytest.raises(UsageError, match=f"takes \\(R, {2 * DIM}\\)"):
        gallery.adopt_space(space(2 * DIM))
    assert content(gallery) == before
    assert list(verify(gallery)) == []


def test_descriptors_that_are_no_numbers(gallery):
    values = np.full((8, DIM), np.nan, "<f2").tobytes()
    with gallery.writing() as connection:
        connection.execute(
            "UPDATE descriptors SET content = ?, checksum = ? WHERE image = 3", (values, checksum(values))
        )
    before = content(gallery)
    with pytest.raises(UsageError, match="NaN"):
        gallery.adopt_space(space())
    with pytest.raises(UsageError, match="NaN"):
        train_space(np.tile(gallery.descriptors(1000), (20, 1)), CodeSettings(bytes=4, width=16))
    assert content(gallery) == before


def damaged(data: bytes, kind: str) -> bytes:
    header, arrays = codebook_file.load(data, "code-space", 1)
    if kind == "truncated":
        return data[: len(data) // 2]
    if kind == "another version":
        return codebook_file.dump("code-space", 99, header, arrays)
    if kind == "another width":
        arrays["matrix"] = arrays["matrix"][:, :-4]
    if kind == "16 codewords":
        arrays["centroids"] = arrays["centroids"][:, :16]
    if kind == "NaN":
        arrays["centroids"] = np.full_like(arrays["centroids"], np.nan)
    return codebook_file.dump("code-space", 1, header, arrays)


@pytest.mark.parametrize("kind", ["truncated", "another version", "another width", "16 codewords", "NaN"])
def test_a_stored_space_that_cannot_be_used(gallery, kind):
    data = damaged(space().to_bytes(), kind)
    with pytest.raises(GalleryError):
        CodeSpace.from_bytes(data)
    with gallery.writing() as connection:
        connection.execute("UPDATE code_spaces SET content = ?, checksum = ?", (data, checksum(data)))
    before = content(gallery)
    with Gallery.open(gallery.path, "rw") as opened:
        with pytest.raises(GalleryError):
            opened.add([NewImage(1, "more.png", bytes([9] * 32), 1, 0, described(9, 8))])
        assert any(problem.what for problem in verify(opened))
        assert len(opened) == 5
    assert content(gallery) == before
