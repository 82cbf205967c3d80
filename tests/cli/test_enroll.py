"""The enrol and gallery verbs as a user meets them, with a made-up pipeline in place of the networks."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

GALLERY_TESTS = Path(__file__).parent.parent / "gallery"
sys.path.insert(0, str(GALLERY_TESTS))

from made_up import MadeUpPipeline, MadeUpSpace, write_picture  # noqa: E402

import edge_claid.cli.enroll as enroll_verb  # noqa: E402
import edge_claid.cli.gallery as gallery_verbs  # noqa: E402
import edge_claid.cli.gallery.recoding as gallery_recoding  # noqa: E402
from edge_claid.errors import GalleryError, StorageError, UsageError  # noqa: E402
from edge_claid.frames.reading import read_picture  # noqa: E402
from edge_claid.gallery import store  # noqa: E402
from edge_claid.gallery.enrolment import budget  # noqa: E402
from edge_claid.gallery.lookup import calibration  # noqa: E402

app = typer.Typer()
app.command("enroll")(enroll_verb.enroll)
app.add_typer(gallery_verbs.app, name="gallery")


class Shop:
    """A folder of pictures, a gallery, and the command line."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.photos = folder / "photos"
        self.gallery = folder / "shop.claid"
        self.pipeline = MadeUpPipeline()

    def picture(self, name: str, seed: int) -> Path:
        path = write_picture(self.photos / name, seed)
        os.utime(path, (time.time() - 60,) * 2)
        return path

    def run(self, *arguments: object) -> Result:
        """Raises what the verb raised, as the program's main function would see it."""
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def enroll(self, *arguments: object) -> Result:
        return self.run("enroll", self.photos, "--gallery", self.gallery, *arguments)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path)

    @contextmanager
    def open_pipeline() -> Iterator[MadeUpPipeline]:
        yield shop.pipeline

    for module in (enroll_verb, gallery_recoding):
        monkeypatch.setattr(module, "open_pipeline", open_pipeline)
        monkeypatch.setattr(module, "with_training", lambda options, code_bytes: options)
    monkeypatch.setattr(store, "_space_from_bytes", MadeUpSpace.from_bytes)
    return shop


