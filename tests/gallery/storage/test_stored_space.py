"""The code space lies in the file twice: bytes of either may be damaged, and no search notices."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from made_up import DIM, described

from edge_claid.codes.codebook import CodeBook
from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.errors import GalleryError
from edge_claid.gallery import recode
from edge_claid.gallery.drift import drift_of
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage import stored_space
from edge_claid.gallery.storage.rows import NewImage, checksum
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.repair import repair
from edge_claid.gallery.upkeep.verify import verify

IMAGES = 60
TABLES = ("code_spaces", "space_copies")
NAMES = {"code_spaces": "its code space", "space_copies": "the copy of its code space"}


def space(seed: int = 0) -> CodeSpace:
    """Some pages long."""
    projection = Projection(np.zeros(DIM, np.float32), np.eye(DIM, dtype=np.float32))
    centroids = np.random.default_rng(seed).normal(size=(4, 256, DIM // 4)).astype(np.float32)
    return CodeSpace(projection, CodeBook(None, centroids))


def made(path: Path, keep: bool = False) -> Path:
    with Gallery.open(path, "create") as gallery:
        gallery.bind("aa", {"x": 1}, DIM, keep_descriptors=keep)
        register_root(gallery, str(path.parent), "photos")
        gallery.add([NewImage(1, f"{i}.png", bytes([i]) * 32, 1, 0, described(i, 8)) for i in range(IMAGES)])
        gallery.adopt_space(space())
        gallery.add([NewImage(1, "later.png", bytes([99]) * 32, 1, 0, described(99, 8))])
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("sound") / "g.claid")


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path / "g.claid"))


def stored(path: Path, table: str) -> bytes:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT content FROM {table}").fetchone()[0]
    finally:
        connection.close()


def places(path: Path, content: bytes) -> list[int]:
    """Where a piece of the code space lies in the file: once for each table."""
    whole, found = path.read_bytes(), []
    for start in range(9000, 20000, 500):
        piece = content[start : start + 48]
        found = [at for at in range(0, len(whole)) if whole.startswith(piece, at)]
        if len(found) == 2:
            return found
    raise AssertionError(f"found at {found}")


def flip(path: Path, table: str) -> None:
    """A few bytes of the file change, in the middle of this table's code space."""
    content = stored(path, table)
    for at in places(path, space().to_bytes()):
        with open(path, "r+b") as file:
            file.seek(at)
            before = file.read(8)
            file.seek(at)
            file.write(bytes(byte ^ 0x55 for byte in before))
        if stored(path, table) != content:
            return
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(before)
    raise AssertionError(f"{table} was not hit")


def answers(path: Path) -> tuple[bytes, str | None, object]:
    """What a search reads of a gallery."""
    with Gallery.open(path) as gallery:
        assert gallery.space is not None
        assert gallery.space.to_bytes() == space().to_bytes()
        return gallery.load_index().codes.tobytes(), gallery.info().code_space, drift_of(gallery)


def found_wrong(path: Path) -> list[tuple[str, str]]:
    with Gallery.open(path) as gallery:
        return [(problem.part, problem.what) for problem in verify(gallery)]


def test_both_are_written_at_once_and_lie_apart(path: Path) -> None:
    content = space().to_bytes()
    assert [stored(path, table) for table in TABLES] == [content, content]
    first, second = places(path, content)
    assert second - first > len(content)
    assert found_wrong(path) == []


@pytest.mark.parametrize("table", TABLES)
def test_bytes_of_one_change(path: Path, table: str, caplog: pytest.LogCaptureFixture) -> None:
    before = answers(path)
    flip(path, table)
    with caplog.at_level(logging.WARNING):
        assert answers(path) == before
    warned = [record.message for record in caplog.records if "verify --repair" in record.message]
    assert len(warned) == (table == "code_spaces")
    assert found_wrong(path) == [("space", f"{NAMES[table]} is damaged")]
    with Gallery.open(path, "rw") as gallery:
        gallery.add([NewImage(1, "more.png", bytes([98]) * 32, 1, 0, described(98, 8))])
        gallery.remove([gallery.images_at("more.png")[0].id])
    repaired = repair(str(path))
    assert (repaired.images, repaired.mended, repaired.lost_space) == (IMAGES + 1, [], False)
    assert repaired.restored_space == (table == "code_spaces")
    assert found_wrong(path) == []
    assert [stored(path, table) for table in TABLES] == [space().to_bytes()] * 2
    assert answers(path) == before


