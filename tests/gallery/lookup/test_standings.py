"""How far a region's score for an item stands out from what the region scores elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import DIM, described

from edge_claid import ops
from edge_claid.gallery.lookup import naming
from edge_claid.gallery.lookup.naming import Items, item_scores, standing
from edge_claid.gallery.lookup.region_lookup import Nearest
from edge_claid.gallery.lookup.search import GallerySearch
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery


def cohort(scores):
    scores = np.sort(np.asarray(scores, np.float64))[::-1]
    return Nearest(np.arange(len(scores))[None], scores[None])


def test_a_standing_counts_standard_deviations_from_the_cohort(monkeypatch):
    monkeypatch.setattr(naming, "PRIOR_PICTURES", 0)
    scores = np.random.default_rng(0).normal(0.3, 0.05, 125)
    counted = np.sort(scores)[::-1][naming.SKIPPED : naming.SKIPPED + naming.COHORT]
    (found,) = standing(np.array([0.7]), cohort(scores), ())
    assert found == pytest.approx((0.7 - counted.mean()) / counted.std())


def test_an_items_own_pictures_are_not_in_its_cohort():
    others = np.random.default_rng(1).normal(0.2, 0.03, 110)
    with_own = cohort([*others, 0.8, 0.79, 0.78, 0.77, 0.76, 0.75, 0.74, 0.73])
    own = with_own.image_ids[0, :8].tolist()
    (alone,) = standing(np.array([0.8]), cohort(others), ())
    assert standing(np.array([0.8]), with_own, own) == pytest.approx([alone])
    assert standing(np.array([0.8]), with_own, ())[0] < alone


def test_what_resembles_everything_stands_out_less_than_what_resembles_one_thing():
    plain, distinct = cohort(np.linspace(0.3, 0.5, 120)), cohort(np.linspace(0.05, 0.15, 120))
    assert standing(np.array([0.55]), plain, ())[0] < standing(np.array([0.35]), distinct, ())[0]


def test_a_gallery_of_a_few_pictures_gives_a_sober_standing():
    (found,) = standing(np.array([0.9]), cohort([0.2, 0.2]), ())
    assert 5 < found < 50
    assert np.isfinite(standing(np.array([0.9]), Nearest(np.empty((1, 0), np.int64), np.empty((1, 0))), ())).all()


@pytest.fixture
def labelled(tmp_path):
    """Twelve pictures; "cup" on 0 to 2, of which only 0 shows what picture 20 shows; "mug" on 3."""
    with Gallery.open(tmp_path / "g.claid", "create") as gallery:
        gallery.bind("aa", {"x": 1}, DIM)
        root = register_root(gallery, str(tmp_path), "photos").id
        labels = {0: "cup", 1: "cup", 2: "cup", 3: "mug"}
        gallery.add([NewImage(root, f"{i}.png", bytes([i]) * 32, 9, 9, described(i), labels.get(i)) for i in range(12)])
        yield gallery


def scored(gallery, seed, **options):
    items = Items.of({row.id: row.label for row in gallery.images()})
    search = GallerySearch(gallery, ops.load("reference").code_scan)
    return item_scores(search, described(seed).descriptors.values, items, 4, **options)


def test_only_labelled_items_are_named_and_each_by_its_best_picture(labelled):
    found = scored(labelled, 3)
    assert found.items == ["cup", "mug"]
    assert found.standings.shape == found.scores.shape == (4, 2)
    assert (found.standings[:, 1] > found.standings[:, 0]).all()
    assert set(found.images[:, 1]) == {row.id for row in labelled.images() if row.label == "mug"}


def test_unlabelled_pictures_are_items_of_their_own_where_nothing_is_labelled(labelled):
    with labelled.batch() as batch:
        for row in labelled.images():
            batch.label(row.id, None)
    found = scored(labelled, 5)
    assert len(found.items) <= naming.MOST_ITEMS
    (column,) = np.unique(found.standings.argmax(axis=1))
    assert found.items[column] == f"image {found.images[0, column]}"


def test_what_one_of_many_pictures_shows_is_not_yet_the_item(labelled):
    alone = scored(labelled, 0).scores[:, 0]
    with labelled.batch() as batch:
        for row in labelled.images():
            if row.path in ("4.png", "5.png", "6.png"):
                batch.label(row.id, "cup")
    among_six = scored(labelled, 0).scores[:, 0]
    assert (among_six < alone - 0.15).all()


def test_an_item_that_is_asked_for_is_scored_and_nothing_else_is_invented(labelled, monkeypatch):
    monkeypatch.setattr(naming, "MOST_ITEMS", 1)
    assert scored(labelled, 3).items == ["mug"]
    assert scored(labelled, 3, also=["cup", "gone"]).items == ["cup", "mug"]


def test_a_label_with_many_pictures_is_compared_by_a_spread_of_them():
    items = Items.of(dict.fromkeys(range(100), "cup"))
    chosen = items.compared(["cup", "gone"])
    assert len(chosen) == naming.MOST_PICTURES
    assert (chosen[0], chosen[-1]) == (0, 99)
