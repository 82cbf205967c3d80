"""Verification names what is damaged, and a repair keeps all that is not."""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
from made_up import DIM, MadeUpSpace, described

from edge_claid.errors import EdgeClaidError, GalleryError, StorageError
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.pages import Pages
from edge_claid.gallery.storage.rows import ImageRow, NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.repair import repair
from edge_claid.gallery.upkeep.verify import verify

IMAGES = 120


def opened(path: Path, mode: str = "r") -> Gallery:
    return Gallery.open(path, mode, read_space=MadeUpSpace.from_bytes)


def new_image(seed: int) -> NewImage:
    content = described(seed, 2 + seed % 30)
    label = f"label {seed % 7}" if seed % 3 else None
    return NewImage(1, f"shelf/{seed}.png", struct.pack(">Q", seed), 10, 20, content, label, latitude=seed * 1.0)


def made(path: Path, keep: bool = True, images: int = IMAGES) -> Path:
    with opened(path, "create") as gallery:
        gallery.bind("aa", {"x": 1}, DIM, keep_descriptors=keep)
        register_root(gallery, str(path.parent), "photos")
        gallery.add([new_image(seed) for seed in range(images)])
        gallery.adopt_space(MadeUpSpace())
        # Freed pages and overflow chains must not confuse what reads page by page.
        gallery.remove([3, 4, 5, 60, 61])
    return path


def everything(path: Path) -> dict[str, tuple[ImageRow, bytes, bytes | None]]:
    with opened(path) as gallery, gallery.reading() as connection:
        run = connection.execute
        codes = dict(run("SELECT image, content FROM codes").fetchall())
        floats = dict(run("SELECT image, content FROM descriptors").fetchall())
        return {row.path: (row, codes[row.id], floats.get(row.id)) for row in gallery.images()}


