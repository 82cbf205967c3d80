"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_claid.datasets import Dataset, DatasetImage, Query, Truth, open_dataset
from edge_claid.errors import UsageError
from edge_claid.evaluate import average_precision, evaluate, iou


def small_dataset(truth: dict[str, tuple[Truth, ...]], sources: dict[str, str] | None = None) -> Dataset:
    images = tuple(DatasetImage(name, Path(f"{name}.jpg")) for name in "abcdefgh")
    queries = tuple(Query(q, "a", ((0, 0, 1, 1),), (sources or {}).get(q, "")) for q in truth)
    return Dataset("small", images, queries, truth)


def ranking(order: str, boxes: dict[str, tuple[float, float, float, float]] | None = None):
    return [(name, 1.0 - rank / 10, (boxes or {}).get(name)) for rank, name in enumerate(order)]


def test_average_precision_by_hand() -> None:
    # Relevant at ranks 1, 3 and 6 of 3: (1/1 + 2/3 + 3/6) / 3.
    relevant = [True, False, True, False, False, True]
    assert average_precision(relevant, 3) == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert average_precision(relevant, 3, 2) == pytest.approx(1 / 2)
    assert average_precision(relevant, 3, 3) == pytest.approx((1 + 2 / 3) / 3)
    # A fourth relevant picture that was never returned.
    assert average_precision(relevant, 4) == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    assert average_precision([], 4) == 0


def test_iou_by_hand() -> None:
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert iou((3, 3, 3, 3), (3, 3, 3, 3)) == 0
    assert iou((1, 2, 5, 9), (1, 2, 5, 9)) == 1


def test_own_picture_and_ignored_pictures_leave_the_ranking() -> None:
    truth = {"q": (Truth("a", (0, 0, 1, 1)), Truth("b"), Truth("c", ignore=True), Truth("d"), Truth("d", ignore=True))}
    report = evaluate(small_dataset(truth), {"q": ranking("acbedfgh")})["all"]
    # a and c leave: b e d f g h; b is rank 1, d (with one entry that counts) rank 3.
    assert report["mAP"] == pytest.approx((1 + 2 / 3) / 2)
    assert report["recall@1"] == 1
    assert report["mIoU"] is None
    assert report["queries"] == 1


def test_own_picture_is_out_even_without_a_truth_entry() -> None:
    report = evaluate(small_dataset({"q": (Truth("b"),)}), {"q": ranking("abcd")})["all"]
    assert report["mAP"] == 1


def test_miou_over_pairs_and_best_of_true_boxes() -> None:
    truth = {
        "q": (
            Truth("b", (0, 0, 10, 10)),
            Truth("b", (20, 0, 30, 10)),
            Truth("b", (22, 0, 32, 10), ignore=True),
            Truth("c", (0, 0, 4, 4)),
            Truth("e", None),
        ),
        "r": (Truth("d", (0, 0, 10, 10)),),
    }
    rankings = {
        "q": ranking("be", {"b": (22, 0, 32, 10), "e": (0, 0, 1, 1)}),
        "r": ranking("d", {"d": (0, 0, 10, 5)}),
    }
    # Pairs: q-b 80/120 with its counted box (not 1 with the ignored one), q-c not returned 0, r-d 0.5; e has no box.
    report = evaluate(small_dataset(truth), rankings)
    assert report["all"]["mIoU"] == pytest.approx((80 / 120 + 0 + 0.5) / 3)


