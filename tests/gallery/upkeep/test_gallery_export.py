"""Exports hold what the gallery holds, whatever the names are; facts come back from JSON lines."""

from __future__ import annotations

import io
import json
import os
import struct
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up import DIM, MadeUpSpace, described, picture_bytes

from edge_claid.codes.faiss_io import faiss_from_space
from edge_claid.codes.space import train_space
from edge_claid.config import CodeSettings
from edge_claid.errors import StorageError, UsageError
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.storage.whole_file import whole_file
from edge_claid.gallery.store import Gallery
from edge_claid.gallery.upkeep.contact_sheet import write_contact_sheet
from edge_claid.gallery.upkeep.export import gallery_records, image_record, index_records, write_coco, write_lines
from edge_claid.gallery.upkeep.import_records import Imported, import_records

NAMES = ["plain.png", "<script>alert(1)</script>.png", 'a" onload="x.png', "new\nline.png", "caf\udce9.png", "日本.png"]


def new_image(seed: int, **fields: object) -> NewImage:
    facts = {"path": f"{seed}.png", "content_hash": struct.pack(">Q", seed), "size": 10, "mtime_ns": 20}
    return NewImage(root_id=1, **({"described": described(seed, 2 + seed % 4)} | facts | fields))


def opened(path: Path, mode: str = "r") -> Gallery:
    return Gallery.open(path, mode, read_space=MadeUpSpace.from_bytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "g.claid"
    with opened(path, "create") as gallery:
        gallery.bind("aa", {"x": 1}, DIM)
        register_root(gallery, str(tmp_path), "<b>photos")
        for seed, name in enumerate(NAMES):
            gallery.add([new_image(seed, path=name, label="<i>cup & saucer" if seed % 2 else None, latitude=seed / 7)])
        gallery.adopt_space(MadeUpSpace())
    return path


def test_json_lines(path: Path) -> None:
    with opened(path) as gallery:
        text = io.StringIO()
        write_lines(gallery_records(gallery, gallery.images()), text)
        head, *records = [json.loads(line) for line in text.getvalue().splitlines()]
        trees = {row.path: gallery.regions(row.id) for row in gallery.images()}
    text.getvalue().encode()
    assert head["gallery"]["images"] == len(NAMES)
    assert [record["image"] for record in records] == NAMES
    for record in records:
        tree = trees[record["image"]]
        np.testing.assert_allclose([region["box"] for region in record["regions"]], tree.boxes, atol=0.006)
        assert [region["parent"] for region in record["regions"]] == tree.parents.tolist()


def test_coco(path: Path) -> None:
    text = io.StringIO()
    with opened(path) as gallery:
        write_coco(gallery, gallery.images(), text)
    coco = json.loads(text.getvalue())
    assert [image["file_name"] for image in coco["images"]] == NAMES
    assert {category["name"] for category in coco["categories"]} == {"unlabelled", "<i>cup & saucer"}
    assert [annotation["id"] for annotation in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))
    with opened(path) as gallery:
        boxes = np.concatenate([gallery.regions(row.id).boxes for row in gallery.images()])
    found = np.array([annotation["bbox"] for annotation in coco["annotations"]])
    np.testing.assert_allclose(found[:, :2], boxes[:, :2], atol=0.006)
    np.testing.assert_allclose(found[:, 2:], boxes[:, 2:] - boxes[:, :2], atol=0.011)


def test_an_empty_gallery(tmp_path: Path) -> None:
    text = io.StringIO()
    with opened(tmp_path / "e.claid", "create") as gallery:
        write_coco(gallery, gallery.images(), text)
        assert [list(record) for record in gallery_records(gallery, [])] == [["gallery"]]
    assert json.loads(text.getvalue())["annotations"] == []


class Page(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_contact_sheet_escapes_every_name(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sheet"
    jpeg = picture_bytes(1, format="JPEG")
    with opened(path) as gallery:
        rows = list(gallery.images())
    shown = write_contact_sheet(str(folder), "<u>shop", rows, lambda row: jpeg if row.id % 2 else "<s>gone")
    page = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert shown == 3
    assert sum(tag == "figure" for tag, _ in page.tags) == len(NAMES)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "i", "u", "s", "iframe"})
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<b>photos/<script>alert(1)</script>.png" in page.texts
    assert "<b>photos/new\\nline.png" in page.texts
    assert "<s>gone" in page.texts
    for source in [attributes["src"] for tag, attributes in page.tags if tag == "img"]:
        assert (folder / source).read_bytes() == jpeg


def test_contact_sheet_in_pages(path: Path, tmp_path: Path) -> None:
    with opened(path) as gallery:
        rows = list(gallery.images()) * 70
    folder = tmp_path / "sheet"
    assert write_contact_sheet(str(folder), "many", rows, lambda row: "none") == 0
    assert sorted(os.listdir(folder)) == ["index.html", "page-2.html", "page-3.html", "thumbs"]
    counts = [(folder / name).read_text().count("<figure>") for name in ("index.html", "page-2.html", "page-3.html")]
    assert counts == [200, 200, 20]
    with pytest.raises(UsageError, match="not empty"):
        write_contact_sheet(str(folder), "many", rows, lambda row: "none")


