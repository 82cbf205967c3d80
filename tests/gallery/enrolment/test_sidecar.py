"""JSON sidecars: what they say, which label wins, and hostile ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made_up import MadeUpPipeline, MadeUpSpace, write_picture

from edge_claid.errors import UsageError
from edge_claid.frames import open_source
from edge_claid.gallery.enrolment.enroll import EnrollOptions, enroll
from edge_claid.gallery.enrolment.outcome import Outcome
from edge_claid.gallery.enrolment.sidecar import Sidecar, read_sidecar
from edge_claid.gallery.labels import Labels
from edge_claid.gallery.storage.rows import ImageRow
from edge_claid.gallery.store import Gallery


def test_all_it_may_say(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\ufeff{"label": " cup ", "taken": "2024-05-01T12:00:00+02:00", "latitude": 60, "longitude": -5.5}')
    assert read_sidecar(str(path)) == Sidecar("cup", "2024-05-01T12:00:00", 60.0, -5.5)
    path.write_text('{"title": "of another program", "latitude": 1.0, "people": [{"name": "x"}]}')
    assert read_sidecar(str(path)) == Sidecar()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "holds a list"),
        (b"[" * 60_000, "no JSON"),
        (b'{"label": "' + b"x" * 70_000 + b'"}', "larger than"),
        (b'{"label": 7}', "label must be"),
        (b'{"label": "  "}', "label must be"),
        (b'{"label": "a\\nb"}', "label must be"),
        (b'{"label": "\\ud800"}', "label must be"),
        (b'{"taken": "yesterday"}', "taken must be"),
        (b'{"latitude": NaN, "longitude": 0}', "latitude must be"),
        (b'{"latitude": 1e999, "longitude": 0}', "latitude must be"),
        (b'{"latitude": 0, "longitude": true}', "longitude must be"),
        (b'{"latitude": ' + b"9" * 4000 + b', "longitude": 0}', "latitude must be"),
        (b'{"latitude": ' + b"9" * 5000 + b"}", "no JSON|latitude must be"),
    ],
)
def test_hostile_ones_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"sidecar a.json.*({reason})"):
        read_sidecar(str(path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UsageError, match="no regular file"):
        read_sidecar(str(tmp_path / "a.json"))


class Shop:
    def __init__(self, folder: Path):
        self.photos = folder / "photos"
        self.gallery = Gallery.open(folder / "g.claid", "create", read_space=MadeUpSpace.from_bytes)

    def enroll(self, **options: object) -> dict[str, Outcome]:
        told: list[Outcome] = []
        enroll(self.gallery, [open_source(self.photos)], MadeUpPipeline(), EnrollOptions(**options), told.append)
        return {os.path.basename(one.file): one for one in told}

    def row(self, path: str) -> ImageRow:
        return next(row for row in self.gallery.images() if row.path == path)


@pytest.fixture
def shop(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Shop(tmp_path)
    with made.gallery:
        yield made


def test_precedence(shop: Shop) -> None:
    for number, name in enumerate(("cups/a.png", "cups/b.png", "cups/c.jpg", "d.png")):
        write_picture(shop.photos / name, number)
    (shop.photos / "cups/a.json").write_text('{"label": "short name"}')
    (shop.photos / "cups/b.png.json").write_text('{"label": "long name"}')
    (shop.photos / "cups/b.json").write_text('{"label": "not this"}')
    (shop.photos / "d.png.json").write_text(
        '{"label": "side", "taken": "2020-01-01T00:00:00", "latitude": 1, "longitude": 2}'
    )
    told = shop.enroll(labels=Labels(table={"cups/b.png": "table"}))
    assert told["a.json"].status == "skipped"
    assert told["a.json"].reason == "sidecar of a.png"
    labels = {row.path: row.label for row in shop.gallery.images()}
    assert labels == {"cups/a.png": "short name", "cups/b.png": "table", "cups/c.jpg": "cups", "d.png": "side"}
    row = shop.row("d.png")
    assert (row.taken, row.latitude, row.longitude) == ("2020-01-01T00:00:00", 1.0, 2.0)
    shop.enroll(labels=Labels(text="given"))
    assert {row.label for row in shop.gallery.images()} == {"given"}


def test_a_changed_sidecar_relabels_without_inference(shop: Shop) -> None:
    write_picture(shop.photos / "a.png", 1)
    (shop.photos / "a.json").write_text('{"label": "cup"}')
    shop.enroll()
    (shop.photos / "a.json").write_text('{"label": "bowl"}')
    assert shop.enroll()["a.png"].status == "unchanged"
    assert shop.row("a.png").label == "bowl"


def test_a_broken_sidecar_is_told_and_its_picture_enrolled(shop: Shop) -> None:
    write_picture(shop.photos / "cups/a.png", 1)
    (shop.photos / "cups/a.json").write_text("{")
    told = shop.enroll()["a.png"]
    assert (told.status, shop.row("cups/a.png").label) == ("added", "cups")
    assert "sidecar a.json is no JSON" in told.reason
