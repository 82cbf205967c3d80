"""The budget that is told before the work, what it refuses, and the stop on a disk that runs full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import DIM, MadeUpPipeline, MadeUpSpace, write_picture

from edge_claid.errors import StorageError
from edge_claid.frames import open_source
from edge_claid.gallery.enrolment import budget
from edge_claid.gallery.enrolment import enroll as enroll_module
from edge_claid.gallery.enrolment.budget import Estimate, available_memory
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Outcome
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.verify import verify


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(40):
        write_picture(tmp_path / "photos" / f"{number:02}.png", number)
    (tmp_path / "photos" / "notes.txt").write_text("text")
    return tmp_path / "photos"


@pytest.fixture
def gallery(tmp_path: Path):  # type: ignore[no-untyped-def]
    with Gallery.open(tmp_path / "g.claid", "create", read_space=MadeUpSpace.from_bytes) as opened:
        yield opened


def run(gallery: Gallery, photos: Path, told: list[Outcome], **options: object) -> list[Estimate]:
    planned: list[Estimate] = []
    options = {"planned": planned.append, **options}
    enroll(gallery, [open_source(photos)], MadeUpPipeline(), EnrollOptions(**options), told.append)
    return planned


def test_told_before_the_first_picture(gallery: Gallery, photos: Path) -> None:
    told: list[Outcome] = []
    seen_then: list[int] = []
    (planned,) = run(gallery, photos, told, planned=lambda estimate: seen_then.append(len(told))) or [None]
    assert (planned, seen_then) == (None, [0])
    (again,) = run(gallery, photos, told)
    assert (again.files, again.new, again.growth) == (41, 0, 0)


def test_a_rehearsal_tells_it_too(photos: Path) -> None:
    planned: list[Estimate] = []
    enroll(None, [open_source(photos)], None, EnrollOptions(dry_run=True, planned=planned.append))
    assert (planned[0].new, planned[0].free) == (40, None)
    assert planned[0].peak > planned[0].growth > 40 * planned[0].image_bytes


def test_a_rehearsal_is_refused_like_the_enrolment(photos: Path, tmp_path: Path) -> None:
    told: list[Outcome] = []
    options = EnrollOptions(dry_run=True, path=str(tmp_path / "g.claid"), reserve=2**60)
    with pytest.raises(StorageError, match="kept free"):
        enroll(None, [open_source(photos)], None, options, told.append)
    assert told == []


def test_a_rehearsal_knows_the_descriptors_of_the_gallery(gallery: Gallery, photos: Path) -> None:
    run(gallery, photos, [])
    for number in range(100, 140):
        write_picture(photos / f"{number}.png", number)
    planned: list[Estimate] = []
    rehearsed = EnrollOptions(dry_run=True, planned=planned.append)
    enroll(gallery, [open_source(photos)], None, rehearsed)
    assert planned == [replace(run(gallery, photos, [])[0], free=planned[0].free)]


def test_an_estimate_from_the_gallery_itself_is_close(gallery: Gallery, photos: Path) -> None:
    run(gallery, photos, [])
    for number in range(100, 400):
        write_picture(photos / f"{number}.png", number)
    before = gallery.info().bytes
    (planned,) = run(gallery, photos, [], keep_descriptors=True)
    assert planned.new == 300
    assert planned.regions_per_image == 4
    assert planned.region_bytes > 2 * DIM
    grown = gallery.info().bytes - before
    # Too few regions for a code space: none is reckoned with, and no descriptor is held twice.
    assert planned.peak == planned.growth
    expected = planned.growth
    assert 0.5 * expected < grown < 1.5 * expected
    assert any("bytes a region" in line for line in planned.lines())


def test_refused_before_anything_is_written(gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Outcome] = []
    monkeypatch.setattr(budget, "free_bytes", lambda path: 1_000_000)
    with pytest.raises(StorageError, match=r"only 1\.0 MB") as refused:
        run(gallery, photos, told)
    assert refused.value.exit_code == 9
    monkeypatch.setattr(budget, "free_bytes", lambda path: 10**12)
    monkeypatch.setattr(budget, "largest_file", lambda path: 1_000_000)
    with pytest.raises(StorageError, match="put it on ext4 or exFAT"):
        run(gallery, photos, told)
    monkeypatch.setattr(budget, "largest_file", lambda path: None)
    monkeypatch.setattr(budget, "available_memory", lambda: 1_000_000)
    with pytest.raises(StorageError, match="of memory are free"):
        run(gallery, photos, told)
    assert (told, len(gallery)) == ([], 0)


def test_a_disk_that_runs_full_stops_it_with_a_sound_gallery(
    gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Outcome] = []
    monkeypatch.setattr(enroll_module, "_BATCH_FILES", 8)
    free = iter([10**12, 10**9, 10**9, 1000, 1000, 1000])
    monkeypatch.setattr(budget, "free_bytes", lambda path: next(free))
    with pytest.raises(StorageError, match=r"stopped after 1\d files, all of them stored.*goes on") as stopped:
        run(gallery, photos, told)
    assert stopped.value.exit_code == 9
    assert len(gallery) == sum(one.status == "added" for one in told) > 0
    assert list(verify(gallery)) == []
    monkeypatch.undo()
    run(gallery, photos, told)
    assert len(gallery) == 40


def test_memory_is_known_here() -> None:
    memory = available_memory()
    assert memory is None or memory > 1_000_000
