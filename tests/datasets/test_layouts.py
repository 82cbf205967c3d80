"""Readers of published layouts, on small made-up trees of the same form."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_claid.datasets import Truth, open_dataset
from edge_claid.errors import UsageError
from edge_claid.evaluate import evaluate


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def oxford(tmp_path: Path) -> Path:
    names = ["all_souls_000013", "all_souls_000026", "oxford_002985", "all_souls_000110", "keble_000245"]
    return tree(
        tmp_path,
        {
            **{f"jpg/{name}.jpg": "" for name in names},
            "lab/all_souls_1_query.txt": "oxc1_all_souls_000013 136.5 34.1 648.5 955.7\n",
            "lab/all_souls_1_good.txt": "all_souls_000026\nall_souls_000013\n",
            "lab/all_souls_1_ok.txt": "oxford_002985\n",
            "lab/all_souls_1_junk.txt": "all_souls_000110\n",
        },
    )


def test_oxford(oxford: Path) -> None:
    dataset = open_dataset(oxford)
    (query,) = dataset.queries
    assert (query.id, query.image, query.source) == ("all_souls_1", "all_souls_000013", "all_souls")
    assert query.boxes == ((136.5, 34.1, 648.5, 955.7),)
    assert dataset.truth["all_souls_1"] == (
        Truth("all_souls_000026"),
        Truth("all_souls_000013"),
        Truth("oxford_002985"),
        Truth("all_souls_000110", ignore=True),
    )
    # The query's own picture and junk leave the ranking: good, wrong, ok are left.
    order = ["all_souls_000013", "all_souls_000110", "all_souls_000026", "keble_000245", "oxford_002985"]
    ranking = [(name, -float(rank), None) for rank, name in enumerate(order)]
    assert evaluate(dataset, {"all_souls_1": ranking})["all"]["mAP"] == pytest.approx((1 + 2 / 3) / 2)


def test_paris_has_subfolders_and_no_prefix(tmp_path: Path) -> None:
    folder = tree(
        tmp_path,
        {
            "paris/defense/paris_defense_000605.jpg": "",
            "paris/eiffel/paris_eiffel_000001.jpg": "",
            "gt/defense_1_query.txt": "paris_defense_000605 1 2 3 4",
            "gt/defense_1_good.txt": "paris_eiffel_000001\n",
            "gt/defense_1_ok.txt": "",
            "gt/defense_1_junk.txt": "\n",
        },
    )
    dataset = open_dataset(folder)
    assert dataset.queries[0].image == "paris_defense_000605"
    assert dataset.truth["defense_1"] == (Truth("paris_eiffel_000001"),)


def test_oxford_damage(oxford: Path) -> None:
    (oxford / "lab/all_souls_1_query.txt").write_text("oxc1_all_souls_000013 136.5 34.1 648.5")
    with pytest.raises(UsageError, match="4 numbers"):
        open_dataset(oxford)
    (oxford / "lab/all_souls_1_query.txt").write_text("")
    with pytest.raises(UsageError, match="empty"):
        open_dataset(oxford)
    (oxford / "lab/all_souls_1_query.txt").write_text("oxc1_gone_000001 1 2 3 4")
    with pytest.raises(UsageError, match="gone_000001"):
        open_dataset(oxford)


def test_holidays(tmp_path: Path) -> None:
    names = ["100000", "100001", "100002", "100100", "100101", "149900"]
    dataset = open_dataset(tree(tmp_path, {f"jpg/{name}.jpg": "" for name in names}))
    assert [q.id for q in dataset.queries] == ["100000", "100100", "149900"]
    assert dataset.queries[0].boxes is None
    assert dataset.truth["100000"] == (Truth("100001"), Truth("100002"))
    assert dataset.truth["100100"] == (Truth("100101"),)
    assert dataset.truth["149900"] == ()


BELGA = """0\tAdidas\t001.jpg\tlogo\t1\t10\t20\t30\t40
1\tAdidas\t002.jpg\tlogo\t0\t1\t2\t3\t4
2\tAdidas\t003.jpg\tlogo\t1\t5\t5\t9\t9
3\tUS_President\t002.jpg\tlogo\t1\t7\t7\t8\t8
"""


@pytest.fixture
def belga(tmp_path: Path) -> Path:
    return tree(
        tmp_path,
        {
            **{f"images/00{n}.jpg": "" for n in range(1, 5)},
            "qset3_internal_and_local.gt": BELGA,
            "qset1_internal.qry": "Addidas1 001.jpg 10 20 30 40\nPresident12 002.jpg 7 7 8 8\n",
        },
    )


def test_belgalogos(belga: Path) -> None:
    dataset = open_dataset(belga)
    assert [(q.id, q.image, q.source) for q in dataset.queries] == [
        ("Addidas1", "001.jpg", "Adidas"),
        ("President12", "002.jpg", "US_President"),
    ]
    assert dataset.truth["Addidas1"] == (
        Truth("001.jpg", (10, 20, 30, 40)),
        Truth("002.jpg", (1, 2, 3, 4), ignore=True),
        Truth("003.jpg", (5, 5, 9, 9)),
    )
    assert len(dataset.images) == 4


def test_belgalogos_without_qset1(belga: Path) -> None:
    (belga / "qset1_internal.qry").unlink()
    assert [q.image for q in open_dataset(belga).queries] == ["001.jpg", "002.jpg"]
    (belga / "qset3_internal_and_local.qry").write_text("2 Adidas 003.jpg logo 1 5 5 9 9\n")
    (query,) = open_dataset(belga).queries
    assert (query.id, query.image, query.boxes, query.source) == ("2", "003.jpg", ((5, 5, 9, 9),), "Adidas")
    (belga / "qset3_internal_and_local.qry").write_text("2 Adidas 003.jpg 5 5 9 9 9\n")
    with pytest.raises(UsageError, match="6 or 9 columns"):
        open_dataset(belga)


@pytest.mark.parametrize("boxes", ["bbox", "merge_bbox"])
def test_instance(tmp_path: Path, boxes: str) -> None:
    folder = tree(
        tmp_path,
        {
            **{f"Images/{name}/{name}_000{n}.jpg": "" for name in ("Woman", "Car4") for n in (1, 2, 3)},
            f"{boxes}/Woman.txt": "Woman_0001\t10\t20\t5\t6\nWoman_0003\t1\t1\t2\t2\n",
            f"{boxes}/Car4.txt": "Car4_0002 0 0 4 4\n",
        },
    )
    dataset = open_dataset(folder)
    assert [(q.id, q.image, q.boxes) for q in dataset.queries] == [
        ("Car4", "Car4_0002", ((0, 0, 4, 4),)),
        ("Woman", "Woman_0001", ((10, 20, 15, 26),)),
    ]
    assert dataset.truth["Woman"] == (Truth("Woman_0001", (10, 20, 15, 26)), Truth("Woman_0003", (1, 1, 3, 3)))
    (folder / boxes / "Woman.txt").write_text("Woman_0001 10 20 x 6")
    with pytest.raises(UsageError, match=r"Woman\.txt.*4 numbers"):
        open_dataset(folder)


@pytest.fixture
def instre(tmp_path: Path) -> Path:
    files = {}
    for folder, count in (("INSTRE-S1/01a_book", 7), ("INSTRE-S1/01b_bear", 6), ("INSTRE-S2/01_ball", 6)):
        for n in range(1, count + 1):
            files |= {f"{folder}/00{n}.jpg": "", f"{folder}/00{n}.txt": f"{n} 2 10 20\n"}
    for n in range(1, 8):
        files |= {f"INSTRE-M/01/00{n}.jpg": "", f"INSTRE-M/01/00{n}.txt": f"{n} 0 1 1\n50 {n} 2 2\n"}
    return tree(tmp_path, files)


def test_instre(instre: Path) -> None:
    dataset = open_dataset(instre)
    assert len(dataset.queries) == 20
    assert sum(image.searched for image in dataset.images) == 26 - 20
    query = next(q for q in dataset.queries if q.id == "INSTRE-S1/01b_bear/001.jpg")
    assert query.boxes == ((1, 2, 11, 22),)
    # 006 of its class, and b's box, the second line, in the searched pictures of the pair.
    assert dataset.truth[query.id] == (
        Truth("INSTRE-S1/01b_bear/006.jpg", (6, 2, 16, 22)),
        Truth("INSTRE-M/01/006.jpg", (50, 6, 52, 8)),
        Truth("INSTRE-M/01/007.jpg", (50, 7, 52, 9)),
    )
    assert dataset.truth["INSTRE-S1/01a_book/001.jpg"][-1] == Truth("INSTRE-M/01/007.jpg", (7, 0, 8, 1))
    assert dataset.truth["INSTRE-S2/01_ball/001.jpg"] == (Truth("INSTRE-S2/01_ball/006.jpg", (6, 2, 16, 22)),)


def test_instre_multi_queries_have_both_boxes(instre: Path) -> None:
    dataset = open_dataset(instre)
    query = next(q for q in dataset.queries if q.source == "INSTRE-M")
    assert query.boxes == ((1, 0, 2, 1), (50, 1, 52, 3))
    assert {entry.image for entry in dataset.truth[query.id]} == {"INSTRE-M/01/006.jpg", "INSTRE-M/01/007.jpg"}
    boxes = [entry.box for entry in dataset.truth[query.id] if entry.image == "INSTRE-M/01/006.jpg"]
    assert boxes == [(6, 0, 7, 1), (50, 6, 52, 8), (6, 0, 52, 8)]


def test_instre_split_file(instre: Path) -> None:
    io = pytest.importorskip("scipy.io")
    import numpy as np

    names = np.empty((1, 2), object)
    names[0, 0], names[0, 1] = "INSTRE-S2/01_ball/003.jpg", "INSTRE-M/01/002.jpg"
    io.savemat(instre / "gnd_instre.mat", {"qimlist": names})
    dataset = open_dataset(instre)
    assert {q.id for q in dataset.queries} == {"INSTRE-S2/01_ball/003.jpg", "INSTRE-M/01/002.jpg"}
    assert sum(image.searched for image in dataset.images) == 24
    (instre / "gnd_instre.mat").write_bytes(b"no matlab file")
    with pytest.raises(UsageError, match="gnd_instre"):
        open_dataset(instre)


def test_instre_missing_boxes(instre: Path) -> None:
    (instre / "INSTRE-M/01/007.txt").unlink()
    with pytest.raises(UsageError, match=r"007\.txt"):
        open_dataset(instre)
