"""A gallery of every layout there was is brought to the present one with all it holds.

layouts/N.sql: what a program of layout N wrote, five images of which one is displaced, coded, with descriptors.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from made_up import MadeUpSpace, described

from edge_claid.errors import GalleryError, StorageError
from edge_claid.gallery.storage import schema
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify

LAYOUTS = sorted(Path(__file__).parent.joinpath("layouts").glob("*.sql"), key=lambda path: int(path.stem))


def written(layout: Path, path: Path) -> Path:
    """The gallery file as a program of that layout left it."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(layout.read_text())
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {layout.stem}")
    connection.close()
    return path


def opened(path: Path, mode: str) -> Gallery:
    return Gallery.open(path, mode, read_space=MadeUpSpace.from_bytes)


def test_every_earlier_layout_has_its_step_and_its_gallery() -> None:
    assert sorted(schema.MIGRATIONS) == list(range(1, schema.VERSION))
    assert [int(path.stem) for path in LAYOUTS] == list(range(1, schema.VERSION))


@pytest.mark.parametrize("mode", ["r", "rw", "create"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda path: path.stem)
def test_it_is_renewed_with_all_it_holds(layout: Path, mode: str, tmp_path: Path) -> None:
    path = written(layout, tmp_path / "g.claid")
    with opened(path, mode) as gallery:
        assert {row.path: row.label for row in gallery.images()} == {
            "0.png": None,
            "1.png": "shelf",
            "2.png": None,
            "3.png": None,
        }
        assert [row.content_hash[-1] for row in gallery.images(displaced=True)] == [0]
        index = gallery.load_index(exact=True)
        expected = [described(seed, 2 + seed % 4).descriptors.values for seed in (1, 2, 3, 9)]
        np.testing.assert_array_equal(index.descriptors, np.concatenate(expected).astype(np.float16))
        space = MadeUpSpace(3)
        np.testing.assert_array_equal(index.codes, space.encode(index.descriptors.astype(np.float32)))
        assert list(verify(gallery)) == []
        with gallery.reading() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            # Who only reads leaves it as it is where that can be.
            as_it_was = mode == "r" and int(layout.stem) >= schema.READABLE
            assert version == (int(layout.stem) if as_it_was else schema.VERSION)
            assert schema.differences(connection, version) == []
    with opened(path, "rw") as gallery:
        assert gallery.remove(row.id for row in gallery.images_labelled("shelf")) == 1
        assert list(verify(gallery)) == []
        with gallery.reading() as connection:
            assert schema.differences(connection) == []
            (copy,) = connection.execute("SELECT space, content, identity FROM space_copies").fetchall()
        assert copy == (1, MadeUpSpace(3).to_bytes(), "space-3")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda path: path.stem)
def test_a_step_that_fails_leaves_the_gallery_as_it_was(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(layout, tmp_path / "g.claid")

    def failing(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM images")
        raise sqlite3.OperationalError("database or disk is full")

    last = schema.VERSION - 1
    with monkeypatch.context() as broken:
        broken.setattr(schema, "MIGRATIONS", schema.MIGRATIONS | {last: failing})
        with pytest.raises(StorageError, match="no space"):
            opened(path, "rw")
    with opened(path, "rw") as gallery:
        assert len(gallery) == 4
        assert list(verify(gallery)) == []


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda path: path.stem)
def test_what_does_not_belong_there_is_refused_before_any_step(layout: Path, tmp_path: Path) -> None:
    """A trigger could act on our behalf while the layout is renewed."""
    path = written(layout, tmp_path / "g.claid")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TRIGGER t AFTER UPDATE ON images BEGIN DELETE FROM images; END")
    connection.close()
    with pytest.raises(GalleryError, match="does not belong"):
        opened(path, "rw")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == int(layout.stem)
        assert connection.execute("SELECT count(*) FROM images").fetchone()[0] == 5
    connection.close()


@pytest.mark.parametrize("mode", ["r", "rw"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda path: path.stem)
def test_what_came_later_does_not_belong_there(layout: Path, mode: str, tmp_path: Path) -> None:
    path = written(layout, tmp_path / "g.claid")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE space_copies (space INTEGER PRIMARY KEY)")
    connection.close()
    with pytest.raises(GalleryError, match="space_copies does not belong there"):
        opened(path, mode)


def test_a_damaged_code_space_is_not_copied(tmp_path: Path) -> None:
    path = written(LAYOUTS[1], tmp_path / "g.claid")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE code_spaces SET content = x'04'")
    connection.close()
    for mode in ("r", "rw"):
        with opened(path, mode) as gallery:
            assert [problem.what for problem in verify(gallery)] == ["its code space is damaged"]
    with opened(path, "r") as gallery, gallery.reading() as connection:
        assert connection.execute("SELECT count(*) FROM space_copies").fetchone()[0] == 0


def test_two_that_renew_at_once(tmp_path: Path) -> None:
    path = written(LAYOUTS[0], tmp_path / "g.claid")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_count, [path] * 2) == [4, 4]


def _count(path: Path) -> int:
    with opened(path, "rw") as gallery:
        return len(gallery)