def test_means_by_source() -> None:
    truth = {"q": (Truth("b"),), "r": (Truth("c"),), "s": (Truth("d"),)}
    sources = {"q": "tin", "r": "tin", "s": "tree"}
    rankings = {"q": ranking("bcd"), "r": ranking("bcd"), "s": ranking("bcd")}
    report = evaluate(small_dataset(truth, sources), rankings)
    assert list(report) == ["all", "tin", "tree"]
    assert report["tin"]["mAP"] == pytest.approx((1 + 1 / 2) / 2)
    assert report["tin"]["recall@1"] == pytest.approx(1 / 2)
    assert report["tree"]["mAP"] == pytest.approx(1 / 3)
    assert report["all"]["mAP"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_scores_order_the_ranking_and_the_better_of_two_counts() -> None:
    truth = {"q": (Truth("b", (0, 0, 2, 2)),)}
    entries = [("c", 0.2, None), ("b", 0.1, None), ("d", 0.5, None), ("b", 0.9, (0, 0, 2, 2))]
    report = evaluate(small_dataset(truth), {"q": entries})["all"]
    assert (report["mAP"], report["mIoU"]) == (1, 1)


def test_query_without_a_relevant_picture_is_left_out() -> None:
    truth = {"q": (Truth("b"),), "r": (Truth("a"), Truth("c", ignore=True))}
    report = evaluate(small_dataset(truth), {"q": ranking("b")})
    assert report["all"]["queries"] == 1


def test_cuts_differ_where_they_should() -> None:
    images = tuple(DatasetImage(str(n), Path(f"{n}.jpg")) for n in range(300))
    truth = {"q": tuple(Truth(str(n)) for n in range(1, 121))}
    dataset = Dataset("big", images, (Query("q", "0"),), truth)
    # 40 right, then 100 wrong, then the 80 that are left.
    order = [*range(1, 41), *range(200, 300), *range(41, 121)]
    report = evaluate(dataset, {"q": [(str(n), -float(rank), None) for rank, n in enumerate(order)]})["all"]
    assert report["mAP-50"] == pytest.approx(40 / 50)
    assert report["mAP-100"] == pytest.approx(40 / 100)
    late = sum((40 + n) / (140 + n) for n in range(1, 81))
    assert report["mAP"] == pytest.approx((40 + late) / 120)


def test_bad_rankings_are_refused_with_the_name() -> None:
    dataset = small_dataset({"q": (Truth("b"),)})
    with pytest.raises(UsageError, match="'q'"):
        evaluate(dataset, {})
    with pytest.raises(UsageError, match="'nothing'"):
        evaluate(dataset, {"q": [("nothing", 1.0, None)]})


@given(st.permutations("bcdefgh"), st.sets(st.sampled_from("bcdefgh"), min_size=1))
def test_figures_lie_between_zero_and_one_and_a_perfect_ranking_has_one(order: list[str], relevant: set[str]) -> None:
    dataset = small_dataset({"q": tuple(Truth(name, (0, 0, 5, 5)) for name in sorted(relevant))})
    boxes = dict.fromkeys(relevant, (0.0, 0.0, 5.0, 5.0))
    figures = evaluate(dataset, {"q": ranking("".join(order), boxes)})["all"]
    assert 0 < figures["mAP"] <= 1
    assert figures["mIoU"] == 1
    first = sorted(order, key=lambda name: name not in relevant)
    assert evaluate(dataset, {"q": ranking("".join(first), boxes)})["all"]["mAP"] == pytest.approx(1)


def test_real_pictures(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "data" / "dev")
    assert (len(dataset.images), len(dataset.queries)) == (725, 161)
    assert all(image.path.is_file() for image in dataset.images[::50])
    perfect = {}
    for query in dataset.queries:
        boxes = {t.image: t.box for t in dataset.truth[query.id] if not t.ignore}
        perfect[query.id] = [(i.id, float(i.id in boxes), boxes.get(i.id)) for i in dataset.images]
    started = time.perf_counter()
    report = evaluate(dataset, perfect)
    seconds = time.perf_counter() - started
    for name in ("mAP-50", "mAP-100", "mAP", "recall@1"):
        assert report["all"][name] == pytest.approx(1)
    assert report["all"]["mIoU"] == pytest.approx(1)
    assert report["grocerystore"]["mIoU"] is None
    assert sum(report[s]["queries"] for s in report if s != "all") == report["all"]["queries"] == 161
    assert seconds < 2, "called hundreds of times in experiments"