def test_bytes_of_both_change(path: Path) -> None:
    for table in TABLES:
        flip(path, table)
    assert found_wrong(path) == [("space", f"{name} is damaged") for name in NAMES.values()]
    with Gallery.open(path) as gallery, pytest.raises(GalleryError, match="its code space is damaged") as refused:
        assert gallery.space
    assert refused.value.exit_code == 8
    content = path.read_bytes()
    with pytest.raises(GalleryError, match="nothing was changed"):
        repair(str(path))
    assert path.read_bytes() == content


def test_both_damaged_leave_what_has_descriptors(tmp_path: Path) -> None:
    path = made(tmp_path / "g.claid", keep=True)
    for table in TABLES:
        flip(path, table)
    repaired = repair(str(path))
    assert (repaired.images, repaired.lost_space, repaired.restored_space) == (IMAGES + 1, True, False)


@pytest.mark.parametrize("table", TABLES)
def test_a_page_of_one_is_gone(path: Path, table: str) -> None:
    """Of the row itself, or of the chain that the row goes on in: SQLite refuses to read either."""
    before = answers(path)
    connection = sqlite3.connect(path)
    query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    page_bytes, root = connection.execute("PRAGMA page_size").fetchone()[0], connection.execute(query, [table])
    start = (root.fetchone()[0] - 1) * page_bytes
    connection.close()
    whole = path.read_bytes()
    for lost in (slice(start, start + page_bytes), slice(start + page_bytes - 4, start + page_bytes)):
        # The end of the page: where the chain of pages goes on, and nothing else of the row.
        path.write_bytes(whole[: lost.start] + bytes(lost.stop - lost.start) + whole[lost.stop :])
        assert answers(path) == before
        told = [what for part, what in found_wrong(path) if part == "space"]
        assert any(what.startswith(f"{NAMES[table]} is damaged") for what in told)
        assert repair(str(path)).lost_space is False
        assert answers(path) == before
        assert found_wrong(path) == []


def test_a_copy_of_another_space_is_not_taken(path: Path) -> None:
    other = space(1).to_bytes()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE space_copies SET content = ?, checksum = ?", (other, checksum(other)))
    connection.close()
    assert found_wrong(path) == [("space", "the copy of its code space is of another one")]
    flip_first_byte(path)
    with Gallery.open(path) as gallery, pytest.raises(GalleryError, match="the copy is of another one"):
        assert gallery.space


def flip_first_byte(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE code_spaces SET checksum = checksum + 1")
    connection.close()


@pytest.mark.parametrize(("change", "told"), [
    ("DELETE FROM space_copies", "its code space has no copy"),
    ("DELETE FROM code_spaces", "its code space is gone, only the copy is there"),
])  # fmt: skip
def test_one_is_missing(path: Path, change: str, told: str) -> None:
    before = answers(path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(change)
    connection.close()
    assert answers(path) == before
    assert told in [what for _, what in found_wrong(path)]
    assert repair(str(path)).lost_space is False
    assert found_wrong(path) == []
    assert answers(path) == before


def adopt_and_die(path: Path, moment: str) -> None:
    """Take another code space, and end by a cut at a moment of it."""

    def advance(images: int) -> None:
        if moment == "codes":
            os._exit(7)

    def sealed(connection: sqlite3.Connection) -> None:
        if moment == "before the copy":
            os._exit(7)
        stored_space.seal(connection)
        os._exit(7)

    recode.stored_space = type("Cut", (), {"seal": staticmethod(sealed)})  # type: ignore[assignment]
    with Gallery.open(path, "rw") as gallery:
        gallery.adopt_space(space(1), advance=advance)


@pytest.mark.parametrize("moment", ["codes", "before the copy", "after the copy"])
def test_a_cut_in_the_middle_of_an_adoption(tmp_path: Path, moment: str) -> None:
    path = made(tmp_path / "g.claid", keep=True)
    before = answers(path)
    process = multiprocessing.get_context("spawn").Process(target=adopt_and_die, args=(path, moment))
    process.start()
    process.join()
    assert process.exitcode == 7
    assert answers(path) == before
    assert found_wrong(path) == []
    with Gallery.open(path, "rw") as gallery:
        gallery.adopt_space(space(1))
    assert [stored(path, table) for table in TABLES] == [space(1).to_bytes()] * 2
    assert found_wrong(path) == []