def test_faiss_index_takes_descriptors_as_they_come(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    with Gallery.open(tmp_path / "g.claid", "create") as gallery:
        gallery.bind("aa", {}, DIM, keep_descriptors=True)
        register_root(gallery, str(tmp_path), "photos")
        gallery.add([new_image(seed, described=described(seed, 20)) for seed in range(40)])
        gallery.adopt_space(train_space(gallery.descriptors(10**6), CodeSettings(width=16, bytes=4, views=0)))
        index, space = gallery.load_index(exact=True), gallery.space
        side = list(index_records(gallery))
    target = str(tmp_path / "g.faiss")
    faiss.write_index(faiss_from_space(space, index.codes), target)
    read = faiss.read_index(target)
    queries = index.descriptors[::50].astype(np.float32)
    distances, rows = read.search(queries, 30)
    tables = space.tables(queries)
    ours = np.take_along_axis(tables[:, None], index.codes[None, :, :, None].astype(np.int64), axis=3).sum((2, 3))
    np.testing.assert_allclose(distances, np.sort(ours, axis=1)[:, :30], atol=1e-5)
    np.testing.assert_allclose(distances, np.take_along_axis(ours, rows, axis=1), atol=1e-5)
    assert [record["first"] for record in side] == index.starts[:-1].tolist()
    assert sum(len(record["boxes"]) for record in side) == read.ntotal == 800


def test_facts_come_back(path: Path, tmp_path: Path) -> None:
    with opened(path) as gallery:
        before = list(gallery.images())
        target = tmp_path / "g.jsonl"
        with whole_file(str(target), False) as file:
            write_lines(gallery_records(gallery, before), file)
    with opened(path, "rw") as gallery:
        with gallery.batch() as batch:
            for row in before:
                batch.label(row.id, "wrong")
        counts = import_records(gallery, str(target))
        assert counts == {"changed": len(NAMES), "unchanged": 0, "rejected": 0}
        assert list(gallery.images()) == before
        assert import_records(gallery, str(target))["unchanged"] == len(NAMES)


def test_lines_that_are_wrong_are_rejected_one_by_one(path: Path, tmp_path: Path) -> None:
    known = struct.pack(">Q", 0).hex()
    lines = [
        "{",
        "[1]",
        '"text"',
        "[" * 100_000,
        json.dumps({"label": "x"}),
        json.dumps({"hash": 5, "label": "x"}),
        json.dumps({"hash": "zz", "label": "x"}),
        json.dumps({"hash": "00", "label": "x"}),
        json.dumps({"image": "none.png", "label": "x"}),
        json.dumps({"image": "plain.png", "root": "other", "label": "x"}),
        json.dumps({"hash": known, "label": 5}),
        json.dumps({"hash": known, "label": "two\nlines"}),
        json.dumps({"hash": known, "label": "x" * 1001}),
        json.dumps({"hash": known, "latitude": 91}),
        f'{{"hash": "{known}", "longitude": NaN}}',
        json.dumps({"hash": known, "latitude": True}),
        "",
        json.dumps({"image": "plain.png", "label": "found", "unknown": 1}),
        json.dumps({"image": NAMES[4], "latitude": None}),
    ]
    source = tmp_path / "edited.jsonl"
    source.write_text("\n".join(lines))
    outcomes: list[Imported] = []
    with opened(path, "rw") as gallery:
        counts = import_records(gallery, str(source), outcomes.append)
        rows = {row.path: row for row in gallery.images()}
    assert counts == {"changed": 2, "unchanged": 0, "rejected": 16}
    assert all(outcome.reason for outcome in outcomes if outcome.status == "rejected")
    assert rows["plain.png"].label == "found"
    assert rows[NAMES[4]].latitude is None
    assert rows[NAMES[1]].label == "<i>cup & saucer"


def test_a_file_that_is_no_text(path: Path, tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\x00")
    with opened(path, "rw") as gallery:
        with pytest.raises(UsageError, match="UTF-8"):
            import_records(gallery, str(tmp_path / "b.bin"))
        with pytest.raises(UsageError, match="read"):
            import_records(gallery, str(tmp_path))


def test_a_whole_file_or_none(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    with pytest.raises(ZeroDivisionError), whole_file(str(target), False) as file:
        file.write(f"half {1 / 0}")
    assert os.listdir(tmp_path) == []
    with whole_file(str(target), False) as file:
        file.write("all")
    with pytest.raises(UsageError, match="--overwrite"), whole_file(str(target), False):
        pass
    with pytest.raises(StorageError), whole_file(str(tmp_path / "none" / "x.json"), False):
        pass
    assert target.read_text() == "all"


def test_a_record_holds_what_identifies_the_picture(path: Path) -> None:
    with opened(path) as gallery:
        row = next(gallery.images())
    assert image_record(row)["hash"] == row.content_hash.hex()
