"""Merging: what is copied, coded anew, recognised, kept apart and refused."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import struct
from pathlib import Path

import pytest
from made_up import DIM, MadeUpSpace, described

from edge_claid.errors import GalleryError, UsageError
from edge_claid.gallery.clips import note_spacing, spacing
from edge_claid.gallery.enrolment.reencode import enrolled_files
from edge_claid.gallery.roots import all_roots, register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.merge import Merged, MergeSummary, merge
from edge_claid.gallery.upkeep.verify import verify


def opened(path: Path, mode: str = "r") -> Gallery:
    return Gallery.open(path, mode, read_space=MadeUpSpace.from_bytes)


def new_image(seed: int, **fields: object) -> NewImage:
    facts = {"path": f"{seed}.png", "content_hash": struct.pack(">Q", seed), "size": 10, "mtime_ns": 20}
    return NewImage(root_id=1, described=described(seed, 2 + seed % 4), **(facts | fields))


def made(path: Path, seeds: range, *, space: int | None = 3, keep: bool = False, root: str = "/a/photos") -> Path:
    with opened(path, "create") as gallery:
        gallery.bind("aa", {"x": 1}, DIM, keep_descriptors=keep)
        register_root(gallery, root, os.path.basename(root))
        gallery.add([new_image(seed) for seed in seeds])
        if space:
            gallery.adopt_space(MadeUpSpace(space))
    return path


def merged(into: Path, *sources: Path) -> tuple[list[Merged], list[MergeSummary]]:
    outcomes: list[Merged] = []
    galleries = [opened(source) for source in sources]
    try:
        with opened(into, "create") as gallery:
            summaries = merge(gallery, galleries, outcomes.append)
            assert list(verify(gallery)) == []
    finally:
        for gallery in galleries:
            gallery.close()
    return outcomes, summaries


def codes_by_hash(path: Path) -> dict[bytes, bytes]:
    with opened(path) as gallery, gallery.reading() as connection:
        return dict(connection.execute("SELECT i.hash, c.content FROM images i JOIN codes c ON c.image = i.id"))


def test_one_code_space_is_copied_and_content_known_once(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(6)), made(tmp_path / "b.claid", range(4, 12), root="/b/photos")
    before = codes_by_hash(a) | codes_by_hash(b)
    outcomes, (summary,) = merged(a, b)
    assert summary.counts == {"added": 6, "replaced": 0, "known": 2, "older": 0}
    assert not summary.recoded
    assert len(outcomes) == 8
    assert codes_by_hash(a) == before
    with opened(a) as gallery:
        # Their contents agree at 4.png and 5.png, so the two folders are one.
        assert [root.location for root in all_roots(gallery)] == ["/a/photos"]
    again, (summary,) = merged(a, b)
    assert summary.counts["known"] == len(again) == 8


@pytest.mark.parametrize("ours", [None, 3])
@pytest.mark.parametrize("theirs", [None, 3, 5])
@pytest.mark.parametrize("keep", [False, True])
def test_every_pair_of_code_spaces(tmp_path: Path, ours: int | None, theirs: int | None, keep: bool) -> None:
    a = made(tmp_path / "a.claid", range(5), space=ours, keep=keep)
    b = made(tmp_path / "b.claid", range(10, 15), space=theirs, keep=True, root="/b/other")
    _, (summary,) = merged(a, b)
    assert summary.counts["added"] == 5
    width = ours or theirs
    expected = {struct.pack(">Q", seed): seed for seed in [*range(5), *range(10, 15)]}
    with opened(a) as gallery:
        assert len(gallery.load_index(exact=keep or width is None)) == sum(2 + seed % 4 for seed in expected.values())
    if width is not None:
        direct = made(tmp_path / "c.claid", [*range(5), *range(10, 15)], space=width)  # type: ignore[arg-type]
        assert codes_by_hash(a) == codes_by_hash(direct)
    assert summary.recoded == (ours is not None and theirs != ours)


def test_another_code_space_without_descriptors_is_refused(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(5)), made(tmp_path / "b.claid", range(4, 9), space=5)
    c = made(tmp_path / "c.claid", range(20, 22))
    content = a.read_bytes()
    with pytest.raises(GalleryError, match=r"another code space .* and 4 of its images") as refused:
        merged(a, c, b)
    assert "Nothing was merged" in str(refused.value)
    assert a.read_bytes() == content


def test_another_pipeline_is_refused_by_what_differs(tmp_path: Path) -> None:
    a = made(tmp_path / "a.claid", range(5))
    with opened(tmp_path / "b.claid", "create") as gallery:
        gallery.bind("bb", {"x": 2}, DIM)
    with pytest.raises(GalleryError, match="x: gallery 1, there 2"):
        merged(a, tmp_path / "b.claid")


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(5)), made(tmp_path / "b.claid", range(5, 9))
    with sqlite3.connect(b) as connection:
        connection.execute("UPDATE codes SET content = zeroblob(length(content)) WHERE image = 2")
    connection.close()
    with pytest.raises(GalleryError, match="damaged"):
        merged(a, b)
    assert len(codes_by_hash(a)) == 5


def test_into_itself(tmp_path: Path) -> None:
    a = made(tmp_path / "a.claid", range(5))
    (tmp_path / "link.claid").hardlink_to(a)
    with pytest.raises(UsageError, match="itself"):
        merged(a, tmp_path / "link.claid")


def test_into_a_new_gallery(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(5), keep=True), made(tmp_path / "b.claid", range(5, 9), keep=True)
    merged(tmp_path / "all.claid", a, b)
    assert codes_by_hash(tmp_path / "all.claid") == codes_by_hash(a) | codes_by_hash(b)
    with opened(tmp_path / "all.claid") as gallery:
        info = gallery.info()
        assert (info.pipeline_id, info.keep_descriptors, info.described_images) == ("aa", True, 9)
        gallery.require_pipeline("aa", {"x": 1})


def test_folders_of_one_name_on_two_devices_are_kept_apart(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(5)), made(tmp_path / "b.claid", range(0))
    with opened(b, "rw") as gallery:
        # Another camera counts its pictures from 0 too.
        gallery.add([new_image(100 + seed, path=f"{seed}.png") for seed in range(5)])
    for _ in range(2):
        merged(a, b)
        with opened(a) as gallery:
            places = sorted((row.root, row.path, row.content_hash[-1]) for row in gallery.images())
        assert places == [("photos", f"{i}.png", i) for i in range(5)] + [
            ("photos (b)", f"{i}.png", 100 + i) for i in range(5)
        ]


def test_the_newer_picture_of_one_place_wins(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(5)), made(tmp_path / "b.claid", range(3))
    with opened(b, "rw") as gallery:
        gallery.add([new_image(50, path="3.png", mtime_ns=90), new_image(51, path="4.png", mtime_ns=10)])
    _, (summary,) = merged(a, b)
    assert summary.counts == {"added": 0, "replaced": 1, "known": 3, "older": 1}
    with opened(a) as gallery:
        held = {row.path: row.content_hash[-1] for row in gallery.images()}
    assert held == {"0.png": 0, "1.png": 1, "2.png": 2, "3.png": 50, "4.png": 4}


def test_one_stick_at_two_places_is_one_root(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(5)), made(tmp_path / "b.claid", range(10, 15), root="/mnt/stick")
    for path in (a, b):
        with opened(path, "rw") as gallery, gallery.writing() as connection:
            connection.execute("UPDATE roots SET volume = 'UUID:.'")
    merged(a, b)
    with opened(a) as gallery:
        assert len(all_roots(gallery)) == 1
        assert len(gallery) == 10


def test_labels_that_are_missing_are_taken_over(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(2)), made(tmp_path / "b.claid", range(2))
    for path, labels in ((a, (None, "cup")), (b, ("fork", "mug"))):
        with opened(path, "rw") as gallery, gallery.batch() as batch:
            for row, label in zip(list(gallery.images()), labels, strict=True):
                batch.label(row.id, label)
    outcomes, _ = merged(a, b)
    assert [outcome.reason for outcome in outcomes] == ["label fork taken over", "label stays cup, there it is mug"]
    with opened(a) as gallery:
        assert [row.label for row in gallery.images()] == ["fork", "cup"]


def test_what_was_displaced_here_is_found_again(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(3)), made(tmp_path / "b.claid", range(2), root="/b/x")
    with opened(a, "rw") as gallery, gallery.batch() as batch:
        batch.displace(1, "0.png")
    _, (summary,) = merged(a, b)
    assert summary.counts["added"] == 1
    with opened(a) as gallery:
        assert len(gallery) == 3
        assert list(gallery.images(displaced=True)) == []


def test_key_frames_stay_those_of_their_videos(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(3)), made(tmp_path / "b.claid", range(10, 12), root="/b/films")
    with opened(b, "rw") as gallery:
        gallery.add([new_image(50 + i, path=f"film.mp4#t={i}.000") for i in range(3)])
        with gallery.writing() as connection:
            note_spacing(connection, 1, 0.5)
    merged(a, b)
    with opened(a) as gallery:
        films = next(root for root in all_roots(gallery) if root.name == "films")
        assert spacing(gallery, films.id) == 0.5
        assert spacing(gallery, 1) is None
        # To be described anew, a video is read once for all its frames.
        files = {root.name: sorted(paths) for root, paths in enrolled_files(gallery)}
    assert files == {"photos": ["0.png", "1.png", "2.png"], "films": ["10.png", "11.png", "film.mp4"]}


def test_an_interrupted_merge_is_run_again(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a.claid", range(5)), made(tmp_path / "b.claid", range(10, 40), root="/b/x")
    c = made(tmp_path / "c.claid", range(50, 60), root="/c/x")
    process = multiprocessing.get_context("fork").Process(target=_killed_on_the_way, args=(a, c, b))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    with opened(a) as gallery:
        assert len(gallery) == 15
        assert list(verify(gallery)) == []
    _, summaries = merged(a, c, b)
    assert [summary.counts["added"] for summary in summaries] == [0, 30]


def _killed_on_the_way(into: Path, *sources: Path) -> None:
    """Ends without a word while it writes the twentieth image of the second source."""
    import edge_claid.gallery.upkeep.merge as module

    copy, done = module._Merge._copy, []

    def copy_until(self: object, *args: object) -> None:
        done.append(1)
        if len(done) == 30:
            os._exit(9)
        copy(self, *args)  # type: ignore[arg-type]

    module._Merge._copy = copy_until  # type: ignore[method-assign,assignment]
    merged(into, *sources)
