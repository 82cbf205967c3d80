"""The gallery file: what is no gallery, what is damaged, several at once, a full or read-only place."""

from __future__ import annotations

import os
import sqlite3
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import DIM, MadeUpSpace, described

from edge_claid.errors import GalleryError, StorageError, UsageError
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage import schema
from edge_claid.gallery.storage.batch import Batch
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify


def new_image(seed: int, root_id: int = 1, **fields: object) -> NewImage:
    facts = {"path": f"{seed}.png", "content_hash": struct.pack(">Q", seed), "size": 10, "mtime_ns": 20}
    return NewImage(root_id=root_id, described=described(seed, 2 + seed % 4), **(facts | fields))


def opened(path: Path, mode: str = "create", **kwargs: object) -> Gallery:
    return Gallery.open(path, mode, read_space=MadeUpSpace.from_bytes, **kwargs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A gallery of six images."""
    path = tmp_path / "g.claid"
    with opened(path) as gallery:
        gallery.bind("aa", {"x": 1}, DIM)
        register_root(gallery, str(tmp_path), "photos")
        assert gallery.add([new_image(i) for i in range(6)]) == ["added"] * 6
    return path


def test_closed_it_is_one_file(path: Path) -> None:
    assert [p.name for p in path.parent.iterdir()] == ["g.claid"]
    header = path.read_bytes()[:100]
    assert struct.unpack(">I", header[68:72])[0] == schema.APPLICATION_ID


def test_index(path: Path) -> None:
    with opened(path, "r") as gallery:
        index = gallery.load_index()
        info = gallery.info()
    counts = [2 + i % 4 for i in range(6)]
    assert np.diff(index.starts).tolist() == counts
    assert index.image_index.tolist() == [i for i, count in enumerate(counts) for _ in range(count)]
    assert (info.images, info.regions, info.code_space) == (6, sum(counts), None)
    for i in range(6):
        own = index.descriptors[index.starts[i] : index.starts[i + 1]]
        np.testing.assert_array_equal(own, described(i, counts[i]).descriptors.values.astype(np.float16))


def test_empty_gallery(tmp_path: Path) -> None:
    with opened(tmp_path / "e.claid") as gallery:
        index = gallery.load_index()
        assert (len(gallery), len(index), index.boxes.shape) == (0, 0, (0, 4))
        assert gallery.space is None
        gallery.require_pipeline("any", {})
        assert gallery.descriptors(100).shape == (0, 0)
        assert list(verify(gallery)) == []


def test_descriptors_for_training_are_spread_evenly(path: Path) -> None:
    with opened(path, "rw") as gallery:
        gallery.add([new_image(i) for i in range(10, 410)])
        everything = gallery.descriptors(10**9)
        some = gallery.descriptors(300)
    assert everything.dtype == np.float16
    assert len(everything) == sum(2 + i % 4 for i in [*range(6), *range(10, 410)])
    assert 240 <= len(some) <= 360


def test_removed_with_all_that_hangs_on_it(path: Path) -> None:
    with opened(path, "rw") as gallery:
        gallery.adopt_space(MadeUpSpace(), keep_descriptors=True)
        ids = [row.id for row in gallery.images()]
        assert gallery.remove(ids[:4]) == 4
        assert gallery.remove(ids[:1]) == 0
        with gallery.reading() as connection:
            for table in ("images", "regions", "masks", "codes", "descriptors"):
                assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 2, table
        with pytest.raises(GalleryError, match="removed meanwhile"):
            gallery.images_by_id(ids[:1])
        assert list(verify(gallery)) == []


def test_ids_are_never_used_again(path: Path) -> None:
    with opened(path, "rw") as gallery:
        last = max(row.id for row in gallery.images())
        gallery.remove([last])
        gallery.add([new_image(99)])
        assert max(row.id for row in gallery.images()) > last


def test_a_batch_is_all_or_nothing(path: Path) -> None:
    def failing(batch: Batch) -> None:
        batch.add(new_image(50))
        batch.remove(1)
        raise RuntimeError("power")

    with opened(path, "rw") as gallery:
        with pytest.raises(RuntimeError, match="power"), gallery.batch() as batch:
            failing(batch)
        assert len(gallery) == 6
        assert gallery.image_by_hash(struct.pack(">Q", 50)) is None


@pytest.mark.parametrize(
    "content",
    [b"hello" * 100, b"SQLite format 3\0", b"\x89PNG\r\n\x1a\n" + bytes(200), b"SQLite format 3\0" + bytes(200)],
)
def test_what_is_no_gallery_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.claid"
    path.write_bytes(content)
    for mode in ("r", "rw", "create"):
        with pytest.raises(GalleryError):
            opened(path, mode)
    assert path.read_bytes() == content


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "x.claid"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    content = path.read_bytes()
    for mode in ("r", "rw", "create"):
        with pytest.raises(GalleryError, match="no gallery"):
            opened(path, mode)
    assert path.read_bytes() == content


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "x.claid"
    path.touch()
    with pytest.raises(GalleryError, match="empty"):
        opened(path, "r")
    with opened(path, "create") as gallery:
        assert len(gallery) == 0


def test_missing_and_wrong_mode(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no gallery at"):
        opened(tmp_path / "x.claid", "r")
    with pytest.raises(UsageError, match="mode"):
        opened(tmp_path / "x.claid", "w")
    with pytest.raises(GalleryError, match="regular"):
        opened(tmp_path, "r")
    with pytest.raises(StorageError):
        opened(tmp_path / "no folder" / "x.claid", "create")


def test_newer_layout_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(GalleryError, match="newer edge-claid"):
        opened(path, "r")


def test_older_layout_is_migrated_by_the_first_who_may_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    # A layout that cannot be read as it is.
    monkeypatch.setattr(schema, "READABLE", schema.VERSION)
    monkeypatch.setattr(schema, "MIGRATIONS", {})
    with pytest.raises(GalleryError, match="unknown layout"):
        opened(path, "rw")
    steps = {schema.VERSION - 1: lambda c: c.execute("INSERT INTO meta VALUES ('moved', 'yes')")}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    for mode in ("r", "rw", "r"):
        with opened(path, mode) as gallery, gallery.reading() as connection:
            assert connection.execute("SELECT value FROM meta WHERE key = 'moved'").fetchone() == ("yes",)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON images BEGIN DELETE FROM images; END",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE masks",
        "ALTER TABLE codes ADD COLUMN x",
    ],
)
def test_another_layout_is_refused(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(GalleryError, match="damaged"):
        opened(path, "r")


def test_a_second_writer_waits_and_then_says_so(path: Path) -> None:
    with opened(path, "rw") as first, opened(path, "rw", wait_seconds=0.1) as second:
        with first.batch():
            with pytest.raises(StorageError, match="another thread of this process"):
                second.remove([1])
            assert len(second) == 6
        assert second.remove([1]) == 1
        assert len(first) == 5


def test_a_reader_keeps_reading_while_another_writes(path: Path) -> None:
    with opened(path, "rw") as writer, opened(path, "r") as reader:
        with writer.batch() as batch:
            batch.remove(1)
            assert len(reader) == 6
        assert len(reader) == 5


def test_a_full_disk_keeps_what_was_there(path: Path) -> None:
    with opened(path, "rw") as gallery:
        with gallery.reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(StorageError, match="no space left") as full:
            gallery.add([new_image(i) for i in range(100, 200)])
        assert full.value.exit_code == 9
        assert len(gallery) == 6
        assert list(verify(gallery)) == []


def test_a_medium_that_cannot_be_written(path: Path) -> None:
    with opened(path, "r") as gallery, pytest.raises(StorageError):
        gallery.remove([1])


def test_a_killed_writer_loses_nothing_it_reported(tmp_path: Path) -> None:
    path = tmp_path / "k.claid"
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_store import *\n"
        f"with opened(Path({str(path)!r})) as g:\n"
        "    g.bind('aa', {}, DIM); register_root(g, '/nowhere', 'r')\n"
        "    for i in range(1000):\n"
        "        g.add([new_image(2 * i), new_image(2 * i + 1)]); print(2 * i + 2, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(5)]
        process.kill()
        reported = int((process.stdout.read().split() or lines)[-1])
    with opened(path, "rw") as gallery:
        assert reported >= 10
        assert len(gallery) in (reported, reported + 2)
        assert list(verify(gallery)) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="what a process holds open is read from /proc")
@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_damaged_file_is_not_held_open(path: Path, mode: str) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(len(content) - 100))
    with pytest.raises(GalleryError, match="is damaged") as refused:
        opened(path, mode)
    assert refused.value is not None  # whose frames know the connection
    files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    assert str(path) not in [os.readlink(file) for file in files if os.path.islink(file)]


def test_verify_names_what_is_damaged(path: Path) -> None:
    with opened(path, "rw") as gallery:
        gallery.adopt_space(MadeUpSpace(), keep_descriptors=True)
        assert list(verify(gallery)) == []
        with gallery.writing() as connection:
            connection.execute("UPDATE codes SET content = zeroblob(length(content)) WHERE image = 1")
            connection.execute("UPDATE masks SET packed = x'00' WHERE image = 2")
            connection.execute("DELETE FROM codes WHERE image = 3")
            connection.execute("UPDATE descriptors SET content = x'0102' WHERE image = 4")
            connection.execute("UPDATE regions SET tree = zeroblob(3) WHERE image = 5")
        found = {}
        for problem in verify(gallery):
            found.setdefault(problem.image, []).append(problem.what)
    assert set(found) == {f"{i}.png" for i in range(5)}
    assert found["0.png"] == ["its codes are damaged (checksum)"]
    assert found["2.png"] == ["its codes are missing"]


def test_damaged_pages_are_an_error_of_ours(path: Path) -> None:
    with opened(path, "rw") as gallery:
        gallery.add([new_image(i) for i in range(100, 300)])
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = rng.bytes(200)
    path.write_bytes(content)
    with pytest.raises(GalleryError, match=r"damaged|missing"), opened(path, "r") as gallery:
        gallery.load_index()


def test_a_space_needs_all_descriptors(path: Path) -> None:
    with opened(path, "rw") as gallery:
        gallery.adopt_space(MadeUpSpace(3))
        with pytest.raises(GalleryError, match="reencode"):
            gallery.adopt_space(MadeUpSpace(4))
        assert gallery.space.id == "space-3"
        assert gallery.load_index().codes.shape[1] == 3
        with pytest.raises(GalleryError, match="does not keep"):
            gallery.load_index(exact=True)


def test_another_space_is_adopted_whole_or_not_at_all(path: Path) -> None:
    class Breaking(MadeUpSpace):
        calls = 0

        def encode(self, descriptors: np.ndarray) -> np.ndarray:
            self.calls += 1
            if self.calls == 4:
                raise RuntimeError("stop")
            return super().encode(descriptors)

    with opened(path, "rw") as gallery:
        gallery.adopt_space(MadeUpSpace(3), keep_descriptors=True)
        before = gallery.load_index()
        with pytest.raises(RuntimeError, match="stop"):
            gallery.adopt_space(Breaking(5))
        np.testing.assert_array_equal(gallery.load_index().codes, before.codes)
        gallery.adopt_space(MadeUpSpace(5))
        gallery.adopt_space(MadeUpSpace(5))
        assert gallery.load_index(exact=True).codes.shape[1] == 5
        assert list(verify(gallery)) == []


def test_dropped_descriptors_give_their_space_back(path: Path) -> None:
    with opened(path, "rw") as gallery:
        gallery.add([new_image(i) for i in range(1000, 2000)])
    before = os.path.getsize(path)
    with opened(path, "rw") as gallery:
        gallery.adopt_space(MadeUpSpace())
    assert os.path.getsize(path) < 0.85 * before
    with opened(path, "rw") as gallery:
        gallery.remove(row.id for row in list(gallery.images())[:900])
        assert gallery.compact() > 0
        assert list(verify(gallery)) == []


def test_read_only_folder_is_read(path: Path) -> None:
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        with opened(path, "r") as gallery:
            assert len(gallery) == 6
    finally:
        path.parent.chmod(0o755)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "move", "remove"]), st.integers(0, 5), st.integers(0, 3)), max_size=20)
)
def test_any_history_leaves_each_content_and_each_path_once(history: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, Gallery.open(f"{folder}/h.claid", "create") as gallery:
        gallery.bind("aa", {}, DIM)
        register_root(gallery, "/nowhere", "r")
        for action, seed, place in history:
            row = gallery.image_by_hash(struct.pack(">Q", seed))
            with gallery.batch() as batch:
                if action == "add":
                    status, _ = batch.add(new_image(seed, path=f"{place}.png"))
                    assert (status == "known") == (row is not None)
                elif row is not None and action == "move":
                    batch.move(row.id, 1, f"{place}.png", 1, 1)
                elif row is not None:
                    assert batch.remove(row.id)
        shown = list(gallery.images())
        everything = shown + list(gallery.images(displaced=True))
        assert len({row.path for row in shown}) == len(shown)
        assert len({row.content_hash for row in everything}) == len(everything)
        assert list(verify(gallery)) == []


def test_a_closed_gallery_is_not_called_damaged(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.claid", "create") as gallery:
        pass
    with pytest.raises(UsageError, match="is closed"):
        gallery.info()