def lines(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json_lines_and_summary(shop: Shop) -> None:
    shop.picture("cups/a.png", 1)
    shop.picture("new\nline Ü.png", 2)
    (shop.photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (shop.photos / "zero.png").touch()
    (shop.photos / "notes.txt").write_text("text")
    result = shop.enroll("--json")
    assert result.exit_code == 0
    *files, last = lines(result)
    by_name = {os.path.relpath(f["file"], shop.photos): f for f in files}
    assert {name: f["status"] for name, f in by_name.items()} == {
        "cups/a.png": "added",
        "new\nline Ü.png": "added",
        "broken.jpg": "rejected",
        "zero.png": "rejected",
        "notes.txt": "skipped",
    }
    assert all(set(f) == {"file", "status", "regions", "reason"} for f in files)
    assert by_name["cups/a.png"]["regions"] == 4
    assert by_name["zero.png"]["reason"] == "empty file"
    summary = last["summary"]
    assert summary.keys() == {
        *("added", "replaced", "moved", "unchanged", "rejected", "skipped", "removed"),
        *("seconds", "images_per_second"),
    }
    assert (summary["added"], summary["rejected"], summary["skipped"]) == (2, 2, 1)


def test_text_names_rejects_and_sums_up(shop: Shop) -> None:
    shop.picture("a.png", 1)
    (shop.photos / "bad\n.png").touch()
    out = shop.enroll().stdout
    assert out.splitlines()[0] == f"rejected {shop.photos}/bad\\n.png: empty file"
    assert out.splitlines()[1].startswith("1 added, 1 rejected in")


def test_strict(shop: Shop) -> None:
    shop.picture("a.png", 1)
    (shop.photos / "bad.png").touch()
    assert shop.enroll("--strict").exit_code == 1
    (shop.photos / "bad.png").unlink()
    assert shop.enroll("--strict").exit_code == 0


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_report_file(shop: Shop, suffix: str) -> None:
    shop.picture("a,b.png", 1)
    (shop.photos / "bad.png").touch()
    report = shop.folder / f"out.{suffix}"
    shop.enroll("--report", report)
    if suffix == "csv":
        rows = list(csv.DictReader(report.read_text().splitlines()))
    else:
        *rows, last = [json.loads(line) for line in report.read_text().splitlines()]
        assert last["summary"]["added"] == 1
    assert {os.path.basename(r["file"]): (r["status"], r["reason"] or None) for r in rows} == {
        "a,b.png": ("added", None),
        "bad.png": ("rejected", "empty file"),
    }
    with pytest.raises(StorageError, match="report"):
        shop.enroll("--report", shop.folder / "none" / "out.csv")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_report_of_a_run_that_is_killed(tmp_path: Path, suffix: str) -> None:
    """Every file that was told is in it, though nothing closed the file."""
    path = tmp_path / f"out.{suffix}"
    program = (
        "import os\nfrom pathlib import Path\nfrom edge_claid.cli.report import ReportFile\n"
        "from edge_claid.gallery.enrolment.outcome import Outcome\n"
        f"with ReportFile(Path({str(path)!r})) as report:\n"
        "    report.add(Outcome('a.png', 'added', 3))\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert "a.png" in path.read_text().splitlines()[-1]


def test_dry_run_tells_what_would_be(shop: Shop) -> None:
    shop.picture("a.png", 1)
    result = shop.enroll("--dry-run")
    assert result.stdout == "would be: 1 added; nothing was written\n"
    assert "kB on the way; " in result.stderr
    assert result.stderr.splitlines()[1].endswith(" are free")


def test_dry_run_makes_no_gallery(shop: Shop) -> None:
    shop.picture("a.png", 1)
    assert lines(shop.enroll("--dry-run", "--json"))[0]["status"] == "added"
    assert not shop.gallery.exists()
    assert shop.pipeline.frames_seen == []


def test_wrong_use(shop: Shop) -> None:
    shop.picture("a.png", 1)
    table = shop.folder / "l.csv"
    table.write_text("a.png,cup\n")
    with pytest.raises(UsageError, match="exclude"):
        shop.enroll("--label", "x", "--labels", table)
    with pytest.raises(UsageError, match="no such file"):
        shop.run("enroll", shop.folder / "none", "--gallery", shop.gallery)
    (shop.folder / "v.mp4").write_bytes(b"x")
    with pytest.raises(UsageError, match="key frames"):
        shop.run("enroll", shop.folder / "v.mp4", "--gallery", shop.gallery, "--video-every", "0")
    watched = (("--watch", "--prune"), ("--watch", "--dry-run"))
    for wrong in (("--video-every", "often"), ("--video-every", "1ms"), *watched):
        with pytest.raises(UsageError, match="--"):
            shop.enroll(*wrong)
    for command in ("no-such-program-here -x", "'open", ""):
        with pytest.raises(UsageError, match="--on-done"):
            shop.enroll("--on-done", command)
    assert not shop.gallery.exists()
    assert "rejected" in shop.run("enroll", shop.folder / "v.mp4", "--gallery", shop.gallery).stdout


def test_a_gallery_that_is_none_stays_as_it_is(shop: Shop) -> None:
    picture = shop.picture("a.png", 1)
    content = picture.read_bytes()
    with pytest.raises(GalleryError):
        shop.run("enroll", shop.photos, "--gallery", picture)
    assert picture.read_bytes() == content


def test_labels_list_remove(shop: Shop) -> None:
    for number, name in enumerate(["cups/1.png", "cups/2.png", "3.png"]):
        shop.picture(name, number)
    shop.enroll()
    listed = lines(shop.run("gallery", "list", shop.gallery, "--json"))
    assert [(r["image"], r["label"]) for r in listed] == [
        ("3.png", None),
        ("cups/1.png", "cups"),
        ("cups/2.png", "cups"),
    ]
    assert listed[0]["root"] == "photos"
    shop.run("gallery", "label", shop.gallery, "3.png", "--set", "bowl")
    table = shop.folder / "l.csv"
    table.write_text("path;label\ncups/1.png;mug\n")
    assert shop.run("gallery", "label", shop.gallery, "--labels", table).stdout == "1 label changed\n"
    assert len(shop.run("gallery", "list", shop.gallery, "--label", "bowl").stdout.splitlines()) == 1
    assert "1 image removed" in shop.run("gallery", "remove", shop.gallery, "--label", "mug").stdout
    assert "1 image removed" in shop.run("gallery", "remove", shop.gallery, "photos/cups/*").stdout
    with pytest.raises(UsageError):
        shop.run("gallery", "remove", shop.gallery)
    info = lines(shop.run("gallery", "info", shop.gallery, "--json"))[0]
    assert (info["images"], info["regions"], info["labels"], info["roots"]) == (1, 4, 1, ["photos"])
    assert "made-up" in shop.run("gallery", "info", shop.gallery).stdout


def test_verify_and_compact(shop: Shop) -> None:
    shop.picture("a.png", 1)
    shop.enroll()
    assert "all sound" in shop.run("gallery", "verify", shop.gallery).stdout
    shop.run("gallery", "compact", shop.gallery)
    with store.Gallery.open(shop.gallery, "rw") as gallery, gallery.writing() as connection:
        connection.execute("UPDATE regions SET checksum = 0")
    with pytest.raises(GalleryError, match="1 problem found") as found:
        shop.run("gallery", "verify", shop.gallery)
    assert found.value.exit_code == 8


class ViewingPipeline(MadeUpPipeline):
    """Views of a picture are what it describes, with a little noise."""

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        rng = np.random.default_rng(0)
        for path, boxes in pictures:
            (seen,) = self.describe_many([read_picture(path)])
            assert np.array_equal(seen.regions.boxes, boxes)
            noisy = seen.descriptors.values + rng.normal(0, 0.05, (1 + count, *seen.descriptors.values.shape))
            yield (noisy / np.linalg.norm(noisy, axis=-1, keepdims=True)).astype(np.float32)


def test_reencode_measures_anew_how_sure_answers_are(shop: Shop) -> None:
    for i in range(24):
        shop.picture(f"{i}.png", i)
    shop.pipeline = ViewingPipeline()
    shop.enroll()
    with store.Gallery.open(shop.gallery) as gallery:
        before = calibration.stored(gallery, "search", "descriptors")
    assert before is not None
    shop.pipeline = ViewingPipeline("bb", {"network": "another"})
    shop.run("gallery", "reencode", shop.gallery)
    with store.Gallery.open(shop.gallery) as gallery:
        assert calibration.stored(gallery, "search", "descriptors") is not None
    assert len(shop.pipeline.frames_seen) > 24  # views of the other pipeline, not the curve of the first
    shop.pipeline = MadeUpPipeline("cc", {"network": "a third"})  # gives no views
    shop.run("gallery", "reencode", shop.gallery)
    with store.Gallery.open(shop.gallery) as gallery:
        assert calibration.stored(gallery, "search", "descriptors") is None


def test_reencode(shop: Shop) -> None:
    for i in range(3):
        shop.picture(f"{i}.png", i)
    shop.enroll("--label", "kept")
    shop.pipeline = MadeUpPipeline("bb", {"network": "another"})
    with pytest.raises(GalleryError, match="another pipeline"):
        shop.enroll()
    gone = shop.photos / "2.png"
    gone.rename(shop.folder / "2.png")
    with pytest.raises(GalleryError, match="Nothing was changed"):
        shop.run("gallery", "reencode", shop.gallery)
    assert lines(shop.run("gallery", "info", shop.gallery, "--json"))[0]["pipeline_id"] == "aa11"
    (shop.folder / "2.png").rename(gone)
    shop.pipeline.frames_seen.clear()
    assert shop.run("gallery", "reencode", shop.gallery).exit_code == 0
    # The two that were described before the refusal are not described again.
    assert len(shop.pipeline.frames_seen) == 1
    info = lines(shop.run("gallery", "info", shop.gallery, "--json"))[0]
    assert (info["pipeline_id"], info["images"]) == ("bb", 3)
    assert {r["label"] for r in lines(shop.run("gallery", "list", shop.gallery, "--json"))} == {"kept"}
    assert "all sound" in shop.run("gallery", "verify", shop.gallery).stdout
    assert {"shop.claid", "photos"} == {p.name for p in shop.folder.iterdir()}
    assert lines(shop.enroll("--json"))[-1]["summary"]["unchanged"] == 3


def test_a_move_that_its_disk_cannot_hold_leaves_nothing_behind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.picture("0.png", 0)
    shop.enroll()
    shop.pipeline = MadeUpPipeline("bb", {"network": "another"})
    monkeypatch.setattr(budget, "free_bytes", lambda path: budget.RESERVE_BYTES)
    with pytest.raises(StorageError, match="kept free"):
        shop.run("gallery", "reencode", shop.gallery)
    assert {"shop.claid", "photos"} == {p.name for p in shop.folder.iterdir()}


@pytest.mark.usefixtures("bound_by_permissions")
def test_a_half_done_move_outlives_a_run_that_cannot_go_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.picture("0.png", 0)
    gone = shop.picture("1.png", 1)
    shop.enroll()
    shop.pipeline = MadeUpPipeline("bb", {"network": "another"})
    gone.unlink()
    with pytest.raises(GalleryError, match="Nothing was changed"):
        shop.run("gallery", "reencode", shop.gallery)
    half_done = shop.folder / "shop.claid.reencoding"
    half_done.chmod(0o400)
    with pytest.raises(StorageError, match="may not be written"):
        shop.run("gallery", "reencode", shop.gallery)
    half_done.chmod(0o600)

    def unreadable(gallery: store.Gallery) -> int:
        raise StorageError("I/O error")

    monkeypatch.setattr(budget, "free_bytes", lambda path: 0)
    monkeypatch.setattr(store.Gallery, "__len__", unreadable)
    with pytest.raises(StorageError):
        shop.run("gallery", "reencode", shop.gallery)
    assert half_done.exists()


def test_interrupted_goes_on(shop: Shop) -> None:
    for i in range(12):
        shop.picture(f"{i:02}.png", i)
    program = f"""
import signal, sys, time
# A suite that was started in the background inherits an ignored SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {str(GALLERY_TESTS)!r})
from made_up import MadeUpPipeline
from edge_claid.frames import open_source
from edge_claid.gallery.enrolment import enroll
enroll._BATCH_FILES = 2
class Slow(MadeUpPipeline):
    def describe_many(self, frames):
        for result in super().describe_many(frames):
            time.sleep(0.05)
            yield result
with enroll.Gallery.open({str(shop.gallery)!r}, "create") as gallery:
    try:
        enroll.enroll(gallery, [open_source({str(shop.photos)!r})], Slow(), None, lambda o: print(o.file, flush=True))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        told = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        told += process.stdout.readlines()
    assert told[-1] == "interrupted\n"
    assert 2 <= len(told) - 1 < 12
    *files, summary = lines(shop.enroll("--json"))
    statuses = {f["file"]: f["status"] for f in files}
    assert all(statuses[file.strip()] == "unchanged" for file in told[:-1])
    assert summary["summary"]["added"] == 12 - (len(told) - 1)
