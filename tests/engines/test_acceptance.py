"""The acceptance test passes what is right and stops what is wrong, whatever form the wrong takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_network import save_map_network, small_network, small_pictures, small_recipe, small_settings

from edge_claid.engines.acceptance import best_ious, compare, float32_run
from edge_claid.engines.recipe import Gate
from edge_claid.records import Regions
from edge_claid.runners.onnx_runner import OnnxRunner


@pytest.fixture
def reported(tmp_path):
    """Compares the small network with itself behind a change of its outputs."""
    network = small_network(save_map_network(tmp_path / "small.onnx"))

    def report(change=lambda outputs, number: outputs, gate=None, pictures=None):
        known = small_recipe() if gate is None else small_recipe(gate=gate)
        with OnnxRunner(network.path, threads=1) as runner:
            reference = float32_run(runner, network, known)
            count = iter(range(100))
            shown = pictures or small_pictures()
            return compare(
                network, known, small_settings(), shown, reference, lambda batch: change(reference(batch), next(count))
            )

    return report


def test_equal_outputs_pass(reported):
    report = reported()
    assert report.failures == ()
    assert report.pictures == 3
    assert report.map_cosine_mean == pytest.approx(1)
    assert report.descriptor_cosine_least == pytest.approx(1)
    assert report.token_cosine_mean is None


def test_outputs_that_are_not_finite_fail(reported):
    report = reported(lambda outputs, number: [np.where(outputs[0] == outputs[0].max(), np.nan, outputs[0])])
    assert report.failures == ("some features are not finite",)
    assert report.as_json()["map_cosine_mean"] is None


def test_the_same_features_for_every_picture_fail(reported):
    """The failure of blakeblackshear/frigate#24159: plausible values, whatever is shown."""
    constant = np.random.default_rng(1).uniform(0, 1, (1, 8, 4, 6)).astype(np.float32)
    for pictures in (None, small_pictures(2)):
        report = reported(lambda outputs, number: [constant], gate=Gate(), pictures=pictures)
        assert report.failures == ("different pictures give the same features",)


def test_small_noise_passes_and_large_noise_is_told_by_figure(reported):
    rng = np.random.default_rng(2)

    def noisy(size):
        return lambda outputs, number: [outputs[0] + rng.normal(0, size, outputs[0].shape).astype(np.float32)]

    assert reported(noisy(1e-3)).failures == ()
    failures = reported(noisy(1.0)).failures
    assert any(failure.startswith("map cosine mean is 0.") for failure in failures)
    assert any("descriptor cosine least" in failure for failure in failures)


def test_swapped_channels_fail(reported):
    assert reported(lambda outputs, number: [outputs[0][:, ::-1]]).failures


def test_tokens_are_held_to_cosines_and_regions(tmp_path):
    """A stand-in for a ViT: two halves of a picture give two kinds of tokens."""
    network = small_network(tmp_path / "none.onnx", output="tokens", feature_dim=4, mean_token=np.zeros(4, np.float32))
    settings = replace(small_settings(), regions=replace(small_settings().regions, smallest=1))
    gate = Gate(token_cosine_mean=0.99, token_cosine_least=0.9, region_iou=0.9)
    known = small_recipe(outputs=("tokens",), gate=gate)
    pictures = small_pictures()

    def tokens(batch: np.ndarray, swap: bool = False) -> list[np.ndarray]:
        rows, columns = batch.shape[2] // 8, batch.shape[3] // 8
        grid = np.zeros((rows, columns, 4), np.float32)
        grid[:, : columns // 2, 0] = 1
        grid[:, columns // 2 :, 1] = 1
        grid[..., 2:] = batch.mean(axis=(0, 2, 3))[:2] / 255
        if swap:
            grid[0, 0] = grid[0, -1]
        return [grid.reshape(1, -1, 4)]

    same = compare(network, known, settings, pictures, tokens, tokens)
    assert same.failures == ()
    assert same.region_iou == pytest.approx(1)
    wrong = compare(network, known, settings, pictures, tokens, lambda batch: tokens(batch, True))
    assert wrong.token_cosine_least is not None
    assert wrong.token_cosine_least < 0.9
    assert wrong.region_iou is not None
    assert 0.8 < wrong.region_iou < 1
    assert any("token cosine least" in failure for failure in wrong.failures)


def test_best_iou_by_hand():
    def regions(*masks: list[int]) -> Regions:
        rows = np.packbits(np.array(masks, bool), axis=1, bitorder="little")
        empty = np.zeros(len(masks), np.float32)
        counts = empty.astype(np.int32)
        return Regions(
            np.zeros((len(masks), 4), np.float32), counts, counts, counts, empty, empty, rows, (2, 3), (6, 4)
        )

    wanted = regions([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0])
    found = regions([1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1])
    # best of the first: 2/3; of the second: 1/3, as 2/6 with all.
    assert best_ious(wanted, found).mean() == pytest.approx((2 / 3 + 1 / 3) / 2)
