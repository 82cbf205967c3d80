"""Box datasets: ours and COCO's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_claid.datasets import is_box_dataset, open_boxes
from edge_claid.errors import UsageError


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "000000000139.jpg").write_bytes(b"")
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "instances_val2017.json"
    file.write_text(
        json.dumps(
            {
                "images": [
                    {"id": 139, "file_name": "000000000139.jpg", "width": 640, "height": 426},
                    {"id": 285, "file_name": "000000000285.jpg", "width": 586, "height": 640},
                ],
                "annotations": [
                    {"image_id": 139, "bbox": [10, 20, 5, 6], "iscrowd": 0},
                    {"image_id": 139, "bbox": [0, 0, 9, 9], "iscrowd": 1},
                    {"image_id": 139, "bbox": [1, 1, 2.5, 2], "iscrowd": 0},
                ],
            }
        )
    )
    return file


def test_coco_instances(coco: Path) -> None:
    assert is_box_dataset(coco)
    dataset = open_boxes(coco)
    assert dataset.images[0].path == coco.parent.parent / "val2017" / "000000000139.jpg"
    assert dataset.boxes["139"].tolist() == [[10, 20, 15, 26], [1, 1, 3.5, 3]]
    assert dataset.crowd["139"].tolist() == [[0, 0, 9, 9]]
    assert "285" not in dataset.boxes


def test_coco_pictures_elsewhere(coco: Path) -> None:
    with pytest.raises(UsageError, match="000000000139"):
        open_boxes(coco, coco.parent)
    assert open_boxes(coco, coco.parent.parent / "val2017").images[0].path.is_file()


def test_damage_is_named(coco: Path) -> None:
    coco.write_text(json.dumps({"images": [], "annotations": [{"image_id": 1}]}))
    with pytest.raises(UsageError, match="bbox"):
        open_boxes(coco)


def test_real_boxes(shared_data: Path) -> None:
    folder = shared_data / "data" / "coco_dev"
    assert is_box_dataset(folder)
    assert not is_box_dataset(shared_data / "data" / "dev")
    dataset = open_boxes(folder)
    assert len(dataset.images) == 97
    assert sum(map(len, dataset.boxes.values())) > 500
    assert all(image.path.is_file() for image in dataset.images)
