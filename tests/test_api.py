"""The Python API as CONVENTIONS shows it, on real pictures with the real networks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import edge_claid
import edge_claid.config
from edge_claid.errors import GalleryError, UsageError

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
CAN = (345, 140, 493, 410)


@pytest.fixture(scope="module")
def pipeline():
    with edge_claid.Pipeline.open() as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("db_can_00", "db_can_01", "db_can_03", "db_rc_car_00", "db_rc_car_01", "db_backpack_dog_00"):
        shutil.copy(SAMPLES / "pictures" / f"{name}.jpg", folder)
    return folder


def test_enrol_search_change_and_search_again(tmp_path: Path, photos: Path, pipeline) -> None:
    query = pipeline.describe(SAMPLES / "pictures" / "db_can_03.jpg", box=CAN)
    with edge_claid.Gallery.open(tmp_path / "shop.claid") as gallery:
        assert gallery.search(query) == []
        summary = gallery.enroll(photos, pipeline)
        assert summary.counts["added"] == 6
        hits = gallery.search(query, k=4)
        assert hits[0].image == "db_can_03.jpg"
        assert {hit.image for hit in hits[:3]} == {"db_can_00.jpg", "db_can_01.jpg", "db_can_03.jpg"}
        assert all(hit.score <= 1 for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        x0, y0, x1, y1 = hits[0].box
        assert 0 <= x0 < x1 <= 640
        assert 0 <= y0 < y1 <= 640

        (photos / "db_can_03.jpg").unlink()
        gallery.enroll(photos, pipeline, prune=True)
        assert "db_can_03.jpg" not in {hit.image for hit in gallery.search(query, k=0)}


def test_several_boxes_ask_for_pictures_with_all(tmp_path: Path, photos: Path, pipeline) -> None:
    picture = SAMPLES / "pictures" / "db_can_03.jpg"
    query = pipeline.describe(picture, boxes=[CAN, (0, 0, 200, 200)])
    assert query.values.shape == (2, pipeline.descriptor_dim)
    with edge_claid.Gallery.open(tmp_path / "shop.claid") as gallery:
        gallery.enroll(photos, pipeline)
        hits = gallery.search(query, k=0)
        assert len(hits) == 6
        assert hits[0].image == "db_can_03.jpg"


def test_box_outside_the_picture_is_refused(pipeline) -> None:
    picture = SAMPLES / "pictures" / "db_can_03.jpg"
    with pytest.raises(UsageError, match="outside"):
        pipeline.describe(picture, box=(5000, 0, 5100, 100))
    with pytest.raises(UsageError, match="empty"):
        pipeline.describe(picture, box=(50, 50, 50, 80))


def test_another_pipeline_is_refused_with_what_differs(tmp_path: Path, photos: Path, pipeline) -> None:
    settings = edge_claid.config.Settings(regions=edge_claid.config.RegionSettings(alpha=0.5))
    with edge_claid.Gallery.open(tmp_path / "shop.claid") as gallery:
        gallery.enroll(photos, pipeline)
        with edge_claid.Pipeline.open(settings) as other:
            assert other.id != pipeline.id
            with pytest.raises(GalleryError, match="alpha"):
                gallery.enroll(photos, other)


def test_precision_variants_share_the_pipeline_id(pipeline) -> None:
    settings = edge_claid.config.Settings(networks=edge_claid.config.NetworkSettings(vit_variant="fp32"))
    with edge_claid.Pipeline.open(settings) as other:
        assert other.id == pipeline.id
