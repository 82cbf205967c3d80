"""Refinements against their plain reading, and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")

from edge_claid.errors import UsageError
from edge_claid.learn import refine


def test_brute_force_by_hand():
    features = np.array([[0.0], [1.0], [3.0], [10.0]], np.float32)
    # Two nearest: of 0 they are 1 and 3, of 1 they are 0 and 3, of 3 they are 1 and 0, of 10 they are 3 and 1.
    np.testing.assert_allclose(refine.brute_force_refined(features, 2)[:, 0], [4 / 3, 4 / 3, 4 / 3, 14 / 3], rtol=1e-6)


def test_brute_force_against_one_row_at_a_time():
    features = np.random.default_rng(3).normal(size=(1100, 8)).astype(np.float32)  # several blocks
    refined = refine.brute_force_refined(features, 5)
    for row in (0, 255, 256, 1099):
        distances = np.square(features - features[row]).sum(axis=1)
        others = np.argsort(distances)[1:6]
        np.testing.assert_allclose(refined[row], (features[row] + features[others].sum(axis=0)) / 6, rtol=1e-4)


def test_fewer_features_than_neighbours_gives_the_mean_of_all():
    features = np.random.default_rng(4).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(refine.brute_force_refined(features, 10), np.tile(features.mean(axis=0), (4, 1)), 1e-5)
    np.testing.assert_array_equal(refine.brute_force_refined(features[:1], 10), features[:1])


@pytest.fixture
def islands() -> tuple[np.ndarray, np.ndarray]:
    """800 features on 100 far islands of eight each, and the island of each."""
    rng = np.random.default_rng(7)
    island = np.repeat(np.arange(100), 8)
    return rng.normal(size=(100, 6))[island] * 50 + 0.01 * rng.normal(size=(800, 6)), island


def test_proposal_refinement_stays_within_a_cluster(islands):
    features, island = islands[0].astype(np.float32), islands[1]
    refined = refine.proposal_refined(features, 50)
    for name in (0, 57):
        own = features[island == name]
        assert np.abs(refined[island == name] - own.mean(axis=0)).max() < 0.05
    assert not np.array_equal(refined, features)


def test_centre_refinement_goes_half_way_to_the_centre(islands):
    features = islands[0].astype(np.float32)
    clusters, centres = refine._clustered(features, 0)
    refined = refine.centre_refined(features)
    np.testing.assert_allclose(refined - features, (centres[clusters] - features) / 2, atol=1e-4)
    for cluster in np.unique(clusters)[:20]:
        np.testing.assert_allclose(centres[cluster], features[clusters == cluster].mean(axis=0), rtol=1e-3, atol=1e-3)


def test_none_changes_nothing_and_another_name_is_refused(islands):
    assert refine.refinement_named("none")(islands[0], 0) is islands[0]
    with pytest.raises(UsageError, match="bfr, pbr, cbr"):
        refine.refinement_named("pca")
