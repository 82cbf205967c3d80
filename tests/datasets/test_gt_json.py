"""The gt.json layout, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_claid.datasets import open_dataset
from edge_claid.errors import UsageError


def write(folder: Path, **changes) -> Path:
    content = {
        "images": [
            {"id": "a", "file": "images/a.jpg", "width": 8, "height": 6, "source": "shop"},
            {"id": "b", "file": "images/b.jpg"},
        ],
        "queries": [
            {"id": "q", "image": "a", "box": [1, 2, 3, 4], "source": "shop"},
            {"id": "m", "image": "a", "boxes": [[1, 2, 3, 4], [0, 0, 2, 2]]},
            {"id": "w", "image": "b", "box": None},
        ],
        "truth": {"q": [{"image": "b", "box": [0, 0, 5, 5], "ignore": False}, {"image": "a", "box": None}]},
    }
    content.update(changes)
    (folder / "gt.json").write_text(json.dumps(content))
    return folder


def test_reads_images_queries_and_truth(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path))
    assert dataset.image("a").path == tmp_path / "images" / "a.jpg"
    assert (dataset.image("a").width, dataset.image("b").width) == (8, None)
    assert dataset.queries[0].boxes == ((1, 2, 3, 4),)
    assert dataset.queries[1].boxes == ((1, 2, 3, 4), (0, 0, 2, 2))
    assert dataset.queries[2].boxes is None
    assert dataset.truth["q"][0].box == (0, 0, 5, 5)
    assert dataset.truth["q"][1].box is None
    assert open_dataset(tmp_path / "gt.json") == dataset


def test_limit_spreads_over_the_queries(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path))
    assert [q.id for q in dataset.limited(2).queries] == ["q", "m"]
    assert [q.id for q in dataset.limited(1).queries] == ["q"]
    assert dataset.limited(9) is dataset


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"queries": [{"id": "q", "image": "nowhere"}]}, "nowhere"),
        ({"truth": {"q": [{"image": "nowhere"}]}}, "nowhere"),
        ({"images": [{"id": "a", "file": "a.jpg"}, {"id": "a", "file": "b.jpg"}]}, "'a' is given twice"),
        ({"queries": [{"image": "a"}]}, "'id'"),
        ({"queries": [{"id": "q", "image": "a", "box": [1, 2, 3]}]}, "wrong form"),
        ({"images": 3}, "wrong form"),
    ],
)
def test_damage_is_named(tmp_path: Path, changes: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        open_dataset(write(tmp_path, **changes))


def test_unknown_layouts_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gt\.json, INSTRE, .*Holidays"):
        open_dataset(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        open_dataset(tmp_path / "missing")
    (tmp_path / "gt.json").write_text("{broken")
    with pytest.raises(UsageError, match="JSON"):
        open_dataset(tmp_path)
