"""The comparison of code books ranks as the product does, and splits pictures so that nothing leaks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
for folder in (HERE.parents[1] / "tools", HERE.parent / "cli"):
    sys.path.insert(0, str(folder))

from codebook_trial import SPLITS, Trial, split_instances  # noqa: E402
from learn_world import make_gallery  # noqa: E402

from edge_claid import ops  # noqa: E402
from edge_claid.config import SearchSettings  # noqa: E402
from edge_claid.datasets.dataset import Dataset, DatasetImage, Query, Truth  # noqa: E402
from edge_claid.gallery.lookup.search import GallerySearch  # noqa: E402
from edge_claid.gallery.store import Gallery  # noqa: E402
from edge_claid.records import Descriptors  # noqa: E402

ASKED = (3, 40, 101)  # regions whose descriptors serve as queries


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    make_gallery(tmp_path / "g.claid")
    with Gallery.open(tmp_path / "g.claid") as opened:
        yield opened


def trial_of(gallery: Gallery) -> Trial:
    images = list(gallery.images())
    boxes = [gallery.regions(image.id).boxes for image in images]
    descriptors = gallery.descriptors(10**6)
    dataset = Dataset(
        "made up",
        tuple(DatasetImage(image.path, Path(image.path)) for image in images),
        tuple(Query(f"q{row}", images[0].path, ((0.0, 0.0, 8.0, 4.0),)) for row in ASKED),
        {f"q{row}": tuple(Truth(image.path, (0.0, 0.0, 9.0, 9.0)) for image in images[1:]) for row in ASKED},
    )
    regions = dict.fromkeys(SPLITS, descriptors.astype(np.float32))
    queries = dict.fromkeys(SPLITS, regions["own"][list(ASKED)])
    training = {split: np.arange(len(descriptors)) % 3 != number for number, split in enumerate(SPLITS)}
    return Trial(
        dataset, regions, np.concatenate([[0], np.cumsum([len(own) for own in boxes])]), np.concatenate(boxes),
        [[image.path] for image in images], queries, np.array([2.0, np.nan, 2.0]),
        {"q3": "first", "q40": "second", "q101": "first"}, training, SearchSettings().temperature,
    )  # fmt: skip


def test_rankings_are_those_of_a_search(gallery: Gallery) -> None:
    trial = trial_of(gallery)
    rankings = trial.rankings(gallery.space, "own")
    search = GallerySearch(gallery, ops.load().code_scan)
    for row, query in enumerate(rankings):
        aspects = None if np.isnan(trial.aspects[row]) else trial.aspects[row : row + 1].astype(np.float32)
        hits = {hit.image: hit for hit in search.query(Descriptors(trial.queries["own"][row : row + 1], aspects), k=0)}
        assert len(rankings[query]) == len(hits) > 100
        for image, score, box in rankings[query]:
            assert score == pytest.approx(hits[image].score, abs=1e-4)
            assert (box is None) == (image == trial.dataset.images[0].id)
        same = sum(box is not None and tuple(box) == hits[image].box for image, _, box in rankings[query])
        assert same > 0.97 * len(hits)  # float32 sums may decide a tie otherwise


def test_a_half_is_asked_for_its_own_queries_only(gallery: Gallery) -> None:
    trial = trial_of(gallery)
    assert set(trial.rankings(gallery.space, "first")) == {"q3", "q101"}
    assert set(trial.rankings(gallery.space, "second")) == {"q40"}
    assert set(trial.rankings(gallery.space.projection, "own")) == {"q3", "q40", "q101"}


def test_instances_of_each_source_are_dealt_out_and_their_pictures_known() -> None:
    names = "abcdef"
    dataset = Dataset(
        "d",
        tuple(DatasetImage(name, Path(name)) for name in names),
        (Query("q1", "a"), Query("q2", "a"), Query("q3", "b")),
        {"q1": (Truth("c"), Truth("d", ignore=True)), "q2": (Truth("c"),), "q3": (Truth("c"), Truth("e"))},
    )
    halves, holds = split_instances(dataset, {"q1": ("s", "one"), "q2": ("s", "one"), "q3": ("s", "two")})
    assert halves == {"q1": "first", "q2": "first", "q3": "second"}
    assert dict(holds) == {"a": {"first"}, "b": {"second"}, "c": {"first", "second"}, "e": {"second"}}
    alone, _ = split_instances(dataset, {"q1": ("s", "one"), "q2": ("t", "two"), "q3": ("t", "three")})
    assert alone == {"q1": "first", "q2": "second", "q3": "first"}


def test_the_error_is_of_regions_that_were_not_trained_on(gallery: Gallery) -> None:
    trial, space = trial_of(gallery), gallery.space
    features = space.project(gallery.descriptors(10**6))
    lost = np.square(features - space.book.decode(space.book.encode(features))).sum(axis=1)
    assert trial.error(space, "own") == pytest.approx(lost.sum() / len(features), rel=1e-3)
    held = ~trial.training["first"]
    assert trial.error(space, "first") == pytest.approx(lost[held].mean(), rel=1e-3)
    assert trial.error(space, "first") != pytest.approx(trial.error(space, "own"), rel=1e-3)


def test_a_run_that_is_out_of_time_goes_on_where_it_was(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")
    import compare_codebooks as tool

    asked = []

    def recorded(trial: Trial, train: object, length: int, seed: int, rows: int) -> dict[str, dict[str, float]]:
        asked.append((seed, length, train))
        return {split: {"mAP": 0.5, "seed": seed} for split in ("own", "held out")}

    monkeypatch.setattr(tool, "measured", recorded)
    monkeypatch.setitem(tool.PARTS, "methods", tool.Part({"a": "A", "b": "B"}, (4, 8), 2))
    trial, known, left = trial_of(gallery), {}, float("inf")
    first = tool.filled(trial, "methods", known, 10, left)
    for _ in range(3):
        known = next(first)
    with pytest.raises(TimeoutError):
        list(tool.filled(trial, "methods", known, 10, 0.0))
    whole = list(tool.filled(trial, "methods", known, 10, left))[-1]
    assert asked == [(seed, length, train) for seed in (0, 1) for length in (4, 8) for train in "AB"]
    assert [[own["seed"] for own in row["own"]] for row in whole["rows"]] == [[0, 1]] * 4
    assert not list(tool.filled(trial, "methods", whole, 10, 0.0))
    assert len(list(tool.filled(trial, "methods", whole, 11, left))) == 8  # other rows: nothing of it can be kept


def test_tables_give_mean_and_spread_of_the_seeds() -> None:
    pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")
    from compare_codebooks import markdown

    figures = [
        {"mAP": 0.5, "mIoU": 0.3, "error": 0.4, "float mAP": 0.6},
        {"mAP": 0.6, "mIoU": 0.3, "error": 0.4},
    ]
    row = {"method": "OPQ", "bytes": 8, "own": figures, "held out": [dict(own) for own in figures[::-1]]}
    row["held out"][0]["float mAP"] = 0.55
    text = markdown({"methods": {"trained on": 8000, "rows": [row]}})
    assert "| 8 | OPQ | 0.550 ± 0.050 | 0.300 ± 0.000 | 0.400 ± 0.000 | 0.550 |" in text
    assert "| 8 | OPQ | 0.550 ± 0.050 | 0.300 ± 0.000 | 0.400 ± 0.000 | 0.600 |" in text
