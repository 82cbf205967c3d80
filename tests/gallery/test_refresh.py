"""A search keeps in step with its gallery: what another process adds, removes or takes up again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_up import DIM, described

from edge_claid import ops
from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.errors import GalleryError
from edge_claid.gallery.lookup import positions
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.records import Descriptors


def space(seed: int = 0) -> CodeSpace:
    rng = np.random.default_rng(seed)
    projection = Projection(np.zeros(DIM, np.float32), np.eye(DIM, dtype=np.float32))
    return CodeSpace(projection, CodeBook(None, rng.normal(size=(4, 256, DIM // 4)).astype(np.float32)))


def image(seed: int) -> NewImage:
    digest = seed.to_bytes(32, "little")
    return NewImage(1, f"{seed}.png", digest, 10, 0, described(seed, 3 + seed % 3), f"kind {seed % 2}")


def query(seed: int) -> Descriptors:
    return Descriptors(described(seed, 3 + seed % 3).descriptors.values[1:2])


def searching(gallery: Gallery, exact: bool) -> GallerySearch:
    return GallerySearch(gallery, ops.load().code_scan, exact=exact)


@pytest.fixture(params=["codes", "exact", "no space"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def writer(tmp_path: Path, kind: str) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "g.claid", "create") as gallery:
        gallery.bind("aa", {"x": 1}, DIM, keep_descriptors=True)
        register_root(gallery, str(tmp_path), "photos")
        gallery.add([image(i) for i in range(6)])
        if kind != "no space":
            gallery.adopt_space(space(), keep_descriptors=True)
        yield gallery


@pytest.fixture
def reader(writer: Gallery) -> Iterator[Gallery]:
    with Gallery.open(writer.path, "r") as gallery:
        yield gallery


def assert_as_opened_anew(search: GallerySearch, gallery: Gallery, exact: bool) -> None:
    anew = searching(gallery, exact)
    assert len(search) == len(anew) == len(gallery)
    for seed in range(9):
        for k in (1, 4, 0):
            assert search.query(query(seed), k) == anew.query(query(seed), k)
    both = Descriptors(np.concatenate([query(1).values, query(2).values]))
    assert search.query(both, 3) == anew.query(both, 3)


def test_added_removed_and_taken_up_again(writer: Gallery, reader: Gallery, kind: str) -> None:
    exact = kind == "exact"
    search = searching(reader, exact)
    assert search.refresh() is False
    assert search.query(query(7), 1)[0].image != "7.png"
    writer.add([image(7), image(8)])
    assert search.refresh() is True
    assert search.refresh() is False
    assert search.query(query(7), 1)[0].image == "7.png"
    assert_as_opened_anew(search, reader, exact)

    ids = {row.path: row.id for row in writer.images()}
    writer.remove([ids["7.png"], ids["2.png"]])
    with writer.batch() as batch:
        batch.displace(1, "4.png")
    assert search.refresh() is True
    assert {hit.image for hit in search.query(query(7), 0)} == {f"{i}.png" for i in (0, 1, 3, 5, 8)}
    assert_as_opened_anew(search, reader, exact)

    with writer.batch() as batch:
        batch.move(ids["4.png"], 1, "four.png", 10, 0)
    writer.add([image(9)])
    assert search.refresh() is True
    assert search.query(query(4), 1)[0].image == "four.png"
    assert len(search) == 7
    if kind != "codes":
        assert_as_opened_anew(search, reader, exact)


# Without a code space the projection depends on all descriptors.
@pytest.mark.parametrize("kind", ["codes", "exact"])
def test_only_what_is_new_is_read(writer: Gallery, reader: Gallery, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search = searching(reader, kind == "exact")
    read: list[int] = []
    parts = positions.Positions._parts

    def counted(self, *arguments):
        for values, images in parts(self, *arguments):
            read.append(len(values))
            yield values, images

    monkeypatch.setattr(positions.Positions, "_parts", counted)
    writer.add([image(7)])
    search.refresh()
    assert read == [4]


# A code space has a projection of its own.
@pytest.mark.parametrize("kind", ["no space"])
def test_a_projection_is_kept_until_its_regions_have_changed_much(
    writer: Gallery, reader: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_claid.gallery.lookup.search.FEW", 20)  # six images of 24 regions; one more holds 4
    monkeypatch.setattr("edge_claid.gallery.lookup.search.CHANGED", 0.3)
    search = searching(reader, False)
    fitted = search.projection
    writer.add([image(7)])
    assert search.refresh() is True
    assert search.projection is fitted
    assert search.query(query(7), 1)[0].image == "7.png"
    writer.add([image(8), image(10)])
    assert search.refresh() is True
    assert search.projection is not fitted
    assert_as_opened_anew(search, reader, False)


def test_from_empty_to_coded(tmp_path: Path) -> None:
    path = tmp_path / "g.claid"
    with Gallery.open(path, "create") as writer, Gallery.open(path, "r") as reader:
        search = searching(reader, False)
        assert (len(search), search.query(query(1))) == (0, [])
        writer.bind("aa", {"x": 1}, DIM)
        register_root(writer, str(tmp_path), "photos")
        writer.add([image(i) for i in range(5)])
        assert search.refresh() is True
        assert search.query(query(3), 1)[0].image == "3.png"
        writer.adopt_space(space(1), keep_descriptors=True)
        assert search.refresh() is True
        assert_as_opened_anew(search, reader, False)
        writer.adopt_space(space(2), keep_descriptors=True)
        assert search.refresh() is True
        assert_as_opened_anew(search, reader, False)
        writer.remove([row.id for row in writer.images()])
        assert search.refresh() is True
        assert (len(search), search.query(query(3))) == (0, [])


def test_a_hit_that_was_removed_meanwhile(writer: Gallery, reader: Gallery, kind: str) -> None:
    search = searching(reader, kind == "exact")
    gone = next(row.id for row in writer.images() if row.path == "3.png")
    writer.remove([gone])
    hits = search.query(query(3), 0)
    assert [hit.image for hit in hits if hit.image == "3.png"] == []
    assert len(hits) == 5


def test_another_pipeline_is_refused(writer: Gallery, reader: Gallery, kind: str) -> None:
    search = searching(reader, kind == "exact")
    with writer.writing() as connection:
        connection.execute("UPDATE meta SET value = 'bb' WHERE key = 'pipeline_id'")
    with pytest.raises(GalleryError, match="another pipeline"):
        search.refresh()


def test_among_some_images_only(writer: Gallery, reader: Gallery, kind: str) -> None:
    search = searching(reader, kind == "exact")
    ids = [row.id for row in reader.images() if row.label == "kind 1"]
    everywhere = search.query(query(4), 0)
    among = search.query(query(4), 0, only=ids)
    assert [hit for hit in everywhere if hit.label == "kind 1"] == among
    assert len(among) == 3
    assert search.query(query(4), 1, only=ids) == among[:1]
    assert search.query(query(4), 5, only=[]) == search.query(query(4), 5, only=[10**6]) == []


def test_damaged_codes_are_refused(writer: Gallery, reader: Gallery, kind: str) -> None:
    table = "codes" if kind == "codes" else "descriptors"
    search = searching(reader, kind == "exact")
    changes = {
        "do not fit": f"UPDATE {table} SET content = substr(content, 2) WHERE image = 2",
        "no bytes|do not fit": f"UPDATE {table} SET content = 7 WHERE image = 2",
        "1 images are missing": f"DELETE FROM {table} WHERE image = 2",
    }
    for message, change in changes.items():
        with writer.writing() as connection:
            connection.execute(change)
        with pytest.raises(GalleryError, match=message):
            searching(reader, kind == "exact")
    assert len(search) == 6


def test_boxes_that_do_not_fit_are_refused(writer: Gallery, reader: Gallery, kind: str) -> None:
    search = searching(reader, kind == "exact")
    with writer.writing() as connection:
        connection.execute("UPDATE regions SET boxes = substr(boxes, 17) WHERE image = 2")
    with pytest.raises(GalleryError, match="boxes do not fit"):
        search.query(query(2), 0)
