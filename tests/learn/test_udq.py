"""The alternating loop on made-up clusters, where it is known which regions belong together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="learning needs torch: pip install 'edge-claid[learn]'")

from edge_claid.codes.opq import train_opq  # noqa: E402
from edge_claid.codes.projection import Projection, fit_whitening, normalised  # noqa: E402
from edge_claid.codes.space import CodeSpace  # noqa: E402
from edge_claid.errors import UsageError  # noqa: E402
from edge_claid.learn.heads import ProjectionHead  # noqa: E402
from edge_claid.learn.losses.discriminability import discriminability_loss  # noqa: E402
from edge_claid.learn.losses.quantisation import quantisation_loss  # noqa: E402
from edge_claid.learn.udq import Progress, UdqSettings, drawn, learn_udq, optimised, supervised  # noqa: E402

CLUSTERS, ROWS, WIDTH, KEPT = 40, 1600, 32, 16


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (N, D) and their clusters (N,): centres differ in 8 of 32 directions, noise is in all of them."""
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, CLUSTERS, ROWS)
    centres = np.zeros((CLUSTERS, WIDTH))
    centres[:, :8] = rng.normal(size=(CLUSTERS, 8))
    return normalised(centres[clusters] + 0.5 * rng.normal(size=(ROWS, WIDTH))).astype(np.float32), clusters


@pytest.fixture(scope="module")
def start(clustered: tuple[np.ndarray, np.ndarray]) -> Projection:
    return fit_whitening(clustered[0], KEPT, power=0.5)


@pytest.fixture(scope="module")
def learned(clustered, start) -> tuple[CodeSpace, list[Progress]]:
    told: list[Progress] = []
    return learn_udq(clustered[0], start, UdqSettings(2, "bfr", steps=100), told.append), told


def precision(space: CodeSpace, descriptors: np.ndarray, clusters: np.ndarray) -> float:
    """Share of the same cluster among the 20 nearest by codes, over 200 queries."""
    tables, codes = space.tables(descriptors[:200]), space.encode(descriptors)
    distances = sum(tables[:, m, codes[:, m]] for m in range(codes.shape[1]))
    distances[np.arange(200), np.arange(200)] = np.inf
    return float((clusters[np.argsort(distances, axis=1)[:, :20]] == clusters[:200, None]).mean())


def spread(features: np.ndarray, clusters: np.ndarray) -> float:
    """Scatter inside the clusters as a share of all scatter."""
    means = np.stack([features[clusters == cluster].mean(axis=0) for cluster in range(CLUSTERS)])
    return float(np.square(features - means[clusters]).sum() / np.square(features - features.mean(axis=0)).sum())


def test_clusters_are_found_better_and_lie_closer_together(clustered, start, learned):
    descriptors, clusters = clustered
    plain = CodeSpace(start, train_opq(start.project(descriptors), 2))
    before, after = precision(plain, descriptors, clusters), precision(learned[0], descriptors, clusters)
    assert 0.3 < before < 0.7  # neither hopeless nor solved
    assert after > before + 0.1
    assert spread(start.project(descriptors), clusters) > 0.45
    assert spread(learned[0].project(descriptors), clusters) < 0.4


def test_supervision_from_unrefined_features_teaches_nothing(clustered, start, learned):
    # The features' own code book only confirms where its borders happened to fall; refinement brings what is new.
    descriptors, clusters = clustered
    alone = learn_udq(descriptors, start, UdqSettings(2, "none", steps=100))
    assert precision(alone, descriptors, clusters) < precision(learned[0], descriptors, clusters) - 0.1


def test_progress_is_told_and_the_separability_loss_falls_within_a_module(learned):
    told = learned[1]
    assert [progress.done for progress in told] == list(range(50, 301, 50))
    assert {progress.steps for progress in told} == {300}
    for first, last in ((0, 1), (2, 3), (4, 5)):
        assert told[last].separability < told[first].separability
    assert told[-1].quantisation < 0.8 * told[0].quantisation


def test_every_row_is_drawn_once_before_any_comes_again():
    settings = UdqSettings(2, steps=7, batch=4)
    batches = list(drawn(10, settings, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2, 4]
    for start_row in (0, 3):
        assert sorted(torch.cat(batches[start_row : start_row + 3]).tolist()) == list(range(10))
    assert batches[0].tolist() != batches[3].tolist()


def test_the_balance_draws_features_to_their_codewords(clustered, start):
    values = start.project(clustered[0])
    distances = {}
    for balance in (0.0, 10.0):
        settings = UdqSettings(2, balance=balance, steps=150)
        supervision, head = supervised(values, settings), ProjectionHead(KEPT)
        assert len(list(optimised(head, values, supervision, settings, torch.Generator().manual_seed(0)))) == 3
        chosen = torch.from_numpy(supervision.book.centroids)[torch.arange(2), supervision.codes]
        rotated = torch.from_numpy(supervision.book.rotate(head.features(values))).view(len(values), 2, -1)
        distances[balance] = float(discriminability_loss(rotated, chosen))
        distances["start"] = quantisation_loss(values, supervision.book)
    assert distances[10.0] < distances["start"]
    assert distances[10.0] < 0.98 * distances[0.0]


def test_a_head_starts_as_the_identity_and_folds_into_its_projection(clustered, start):
    values = start.project(clustered[0][:50])
    head = ProjectionHead(KEPT)
    np.testing.assert_allclose(head.features(values), values, atol=1e-6)
    with torch.no_grad():
        head.linear.weight += 0.3 * torch.randn(KEPT, KEPT, generator=torch.Generator().manual_seed(1))
    features = head.features(values)
    assert np.abs(features - values).max() > 0.1
    np.testing.assert_allclose(head.folded_into(start).project(clustered[0][:50]), features, atol=1e-5)


def test_the_same_seed_gives_the_same_space_and_another_seed_another(clustered, start, learned):
    again = learn_udq(clustered[0], start, UdqSettings(2, "bfr", steps=100))
    assert again.id == learned[0].id
    assert learn_udq(clustered[0], start, UdqSettings(2, "bfr", steps=5, iterations=0, seed=1)).id != again.id


def test_the_space_is_stored_as_any_other(clustered, learned):
    again = CodeSpace.from_bytes(learned[0].to_bytes())
    assert again.id == learned[0].id
    np.testing.assert_array_equal(again.encode(clustered[0]), learned[0].encode(clustered[0]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bytes": 3}, "do not divide"),
        ({"bytes": 0}, "do not divide"),
        ({"refine": "pca"}, "none, bfr, pbr, cbr"),
        ({"iterations": -1}, "iterations >= 0"),
        ({"steps": 0}, "steps >= 1"),
        ({"batch": 0}, "a batch of"),
        ({"learning_rate": 0.0}, "learning rate above 0"),
        ({"balance": -1.0}, "balance"),
        ({"balance": float("nan")}, "balance"),
    ],
)
def test_settings_that_cannot_work_are_refused(clustered, start, change, words):
    with pytest.raises(UsageError, match=words):
        learn_udq(clustered[0], start, dataclasses.replace(UdqSettings(2), **change))


def test_too_few_regions_and_nan_are_refused(clustered, start):
    with pytest.raises(UsageError, match="at least 256 regions"):
        learn_udq(clustered[0][:255], start, UdqSettings(2))
    broken = clustered[0].copy()
    broken[7, 3] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        learn_udq(broken, start, UdqSettings(2))
