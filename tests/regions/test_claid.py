"""Which nodes of a tree are regions, whose children they are, and where they lie in the picture."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from edge_claid.config import RegionSettings
from edge_claid.errors import BadImageError, UsageError
from edge_claid.ops.cpu import decomposition_op
from edge_claid.ops.reference.decomposition import decompose
from edge_claid.ops.reference.decomposition_settings import DecompositionSettings
from edge_claid.ops.reference.region_tree import Tree
from edge_claid.records import Regions, Tokens
from edge_claid.regions.claid import ClaidDetector, boxes_from_masks, kept_nodes

PLAIN = RegionSettings(alpha=0.2, tau1=0.97, tau2=0.1, smallest=15, merge_iou=1.0, center=False)


def tree_of(areas: list[int], parents: list[int], high: list[int]) -> Tree:
    count = len(areas)
    return Tree(
        masks=np.zeros((count, 13), np.uint8),
        parents=np.array(parents, np.int32),
        depths=np.zeros(count, np.int32),
        areas=np.array(areas, np.int32),
        high=np.array(high, np.int32),
        edges=np.zeros(count, np.int64),
    )


@pytest.fixture(scope="module")
def golden_tokens(shared_data) -> list[Tokens]:
    arrays = np.load(shared_data / "golden" / "claid_golden.npz")
    index = json.loads(bytes(arrays["index_json"]).decode())
    return [
        Tokens(
            arrays[f"{entry['key']}/tokens_f16"].astype(np.float32),
            tuple(entry["grid"]),
            (entry["orig_hw"][1], entry["orig_hw"][0]),
        )
        for entry in index
    ]


def same(one: Regions, other: Regions) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(Regions)]
    return all(np.array_equal(a, b) for a, b in pairs)


def test_dummies_are_passed_over_and_their_children_go_to_the_nearest_kept_ancestor():
    tree = tree_of([100, 60, 40, 30, 20], [-1, 0, 0, 1, 3], [30, 3, 10, 9, 5])  # node 1 has 5 % of high energy
    kept, parents = kept_nodes(tree, tau2=0.1, merge_iou=1.0)
    assert kept.tolist() == [0, 2, 3, 4]
    assert parents.tolist() == [-1, 0, 0, 2]


def test_a_share_equal_to_tau2_is_a_dummy():
    kept, _ = kept_nodes(tree_of([100, 50, 40], [-1, 0, 0], [30, 5, 5]), tau2=0.1, merge_iou=1.0)
    assert kept.tolist() == [0, 2]


def test_the_root_is_kept_whatever_its_energy():
    kept, parents = kept_nodes(tree_of([100], [-1], [0]), tau2=0.5, merge_iou=0.5)
    assert (kept.tolist(), parents.tolist()) == ([0], [-1])


def test_regions_like_their_nearest_kept_ancestor_are_merged_into_it():
    tree = tree_of([100, 95, 91, 80, 75], [-1, 0, 1, 2, 3], [50, 50, 50, 50, 50])
    kept, parents = kept_nodes(tree, tau2=0.1, merge_iou=0.9)
    assert kept.tolist() == [0, 3]  # 95 and 91 overlap the root too much, 75 overlaps 80
    assert parents.tolist() == [-1, 0]
    assert kept_nodes(tree, tau2=0.1, merge_iou=1.0)[0].tolist() == [0, 1, 2, 3, 4]


def test_boxes_scale_each_axis_by_its_own_and_end_after_the_last_cell():
    mask = np.zeros((2, 4, 5), bool)
    mask[0, 1:3, 2] = True
    mask[1] = True
    packed = np.packbits(mask.reshape(2, -1), axis=1, bitorder="little")
    boxes = boxes_from_masks(packed, (4, 5), (1000, 400))
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[400, 100, 600, 300], [0, 0, 1000, 400]])


def test_regions_of_real_tokens(golden_tokens):
    detector = ClaidDetector(PLAIN, decompose)
    regions = detector.detect(golden_tokens[0])
    width, height = golden_tokens[0].image_size
    assert len(regions) > 8
    np.testing.assert_array_equal(regions.boxes[0], [0, 0, width, height])
    assert regions.parents[0] == -1
    assert (regions.energy[1:] > PLAIN.tau2).all()
    assert ((regions.connectivity >= 0) & (regions.connectivity <= 1)).all()
    for row in range(1, len(regions)):
        parent, mask = regions.parents[row], regions.mask(row)
        assert 0 <= parent < row
        assert not (mask & ~regions.mask(parent)).any()
        assert mask.sum() == regions.areas[row] >= PLAIN.smallest
        assert (regions.boxes[row, :2] >= regions.boxes[parent, :2]).all()
        assert (regions.boxes[row, 2:] <= regions.boxes[parent, 2:]).all()


def test_merging_leaves_out_regions_and_keeps_the_others(golden_tokens):
    merged = settings_with(merge_iou=0.6)
    counts = []
    for tokens in golden_tokens:
        all_regions = ClaidDetector(PLAIN, decomposition_op.decompose).detect(tokens)
        some = ClaidDetector(merged, decomposition_op.decompose).detect(tokens)
        assert {mask.tobytes() for mask in some.masks} <= {mask.tobytes() for mask in all_regions.masks}
        counts.append((len(all_regions), len(some)))
    assert sum(some for _, some in counts) < sum(every for every, _ in counts)


def settings_with(**changes) -> RegionSettings:
    return dataclasses.replace(PLAIN, **changes)


def test_reference_cpu_and_batch_agree(golden_tokens):
    mean = golden_tokens[0].features.mean(axis=0)
    settings = RegionSettings()
    one = [ClaidDetector(settings, decompose, mean).detect(tokens) for tokens in golden_tokens[:5]]
    for threads in (1, 3):
        batch = ClaidDetector(settings, decomposition_op.decompose, mean).detect_batch(golden_tokens[:5], threads)
        assert all(same(a, b) for a, b in zip(one, batch, strict=True))
    assert len({len(regions) for regions in one}) > 1


def test_the_floating_point_mode_detects_through_the_same_door(golden_tokens):
    regions = ClaidDetector(PLAIN, decomposition_op.decompose_float).detect(golden_tokens[0])
    assert len(regions) > 8


def test_settings_reach_the_op(golden_tokens):
    tokens = golden_tokens[0]
    usual = ClaidDetector(PLAIN, decomposition_op.decompose).detect(tokens)
    for changed in (
        settings_with(alpha=0.5),
        settings_with(tau1=0.3),
        settings_with(smallest=60),
        settings_with(energy_share=0.05),
    ):
        assert not same(usual, ClaidDetector(changed, decomposition_op.decompose).detect(tokens)), changed


def test_fewer_tokens_than_a_region_needs_give_the_root_alone():
    tokens = Tokens(np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32), (3, 4), (40, 30))
    regions = ClaidDetector(PLAIN, decomposition_op.decompose).detect(tokens)
    assert len(regions) == 1
    np.testing.assert_array_equal(regions.boxes, [[0, 0, 40, 30]])


def test_centring_without_a_mean_token_is_wrong_use():
    with pytest.raises(UsageError, match="mean token"):
        ClaidDetector(RegionSettings(center=True), decompose)


def test_no_threads_are_wrong_use():
    with pytest.raises(UsageError, match="threads"):
        ClaidDetector(PLAIN, decompose).detect_batch([], 0)


def test_tokens_that_are_not_finite_are_a_bad_image():
    tokens = Tokens(np.full((16, 8), np.nan, np.float32), (4, 4), (40, 40))
    with pytest.raises(BadImageError, match="not finite"):
        ClaidDetector(PLAIN, decomposition_op.decompose).detect(tokens)


def test_a_bad_picture_does_not_end_a_batch():
    rng = np.random.default_rng(2)
    good = Tokens(rng.normal(size=(64, 8)).astype(np.float32), (8, 8), (40, 40))
    bad = Tokens(np.full((64, 8), np.inf, np.float32), (8, 8), (40, 40))
    detector = ClaidDetector(PLAIN, decomposition_op.decompose)
    first, error, last = detector.detect_batch([good, bad, good], threads=2)
    assert isinstance(error, BadImageError)
    assert same(first, detector.detect(good))
    assert same(last, first)


def test_settings_reach_the_op_by_their_names():
    chosen = RegionSettings(alpha=0.31, tau1=0.9, energy_share=0.2, smallest=11)
    handed = DecompositionSettings(**chosen.decomposition)
    assert (handed.alpha, handed.tau1, handed.energy_share, handed.smallest) == (0.31, 0.9, 0.2, 11)
    with pytest.raises(TypeError, match="alpa"):
        decompose(np.ones((16, 8), np.float32), (4, 4), alpa=0.3)
