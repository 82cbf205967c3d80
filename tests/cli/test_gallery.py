"""The gallery verbs as a user meets them: what they print, change and refuse, and their exit codes."""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent.parent / "gallery"))

from made_up import DIM, MadeUpSpace, described, write_picture

import edge_claid.cli.gallery as gallery_verbs
import edge_claid.cli.gallery.alike as alike
import edge_claid.cli.gallery.recoding as recoding
from edge_claid.config import SearchSettings
from edge_claid.errors import EdgeClaidError, GalleryError, UsageError
from edge_claid.gallery import store
from edge_claid.gallery.enrolment.enroll import EnrollOptions
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.records import Described, Descriptors


class Desk:
    """A folder with galleries, and the verbs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.gallery = folder / "shop.claid"

    def made(self, name: str, seeds: range, root: str = "/m/photos", space: MadeUpSpace | None = None) -> Path:
        path = self.folder / name
        with Gallery.open(path, "create") as gallery:
            gallery.bind("aa11", {"x": 1}, DIM, keep_descriptors=True)
            root_id = register_root(gallery, root, Path(root).name).id
            gallery.add([self.image(seed, root_id) for seed in seeds])
            if space is not None:
                gallery.adopt_space(space)
        return path

    def image(self, seed: int, root_id: int = 1) -> NewImage:
        folder = "cups" if seed % 2 else "forks"
        place = root_id, f"{folder}/{seed}.png", struct.pack(">Q", seed), 10, 20
        return NewImage(*place, described(seed), label=folder[:-1])

    def run(self, *arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(gallery_verbs.app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit | EdgeClaidError):
            raise result.exception
        found = getattr(result.exception, "exit_code", result.exit_code)
        assert found == code, (result.output, result.exception)
        return result

    def lines(self, *arguments: object, code: int = 0) -> list[dict]:
        return [json.loads(line) for line in self.run(*arguments, "--json", code=code).stdout.splitlines()]

    def paths(self) -> list[str]:
        with Gallery.open(self.gallery) as gallery:
            return [f"{row.root}/{row.path}" for row in gallery.images()]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    @contextmanager
    def open_pipeline() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(
            id="aa11",
            describe_settings={"x": 1},
            settings=SimpleNamespace(search=SearchSettings()),
            describe=lambda image, boxes: Descriptors(described(int(Path(image).stem)).descriptors.values[:1]),
        )

    for module in (alike, recoding):
        monkeypatch.setattr(module, "open_pipeline", open_pipeline)
    monkeypatch.setattr(store, "_space_from_bytes", MadeUpSpace.from_bytes)
    desk = Desk(tmp_path)
    desk.made("shop.claid", range(8))
    with Gallery.open(desk.gallery, "rw") as gallery:
        second = register_root(gallery, "/n/more", "more").id
        gallery.add([desk.image(seed, second) for seed in range(8, 12)])
    return desk


def test_info_and_list(desk: Desk) -> None:
    (info,) = desk.lines("info", desk.gallery)
    assert (info["images"], info["roots"], info["labels"], info["drift"]) == (12, ["photos", "more"], 2, None)
    plain = desk.run("info", desk.gallery).stdout
    assert "images  12" in plain
    assert "regions  48" in plain
    assert "code space  none" in plain
    assert "keep descriptors  yes" in plain
    assert len(desk.lines("list", desk.gallery, "--root", "more", "--label", "cup")) == 2
    assert [line["image"] for line in desk.lines("list", desk.gallery, "photos/cups/1.png", "forks/8.png")] == [
        "cups/1.png",
        "forks/8.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["cups/1.png", "photos/forks/2.png", "more/forks/2.png"], ["photos/cups/1.png", "photos/forks/2.png"]),
        (["*/1*.png"], ["photos/cups/1.png", "more/forks/10.png", "more/cups/11.png"]),
        (["--label", "cup", "--root", "more"], ["more/cups/9.png", "more/cups/11.png"]),
        (["--root", "/n/more"], ["more/forks/8.png", "more/cups/9.png", "more/forks/10.png", "more/cups/11.png"]),
        (["none.png"], []),
    ],
)
def test_remove(desk: Desk, arguments: list[str], gone: list[str]) -> None:
    before = desk.paths()
    *told, last = desk.lines("remove", desk.gallery, *arguments, "--dry-run")
    assert sorted(f"{line['root']}/{line['image']}" for line in told) == sorted(gone)
    assert last == {"would_be_removed": len(gone)}
    assert desk.paths() == before
    assert desk.lines("remove", desk.gallery, *arguments)[-1] == {"removed": len(gone)}
    assert sorted(desk.paths()) == sorted(set(before) - set(gone))


def test_a_name_that_no_image_has_is_told(desk: Desk) -> None:
    for verb, *arguments in (("remove",), ("label", "--set", "x")):
        told = desk.run(verb, desk.gallery, "cups/1.png", "cups/l.png", "*/none*", *arguments).stderr
        assert "no image matches cups/l.png; `edge-claid gallery list" in told
        assert "*/none*" in told


def test_remove_takes_what_a_whole_root_had_lost(desk: Desk) -> None:
    with Gallery.open(desk.gallery, "rw") as gallery, gallery.batch() as batch:
        batch.displace(2, "forks/8.png")
    desk.run("remove", desk.gallery, "--root", "more")
    with Gallery.open(desk.gallery) as gallery:
        assert list(gallery.images(displaced=True)) == []


def test_remove_by_likeness_shows_first(desk: Desk) -> None:
    picture = write_picture(desk.folder / "5.png", 5)
    before = desk.paths()
    *shown, last = desk.lines("remove", desk.gallery, "--like", picture, "--above", "0.5")
    assert [line["image"] for line in shown] == ["cups/5.png"]
    assert shown[0]["score"] > 0.5
    assert last == {"would_be_removed": 1}
    assert "--yes" in desk.run("remove", desk.gallery, "--like", picture, "--above", "0.5").stderr
    assert desk.paths() == before
    assert desk.lines("remove", desk.gallery, "--like", picture, "--above", "-1", "--label", "fork")[-1] == {
        "would_be_removed": 6
    }
    desk.run("remove", desk.gallery, "--like", picture, "--above", "0.5", "--yes")
    assert desk.paths() == [path for path in before if path != "photos/cups/5.png"]


def test_remove_refuses_what_is_not_said(desk: Desk) -> None:
    picture = write_picture(desk.folder / "5.png", 5)
    for wrong in (
        [],
        ["--like", picture],
        ["--above", "0.5"],
        ["*", "--yes"],
        ["--root", "none"],
        ["--like", picture, "--above", "nan"],
    ):
        desk.run("remove", desk.gallery, *wrong, code=UsageError.exit_code)
    assert len(desk.paths()) == 12


def test_two_roots_of_one_name_are_not_confused(desk: Desk) -> None:
    with Gallery.open(desk.gallery, "rw") as gallery:
        with gallery.writing() as connection:
            connection.execute("INSERT INTO roots VALUES (7, ?, ?, '')", (b"photos", b"/z/photos"))
        content = described(5)
        gallery.add([NewImage(7, "cups/5.png", b"twin", 1, 2, Described(content.regions, content.descriptors))])
    picture = write_picture(desk.folder / "5.png", 5)
    arguments = ["remove", desk.gallery, "--like", picture, "--above", "0.5", "--yes"]
    result = desk.run(*arguments, code=UsageError.exit_code)
    assert "two roots" in str(result.exception)
    desk.run("remove", desk.gallery, "cups/5.png", "--root", "/z/photos")
    assert "photos/cups/5.png" in desk.paths()


def test_label(desk: Desk) -> None:
    told = desk.lines("label", desk.gallery, "photos/cups/*", "--set", "mug")
    assert told[-1] == {"labelled": 4}
    assert told[0] == {"image": "cups/1.png", "root": "photos", "label": "mug", "was": "cup"}
    assert desk.lines("label", desk.gallery, "--label", "cup", "--set", "")[-1] == {"labelled": 2}
    table = desk.folder / "labels.csv"
    table.write_text("path,label\nforks/8.png,eight\n/m/photos/forks/0.png,zero\nnone.png,none\n")
    assert desk.lines("label", desk.gallery, "--labels", table)[-1] == {"labelled": 2}
    labels = {line["image"]: line["label"] for line in desk.lines("list", desk.gallery)}
    assert labels["forks/8.png"] == "eight"
    assert labels["forks/0.png"] == "zero"
    assert labels["cups/1.png"] == "mug"
    assert labels["cups/9.png"] is None
    desk.run("label", desk.gallery, "--set", "all", code=UsageError.exit_code)


def test_verify_and_repair(desk: Desk) -> None:
    assert desk.lines("verify", desk.gallery) == [{"images": 12, "problems": 0}]
    assert desk.lines("verify", desk.gallery, "--repair") == [{"images": 12, "problems": 0}]
    with sqlite3.connect(desk.gallery) as connection:
        connection.execute("UPDATE descriptors SET checksum = 5 WHERE image = 2")
    connection.close()
    (problem,) = desk.lines("verify", desk.gallery, code=GalleryError.exit_code)
    assert (problem["image"], problem["root"], problem["part"]) == ("cups/1.png", "photos", "descriptors")
    told = desk.lines("verify", desk.gallery, "--repair")
    assert [line.get("status") for line in told] == [None, "lost", None]
    assert told[1]["image"] == "cups/1.png"
    assert told[-1]["repaired"]["images"] == 11
    assert Path(told[-1]["repaired"]["damaged"]).exists()
    assert desk.lines("verify", desk.gallery) == [{"images": 11, "problems": 0}]


def test_a_damaged_code_space_and_its_copy(desk: Desk) -> None:
    path = desk.made("coded.claid", range(12), space=MadeUpSpace())
    for tables, code in (("code_spaces",), 0), (("code_spaces", "space_copies"), GalleryError.exit_code):
        with sqlite3.connect(path) as connection:
            for table in tables:
                connection.execute(f"UPDATE {table} SET checksum = 5")
        connection.close()
        desk.run("label", path, "*", "--set", "mug", code=code)
        told = desk.lines("verify", path, code=GalleryError.exit_code)
        assert {line["part"] for line in told} == {"space"}
        assert len(told) == len(tables)
        *_, last = desk.lines("verify", path, "--repair")
        assert (last["repaired"]["lost_space"], last["repaired"]["restored_space"]) == (bool(code), not code)
        assert desk.lines("verify", path) == [{"images": 12, "problems": 0}]


def test_repair_of_a_file_that_cannot_be_opened(desk: Desk) -> None:
    content = bytearray(desk.gallery.read_bytes())
    content[:1000] = bytes(1000)
    desk.gallery.write_bytes(content)
    desk.run("verify", desk.gallery, code=GalleryError.exit_code)
    assert "12 images sound, 0 lost" in desk.run("verify", desk.gallery, "--repair").stdout
    assert len(desk.paths()) == 12
    desk.run("verify", desk.folder / "none.claid", "--repair", code=UsageError.exit_code)


def test_merge(desk: Desk) -> None:
    other = desk.made("b.claid", range(6, 15), "/b/else", MadeUpSpace())
    *told, last = desk.lines("merge", desk.gallery, other)
    assert last["summary"] == {
        "from": str(other), "added": 3, "replaced": 0, "known": 6, "older": 0, "recoded": False,
        "without_descriptors": 0,
    }  # fmt: skip
    assert sum(line["status"] == "added" for line in told) == 3
    for wrong in ([desk.gallery], [other, other]):
        desk.run("merge", desk.gallery, *wrong, code=UsageError.exit_code)
    desk.run("merge", desk.folder / "new.claid", desk.folder / "none.claid", code=UsageError.exit_code)
    assert not (desk.folder / "new.claid").exists()
    with Gallery.open(other, "rw") as gallery, gallery.writing() as connection:
        connection.execute("UPDATE codes SET checksum = 1")
    desk.run("merge", desk.folder / "new.claid", other, code=GalleryError.exit_code)
    assert not (desk.folder / "new.claid").exists()


def test_export_and_import(desk: Desk) -> None:
    lines, copy = desk.folder / "x.jsonl", desk.folder / "copy.claid"
    sheet, coco = desk.folder / "sheet", desk.folder / "coco.json"
    written = desk.lines("export", desk.gallery, "--jsonl", lines, "--to", copy)
    assert [line["format"] for line in written] == ["jsonl", "claid"]
    desk.run("export", desk.gallery, "--label", "cup", "--html", sheet, "--coco", coco)
    assert "its file cannot be read any more" in (sheet / "index.html").read_text(encoding="utf-8")
    assert len(json.loads(coco.read_text(encoding="utf-8"))["images"]) == 6
    head, *records = [json.loads(line) for line in desk.run("export", desk.gallery, "--jsonl", "-").stdout.splitlines()]
    assert head["gallery"]["images"] == len(records) == 12
    desk.run("label", desk.gallery, "*", "--set", "")
    assert desk.lines("import", desk.gallery, lines)[-1] == {"summary": {"changed": 12, "unchanged": 0, "rejected": 0}}
    assert desk.lines("import", desk.folder / "new.claid", copy) == [{"images": 12}]
    for wrong in (["--to", copy], ["--label", "cup", "--to", desk.folder / "y.claid"], [], ["--jsonl", lines]):
        desk.run("export", desk.gallery, *wrong, code=UsageError.exit_code)
    desk.run("export", desk.gallery, "--to", copy, "--overwrite")
    desk.run("import", desk.gallery, copy, code=UsageError.exit_code)
    desk.run("import", desk.gallery, desk.folder / "none", code=UsageError.exit_code)


def test_faiss_needs_codes(desk: Desk) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    result = desk.run("export", desk.gallery, "--faiss", desk.folder / "x.faiss", code=UsageError.exit_code)
    assert "no code space" in str(result.exception)


def test_retrain(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    options = EnrollOptions(train=lambda gallery, pipeline: MadeUpSpace(5))
    monkeypatch.setattr(recoding, "with_training", lambda _, code_bytes: options)
    assert desk.lines("retrain", desk.gallery, "--if-drifted") == [{"retrained": False, "drift": None}]
    assert desk.lines("retrain", desk.gallery)[0]["code_space"] == "space-5"
    (info,) = desk.lines("info", desk.gallery)
    assert (info["code_bytes"], info["described_images"]) == (5, 12)
    with Gallery.open(desk.gallery, "rw") as gallery, gallery.writing() as connection:
        connection.execute("DELETE FROM descriptors WHERE image = 1")
    result = desk.run("retrain", desk.gallery, code=GalleryError.exit_code)
    assert "reencode" in str(result.exception)


def test_compact(desk: Desk) -> None:
    desk.run("remove", desk.gallery, "photos/*")
    (told,) = desk.lines("compact", desk.gallery)
    assert told["saved_bytes"] >= 0
    assert len(desk.paths()) == 4