def damage(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(statement)
    connection.close()


def test_pages_hold_the_rows_that_sql_reads(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid")
    connection = sqlite3.connect(path)
    tables = ("roots", "images", "regions", "masks", "descriptors", "code_spaces", "codes", "space_copies")
    expected = {(row[0], tuple(row[1:])) for table in tables for row in connection.execute(f"SELECT * FROM {table}")}
    sequence = ("images", IMAGES)
    meta = set(connection.execute("SELECT key, value FROM meta"))
    connection.close()
    with Pages(str(path)) as pages:
        found = [(rowid, values[1:]) for rowid, values in pages.table_rows() if values != sequence]
        entries = set(pages.index_rows())
    assert len(found) == len(expected) == len(set(found))
    assert set(found) == expected
    assert meta <= entries


def test_a_sound_gallery_survives_a_repair_unchanged(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid")
    before = everything(path)
    repaired = repair(str(path), read_space=MadeUpSpace.from_bytes)
    assert (repaired.images, repaired.mended, repaired.lost_space) == (len(before), [], False)
    assert everything(path) == before
    assert sorted(os.listdir(tmp_path)) == ["g.claid", "g.claid.damaged"]
    assert everything(tmp_path / "g.claid.damaged") == before


def test_rows_that_are_damaged(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid")
    before = everything(path)
    damage(path, "UPDATE codes SET content = zeroblob(length(content)) WHERE image = 1")
    damage(path, "UPDATE masks SET packed = x'00' WHERE image = 2")
    damage(path, "DELETE FROM codes WHERE image = 10")
    damage(path, "UPDATE descriptors SET content = x'0102' WHERE image = 11")
    damage(path, "UPDATE regions SET tree = zeroblob(3) WHERE image = 12")
    damage(path, "UPDATE images SET regions = -1 WHERE id = 13")
    damage(path, "DELETE FROM images WHERE id = 14")
    with opened(path) as gallery:
        found = list(verify(gallery))
    assert {problem.image_id for problem in found if problem.image} == {1, 2, 10, 11, 12, 13}
    assert any("belongs to no row" in problem.what for problem in found)
    repaired = repair(str(path), read_space=MadeUpSpace.from_bytes)
    status = {one.image: one.status for one in repaired.mended if one.image}
    assert status == {
        "shelf/0.png": "recoded",
        "shelf/1.png": "lost",
        "shelf/9.png": "recoded",
        "shelf/10.png": "lightened",
        "shelf/11.png": "lost",
        "shelf/12.png": "lost",
    }
    assert [one.status for one in repaired.mended if one.image is None] == ["lost"]
    assert all(one.reason for one in repaired.mended)
    after = everything(path)
    gone = {"shelf/1.png", "shelf/11.png", "shelf/12.png", "shelf/13.png"}
    assert set(after) == set(before) - gone
    assert all(after[name][:2] == before[name][:2] for name in after)
    with opened(path, "rw") as gallery:
        assert list(verify(gallery)) == []
        assert gallery.add([new_image(1)]) == ["added"]


@pytest.mark.parametrize("seed", range(12))
def test_damaged_pages_cost_only_what_lay_on_them(tmp_path: Path, seed: int) -> None:
    path = made(tmp_path / "g.claid")
    before = everything(path)
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    with Pages(str(path)) as pages:
        size, count = pages.size, pages.count
    hit = rng.choice(np.arange(24, count), 3, replace=False)
    for page in hit:
        start = page * size + int(rng.integers(0, size - 64))
        length = size if seed % 2 else 64
        start = page * size if seed % 2 else start
        content[start : start + length] = rng.bytes(length)
    path.write_bytes(content)
    repaired = repair(str(path), read_space=MadeUpSpace.from_bytes)
    after = everything(path)
    lost = [one for one in repaired.mended if one.status == "lost"]
    assert len(after) + len(lost) >= len(before)
    assert len(after) >= len(before) - 40
    assert all(after[name][0] == before[name][0] and after[name][1] == before[name][1] for name in after)
    with opened(path) as gallery:
        assert list(verify(gallery)) == []


def test_a_file_sqlite_cannot_open_is_salvaged(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid")
    before = everything(path)
    content = bytearray(path.read_bytes())
    content[:2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(GalleryError):
        opened(path)
    assert repair(str(path), read_space=MadeUpSpace.from_bytes).mended == []
    assert everything(path) == before


def test_a_lost_code_space_leaves_what_has_descriptors(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid")
    damage(path, "UPDATE code_spaces SET checksum = 1; UPDATE space_copies SET checksum = 1")
    repaired = repair(str(path), read_space=MadeUpSpace.from_bytes)
    assert (repaired.lost_space, repaired.images) == (True, IMAGES - 5)
    with opened(path, "rw") as gallery:
        assert gallery.space is None
        gallery.adopt_space(MadeUpSpace())
        assert list(verify(gallery)) == []


def test_a_gallery_without_codes_has_lost_none(tmp_path: Path) -> None:
    path = tmp_path / "g.claid"
    with opened(path, "create") as gallery:
        gallery.bind("aa", {"x": 1}, DIM)
        register_root(gallery, str(path.parent), "photos")
        gallery.add([new_image(seed) for seed in range(10)])
    damage(path, "UPDATE descriptors SET checksum = 1 WHERE image = 4")
    repaired = repair(str(path), read_space=MadeUpSpace.from_bytes)
    assert (repaired.images, repaired.lost_space) == (9, False)
    assert [(one.image, one.status) for one in repaired.mended] == [("shelf/3.png", "lost")]


def test_nothing_is_changed_where_nothing_can_be_kept(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid", keep=False)
    damage(path, "UPDATE code_spaces SET checksum = 1; UPDATE space_copies SET checksum = 1")
    content = path.read_bytes()
    with pytest.raises(GalleryError, match="nothing was changed"):
        repair(str(path), read_space=MadeUpSpace.from_bytes)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["g.claid"]


@pytest.mark.parametrize("content", [b"", b"hello" * 5000, b"SQLite format 3\0" + bytes(9000)])
def test_what_is_no_gallery_is_not_repaired(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "g.claid"
    path.write_bytes(content)
    with pytest.raises(GalleryError, match="which pipeline"):
        repair(str(path))
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["g.claid"]


def test_a_gallery_in_use_is_not_repaired(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid")
    damage(path, "DELETE FROM codes WHERE image = 1")
    with opened(path, "rw") as gallery:
        gallery.add([new_image(900)])
        with pytest.raises(StorageError, match="in use"):
            repair(str(path), read_space=MadeUpSpace.from_bytes)
        assert "shelf/900.png" in {row.path for row in gallery.images()}
    assert sorted(os.listdir(tmp_path)) == ["g.claid"]
    assert repair(str(path), read_space=MadeUpSpace.from_bytes).mended[0].status == "recoded"
    assert "shelf/900.png" in everything(path)


def test_lost_roots_are_made_up(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid")
    damage(path, "DELETE FROM roots")
    assert repair(str(path), read_space=MadeUpSpace.from_bytes).images == IMAGES - 5
    with opened(path) as gallery:
        assert {row.root for row in gallery.images()} == {"recovered-1"}
        assert list(verify(gallery)) == []


@pytest.mark.parametrize("seed", range(25))
def test_any_damage_ends_in_a_sound_gallery_or_an_untouched_file(tmp_path: Path, seed: int) -> None:
    path = made(tmp_path / "g.claid", images=80)
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    for _ in range(int(rng.choice([1, 10, 300]))):
        content[rng.integers(len(content))] = rng.integers(256)
    for _ in range(int(rng.choice([0, 3, 20]))):
        to, of = (int(place) * 4096 for place in rng.integers(0, pages, 2))
        # Another page's content, as a medium that mixes up its blocks gives.
        content[to : to + 4096] = content[of : of + 4096] if rng.random() < 0.5 else rng.bytes(4096)
    if seed % 5 == 0:
        content = content[: int(rng.integers(len(content)))]
    path.write_bytes(content)
    refused = None
    try:
        repaired = repair(str(path), read_space=MadeUpSpace.from_bytes)
    except EdgeClaidError as error:
        refused = error
    if refused is not None:
        assert isinstance(refused, GalleryError)
        assert path.read_bytes() == content
        assert os.listdir(tmp_path) == ["g.claid"]
        return
    with opened(path) as gallery:
        assert list(verify(gallery)) == []
        assert len(gallery) == repaired.images > 0
    assert Path(repaired.damaged).read_bytes()[4096:] == content[4096:]
