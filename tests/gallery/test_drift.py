"""Drift of the quantisation error: measured where the newest images differ from those the code book knows."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
from made_up import DIM, described

from edge_claid.codes.space import train_space
from edge_claid.config import CodeSettings
from edge_claid.gallery.drift import LIMIT, TRAINED_ON, drift_of, drift_warning, error_factor, read_drift
from edge_claid.gallery.roots import register_root
from edge_claid.gallery.storage.batch import residual
from edge_claid.gallery.storage.rows import NewImage
from edge_claid.gallery.store import Gallery
from edge_claid.records import Described, Descriptors

SETTINGS = CodeSettings(width=16, bytes=4, views=0)


def image_of(seed: int, directions: np.ndarray, count: int = 40) -> NewImage:
    """An image whose descriptors lie near a few directions (K, DIM)."""
    rng = np.random.default_rng(seed)
    values = directions[rng.integers(0, len(directions), count)] + rng.normal(size=(count, DIM)) * 0.05
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    regions = described(seed, count).regions
    return NewImage(1, f"{seed}.png", struct.pack(">Q", seed), 1, 2, Described(regions, Descriptors(values)))


@pytest.fixture
def directions() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(12, DIM))


@pytest.fixture
def path(tmp_path: Path, directions: np.ndarray) -> Path:
    """A gallery of sixty images near six directions, coded in a space trained on them, descriptors kept."""
    path = tmp_path / "g.claid"
    with Gallery.open(path, "create") as gallery:
        gallery.bind("aa", {}, DIM, keep_descriptors=True)
        register_root(gallery, str(tmp_path), "photos")
        gallery.add([image_of(seed, directions[:6]) for seed in range(60)])
        gallery.adopt_space(train_space(gallery.descriptors(10**6), SETTINGS))
    return path


def test_like_images_do_not_drift_and_others_do(path: Path, directions: np.ndarray) -> None:
    with Gallery.open(path, "rw") as gallery:
        assert drift_of(gallery) is None
        gallery.add([image_of(seed, directions[:6]) for seed in range(100, 130)])
        alike = drift_of(gallery)
        gallery.add([image_of(seed, directions[6:]) for seed in range(200, 500)])
        others = drift_of(gallery)
        warning = drift_warning(gallery)
        assert gallery.info().drift == others
    assert 0.5 < alike.ratio < LIMIT
    assert alike.at_training < alike.present < alike.newest
    assert not alike.drifted
    assert others.ratio > 2 * alike.ratio
    assert others.newest > others.present
    assert others.drifted
    assert "gallery retrain" in warning
    assert str(path) in warning


def test_the_residual_is_the_error_of_the_stored_codes(path: Path) -> None:
    with Gallery.open(path) as gallery, gallery.reading() as connection:
        index = gallery.load_index(exact=True)
        space = gallery.space
        errors = []
        for i in range(len(index.image_ids)):
            own = slice(index.starts[i], index.starts[i + 1])
            errors.append(residual(space, index.descriptors[own].astype(np.float32), index.codes[own]))
        stored = [row[0] for row in connection.execute("SELECT residual FROM codes ORDER BY image")]
        at_training = connection.execute("SELECT error FROM code_spaces").fetchone()[0]
    np.testing.assert_allclose(stored, errors, rtol=1e-6)
    assert at_training == pytest.approx(np.mean(errors))
    assert 0 < at_training < 1


def test_training_anew_settles_it(path: Path, directions: np.ndarray) -> None:
    with Gallery.open(path, "rw") as gallery:
        gallery.add([image_of(seed, directions[6:]) for seed in range(200, 300)])
        assert drift_of(gallery).drifted
        gallery.adopt_space(train_space(gallery.descriptors(10**6), SETTINGS))
        assert drift_of(gallery) is None
        gallery.add([image_of(seed, directions) for seed in range(300, 320)])
        assert not drift_of(gallery).drifted


def test_a_few_regions_change_little(path: Path, directions: np.ndarray) -> None:
    with Gallery.open(path, "rw") as gallery:
        gallery.add([image_of(500, directions[6:], 20)])
        drift = drift_of(gallery)
        assert drift.newest > 2 * drift.at_training
        assert not drift.drifted
        assert drift_warning(gallery) is None


def test_a_large_gallery_is_trained_on_a_part() -> None:
    factors = [error_factor(regions) for regions in (600, 5_000, TRAINED_ON, 10 * TRAINED_ON, 1000 * TRAINED_ON)]
    assert factors == sorted(factors)
    assert factors[0] < 0.5
    assert factors[2] < 1 < factors[3] < factors[4] < 1.1


def test_ids_that_no_gallery_gives_are_no_drift(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE images SET id = -1 - id")
        connection.execute("UPDATE codes SET image = -1 - image")
        for table in ("code_spaces", "space_copies"):
            connection.execute(f"UPDATE {table} SET newest = -1000000")
        assert read_drift(connection) is None
    connection.close()
