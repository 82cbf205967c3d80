"""Ranking a dataset with a made-up search, and proposals in place of regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colours import ColourPipeline

from edge_claid.datasets import Dataset
from edge_claid.errors import BadImageError, UsageError
from edge_claid.evaluate import evaluate
from edge_claid.evaluate.proposing import ProposingPipeline
from edge_claid.evaluate.run import describe_queries, enrol_dataset, image_ids, rank, same_content
from edge_claid.gallery import Gallery
from edge_claid.records import Descriptors, Frame, Hit


class ByColour:
    """A search of whole pictures by colour."""

    def __init__(self, dataset: Dataset, pipeline: Any, root: str) -> None:
        self._images = [(image, pipeline.describe(image.path).values[0]) for image in dataset.images if image.searched]
        self._root = root

    def query(self, descriptors: Descriptors, k: int = 10) -> list[Hit]:
        hits = [
            Hit(image.path.name, self._root, float(values @ descriptors.values.mean(0)), (0, 0, 20, 20))
            for image, values in self._images
        ]
        return sorted(hits, key=lambda hit: -hit.score)


def test_rank_maps_hits_to_ids_and_evaluates(dataset: Dataset, tmp_path: Path) -> None:
    pipeline = ColourPipeline()
    with Gallery.open(tmp_path / "g.claid", "create") as gallery:
        summary = enrol_dataset(dataset, ProposingPipeline(pipeline, "whole"), gallery)
        ids = image_ids(dataset, gallery)
    assert summary.counts["added"] == 5
    assert sorted(ids["images", "red2.png"]) == ["i-red2", "i-red_copy"]
    assert ids["images", "red_copy.png"] == ids["images", "red2.png"]
    assert ids["images", "grey.png"] == ["i-grey"]

    search = ByColour(dataset, pipeline, "images")
    rankings = rank(dataset.queries, describe_queries(dataset, pipeline), search, ids)
    report = evaluate(dataset, rankings)["all"]
    assert report["mAP"] == 1
    assert report["mIoU"] == pytest.approx((1 + 1 + 0.5) / 3)


def test_proposals_have_an_id_of_their_own_and_keep_order(dataset: Dataset) -> None:
    pipeline = ColourPipeline()
    grid, whole = ProposingPipeline(pipeline, "grid"), ProposingPipeline(pipeline, "whole")
    assert len({pipeline.id, grid.id, whole.id}) == 3
    assert grid.describe_settings == {"regions": "grid"}
    random = np.random.default_rng(1)
    frames = [Frame(random.integers(0, 255, (24, 24 + n, 3), np.uint8)) for n in range(7)]
    described = list(grid.describe_many(frames))
    assert [len(d.regions) for d in described] == [30] * 7
    assert [d.regions.image_size[0] for d in described] == list(range(24, 31))
    assert described[3].descriptors.values.shape == (30, 6)
    with pytest.raises(UsageError, match="grid"):
        ProposingPipeline(pipeline, "random")


def test_a_picture_that_fails_gives_its_error_in_its_place() -> None:
    class Failing(ColourPipeline):
        def describe(self, image, box=None, *, boxes=None):
            if image.name == "bad":
                raise BadImageError("bad: no picture")
            return super().describe(image, box, boxes=boxes)

    frames = [Frame(np.full((20, 20, 3), 9, np.uint8), name) for name in ("good", "bad", "good")]
    results = list(ProposingPipeline(Failing(), "whole").describe_many(frames))
    assert [isinstance(result, BadImageError) for result in results] == [False, True, False]


def test_same_content_reads_only_files_of_equal_size(tmp_path: Path) -> None:
    for name, text in (("a", "xy"), ("b", "yx"), ("c", "xy"), ("d", "longer")):
        (tmp_path / name).write_text(text)
    groups = same_content([str(tmp_path / name) for name in ("a", "b", "c", "d", "missing")])
    assert sorted(sorted(Path(p).name for p in group) for group in groups) == [["a", "c"], ["b"], ["d"], ["missing"]]
