"""Code spaces and projections."""

from __future__ import annotations

import numpy as np
import pytest

from edge_claid.codes.projection import fit_whitening, normalised, small_projection
from edge_claid.codes.space import CodeSpace, regions_needed, train_space, width_for
from edge_claid.config import CodeSettings
from edge_claid.errors import GalleryError, UsageError

SETTINGS = CodeSettings(bytes=4, width=16)


@pytest.fixture(scope="module")
def descriptors() -> np.ndarray:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(40, 48)) * np.linspace(3, 0.2, 48)
    values = centres[rng.integers(0, 40, 900)] + 0.2 * rng.normal(size=(900, 48))
    return normalised(values).astype(np.float16)


@pytest.fixture(scope="module")
def space(descriptors: np.ndarray) -> CodeSpace:
    return train_space(descriptors, SETTINGS)


def test_a_full_whitening_has_unit_covariance(descriptors):
    projection = fit_whitening(descriptors, 8, power=1.0)
    projected = (descriptors.astype(np.float32) - projection.mean) @ projection.matrix
    np.testing.assert_allclose(np.cov(projected.T), np.eye(8), atol=0.02)


def test_directions_in_which_one_thing_varies_weigh_less(descriptors):
    noisy = np.zeros((48, 48))
    noisy[0, 0] = 100.0
    plain, informed = fit_whitening(descriptors, 8, power=0.5), fit_whitening(descriptors, 8, power=0.5, within=noisy)
    assert np.abs(informed.matrix[0]).sum() < 0.2 * np.abs(plain.matrix[0]).sum()


def test_codes_keep_near_things_near(space, descriptors):
    projected = space.project(descriptors)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-5)
    error = np.linalg.norm(space.book.decode(space.encode(descriptors)) - projected, axis=1)
    assert error.mean() < 0.5


def test_a_space_survives_storage_and_is_named_by_its_content(space, descriptors):
    again = CodeSpace.from_bytes(space.to_bytes())
    assert again.id == space.id
    np.testing.assert_array_equal(again.encode(descriptors), space.encode(descriptors))
    other = train_space(descriptors[:600], SETTINGS)
    assert other.id != space.id


def test_training_is_the_same_every_time(space, descriptors):
    assert train_space(descriptors, SETTINGS).id == space.id


def test_too_few_regions_are_refused_with_the_number_needed(descriptors):
    with pytest.raises(UsageError, match=str(regions_needed(SETTINGS))):
        train_space(descriptors[:100], SETTINGS)


def test_a_code_length_that_does_not_divide_is_refused(descriptors):
    with pytest.raises(UsageError, match="do not divide"):
        train_space(descriptors, CodeSettings(bytes=5, width=16))


def test_nan_is_refused(descriptors):
    broken = descriptors.copy()
    broken[3, 3] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        train_space(broken, SETTINGS)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_truncated_bytes_are_refused(space, keep):
    data = space.to_bytes()
    with pytest.raises(GalleryError):
        CodeSpace.from_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])


def test_small_galleries_get_a_projection_they_can_carry(descriptors):
    assert small_projection(descriptors[:10]).width == 48
    assert small_projection(descriptors[:100]).width == 25
    assert small_projection(descriptors[:1]).project(descriptors[:1]).shape == (1, 48)


def test_parts_keep_their_share_of_the_variance(descriptors):
    loud = np.concatenate([descriptors[:, :16] * 0.8, descriptors[:, 16:] * 0.6], axis=1).astype(np.float32)
    projection = fit_whitening(loud, 48, power=0.5, parts=(16, 32))
    centred = loud - projection.mean
    kept = [float(((centred[:, p] @ projection.matrix[p]) ** 2).sum()) for p in (slice(0, 16), slice(16, 48))]
    norms = [float((loud[:, p] ** 2).sum()) for p in (slice(0, 16), slice(16, 48))]
    assert kept[0] / sum(kept) == pytest.approx(norms[0] / sum(norms), abs=1e-3)
    whole = fit_whitening(loud, 48, power=0.5)
    assert not np.allclose(np.abs(whole.matrix), np.abs(projection.matrix), rtol=0.1)


def test_parts_must_make_up_the_descriptor(descriptors):
    with pytest.raises(UsageError, match="parts"):
        fit_whitening(descriptors, 8, power=0.5, parts=(16, 16))


def test_few_regions_keep_fewer_dimensions():
    settings = CodeSettings(bytes=8, width=512)
    assert [width_for(settings, count) for count in (512, 1023, 1024, 9000)] == [256, 256, 512, 512]
    assert regions_needed(settings) == 512
    assert regions_needed(CodeSettings(bytes=8, width=456)) == 912  # 228 is no multiple of 8
