"""``search`` and ``regions`` as a user meets them: output, files, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "pictures"
CAN = "345,140,493,410"


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_claid", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=120)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    pictures = [SAMPLES / f"db_{name}.jpg" for name in ("can_00", "can_01", "rc_car_00", "backpack_dog_00")]
    done = run("enroll", *pictures, "--gallery", folder / "shop.claid", "--label", "thing")
    assert done.returncode == 0, done.stderr
    return folder / "shop.claid"


def test_json_is_as_promised(gallery):
    done = run("search", gallery, SAMPLES / "db_can_03.jpg", "--box", CAN, "--top-k", 3, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert set(answer) == {"query", "hits", "seconds"}
    assert len(answer["hits"]) == 3
    best = answer["hits"][0]
    assert set(best) == {"image", "root", "score", "box", "label", "match"}
    assert best["image"] in ("db_can_00.jpg", "db_can_01.jpg")
    assert best["label"] == "thing"
    assert best["match"] is None


def test_bulk_queries_go_on_past_a_bad_one(gallery, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    lines = [
        {"id": "good", "image": str(SAMPLES / "db_can_03.jpg"), "box": [345, 140, 493, 410]},
        {"id": "bad", "image": "broken.jpg"},
        {"image": str(SAMPLES / "db_rc_car_01.jpg"), "box": None},
        {"id": "outside", "image": str(SAMPLES / "db_can_03.jpg"), "box": [9000, 0, 9100, 50]},
        {"id": "..", "image": str(SAMPLES / "db_can_03.jpg"), "boxes": [[345, 140, 493, 410], [0, 0, 99, 99]]},
    ]
    written = [json.dumps(line) for line in lines]
    written.insert(1, "no JSON")
    queries = tmp_path / "queries.jsonl"
    queries.write_text("\n".join(written))
    saved = tmp_path / "below" / "answers"
    done = run("search", gallery, "--queries", queries, "--json", "--top-k", 0, "--save", saved)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["query"] for answer in answers] == ["good", str(SAMPLES / "db_rc_car_01.jpg"), ".."]
    assert all(len(answer["hits"]) == 4 for answer in answers)
    assert "line 2" in done.stderr
    assert [path.name for path in saved.parent.iterdir()] == ["answers"]  # whatever a query is called
    assert len([path for path in saved.iterdir() if path.is_dir() and len(list(path.iterdir())) == 4]) == 3
    assert "bad" in done.stderr
    assert "outside" in done.stderr
    assert run("search", gallery, "--queries", queries, "--strict").returncode == 1


def test_among_the_pictures_of_a_label(gallery, tmp_path):
    copy = tmp_path / "shop.claid"
    shutil.copy(gallery, copy)
    done = run("enroll", SAMPLES / "db_can_02.jpg", "--gallery", copy, "--label", "can")
    assert done.returncode == 0, done.stderr
    query = ("search", copy, SAMPLES / "db_can_03.jpg", "--box", CAN, "--json", "--top-k", 0)
    for labels, images in ({("can",): 1, ("thing",): 4, ("can", "thing"): 5}).items():
        options = [word for label in labels for word in ("--label", label)]
        hits = json.loads(run(*query, *options).stdout)["hits"]
        assert len(hits) == images
        assert {hit["label"] for hit in hits} == set(labels)
    none = run(*query, "--label", "bicycle")
    assert (none.returncode, json.loads(none.stdout)["hits"]) == (0, [])
    assert "no picture labelled bicycle" in none.stderr


def test_hits_as_lines(gallery):
    done = run("search", gallery, SAMPLES / "db_can_03.jpg", "--box", CAN, "--top-k", 1)
    first, hit = done.stdout.splitlines()
    assert first.endswith("db_can_03.jpg: 1 hit")
    assert hit.split()[1] in ("db_can_00.jpg", "db_can_01.jpg")


def test_annotated_pictures_are_drawn(gallery, tmp_path):
    done = run("search", gallery, SAMPLES / "db_can_03.jpg", "--box", CAN, "--top-k", 2, "--save", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    drawn = sorted(path.name for path in (tmp_path / "out" / "db_can_03").iterdir())
    assert len(drawn) == 2
    assert cv2.imread(str(tmp_path / "out" / "db_can_03-sheet.jpg")).shape[1] == 1200


def test_regions_are_told_and_drawn(tmp_path):
    done = run("regions", SAMPLES / "db_can_00.jpg", "--json", "--save", tmp_path / "levels")
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)["regions"]
    assert tree[0]["parent"] == -1
    assert len(tree) > 5
    assert all(0 <= region["parent"] < row for row, region in enumerate(tree[1:], 1))
    assert (tmp_path / "levels" / "db_can_00-level1.jpg").is_file()


@pytest.mark.parametrize(
    "arguments", [(), ("--queries",), ("--box", "1,2,3"), ("--box", "5000,0,5010,9"), ("-k", "-1")]
)
def test_wrong_use_is_exit_2(gallery, arguments, tmp_path):
    query = [SAMPLES / "db_can_00.jpg"] if arguments else []
    (tmp_path / "empty.jsonl").write_text("")
    extra = [tmp_path / "empty.jsonl"] if arguments == ("--queries",) else []
    done = run("search", gallery, *([] if extra else query), *arguments, *extra)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_gallery_is_exit_8(tmp_path):
    (tmp_path / "no.claid").write_text("not a gallery, far from it" * 100)
    done = run("search", tmp_path / "no.claid", SAMPLES / "db_can_00.jpg")
    assert done.returncode == 8
    assert "no.claid" in done.stderr


def test_another_pipelines_gallery_is_exit_8_and_says_what_differs(gallery, tmp_path):
    (tmp_path / "edge-claid").mkdir()
    (tmp_path / "edge-claid" / "config.toml").write_text("[networks]\ndescriptor_side = 640\n")
    done = run("search", gallery, SAMPLES / "db_can_00.jpg", XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == 8
    assert "descriptor_side" in done.stderr
    assert "640" in done.stderr


def test_an_empty_gallery_gives_no_hits_and_a_warning(tmp_path):
    (tmp_path / "nothing").mkdir()
    assert run("enroll", tmp_path / "nothing", "--gallery", tmp_path / "e.claid").returncode == 0
    done = run("search", tmp_path / "e.claid", SAMPLES / "db_can_00.jpg", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hits"] == []
    assert "empty" in done.stderr


def test_exact_needs_kept_descriptors_or_an_uncoded_gallery(gallery):
    done = run("search", gallery, SAMPLES / "db_can_00.jpg", "--exact", "--json", "-k", 1)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["hits"][0]["image"] == "db_can_00.jpg"


def test_bench_times_every_stage():
    done = run("bench", SAMPLES / "db_can_00.jpg", "--rounds", 1, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["regions"] > 1
    assert all(value > 0 for value in figures["ms"].values())
