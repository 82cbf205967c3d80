"""The shipped decomposition kernels on the model of a GPU (tests/ops/cuda_model): the reference's trees to the bit.

The same cases run on a real device by ``pytest -m gpu``.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from cuda_devices import model_devices
from decomposition_cases import golden_cases, made_cases, same, unusable

from edge_claid.errors import BadImageError, MachineError, UsageError
from edge_claid.ops.cpu import decomposition_op as cpu
from edge_claid.ops.cuda import decomposition_op as cuda
from edge_claid.regions.claid import boxes_from_masks, kept_nodes

MADE = made_cases()


@pytest.mark.parametrize("name", sorted(MADE))
@pytest.mark.parametrize("device", model_devices(), indirect=True)
def test_made_tokens_give_the_references_tree(device, name):
    case = MADE[name]
    (tree,) = cuda.decompose_batch(device, [case.features], case.grid, **case.options)
    assert same(tree, cpu.decompose(case.features, case.grid, **case.options))


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_golden_tokens_give_the_references_tree(device, shared_data):
    cases = list(golden_cases(shared_data).items())
    for name, case in cases[:4] if device.is_model else cases:
        (tree,) = cuda.decompose_batch(device, [case.features], case.grid, **case.options)
        assert same(tree, cpu.decompose(case.features, case.grid, **case.options)), name


@pytest.mark.parametrize("device", model_devices(orders=["shuffled"]), indirect=True)
def test_a_bad_image_does_not_touch_the_others_of_its_batch(device):
    rng = np.random.default_rng(5)
    good = [rng.standard_normal((150, 24)).astype(np.float32) for _ in range(3)]
    bad = good[1].copy()
    bad[7, 3] = np.nan
    first, error, last = cuda.decompose_batch(device, [good[0], bad, good[2]], (10, 15), smallest=2)
    assert isinstance(error, BadImageError)
    assert same(first, cpu.decompose(good[0], (10, 15), smallest=2))
    assert same(last, cpu.decompose(good[2], (10, 15), smallest=2))


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
@pytest.mark.parametrize("name", sorted(unusable()))
def test_tokens_that_are_not_finite_are_told(device, name):
    (answer,) = cuda.decompose_batch(device, [unusable()[name]], (4, 4))
    assert isinstance(answer, BadImageError)


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_more_nodes_than_there_is_room_for_grow_the_room(device, monkeypatch):
    monkeypatch.setattr(cuda, "CAPACITY", 2)
    case = MADE["small parts"]
    images = [case.features, case.features[::-1].copy()]
    trees = cuda.decompose_batch(device, images, case.grid, **case.options)
    wanted = [cpu.decompose(features, case.grid, **case.options) for features in images]
    assert min(map(len, wanted)) > 8
    assert all(same(tree, other) for tree, other in zip(trees, wanted, strict=True))
    if device.is_model:
        assert device.launched.count("grow_tree") >= 4
        assert device.launched.count("gram_tiles") == 1


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_no_images_give_no_trees(device):
    assert cuda.decompose_batch(device, [], (4, 4)) == []


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_a_grid_beyond_the_shared_memory_is_refused(device):
    device.shared_limit = 48 * 1024
    with pytest.raises(MachineError, match="shared memory"):
        cuda.decompose_batch(device, [np.ones((6400, 4), np.float32)], (80, 80))


def test_memory_that_does_not_suffice_leaves_nothing_behind(tmp_path):
    device = pytest.importorskip("model_device").ModelDevice(tmp_path, memory=1 << 20)
    with device, pytest.raises(MachineError, match=r"no .* bytes left"):
        cuda.decompose_batch(device, [np.ones((1024, 64), np.float32)], (32, 32))


@pytest.mark.parametrize("device", model_devices(orders=["ascending"]), indirect=True)
def test_wrong_use_is_named(device):
    with pytest.raises(UsageError, match="do not fill a grid"):
        cuda.decompose_batch(device, [np.ones((16, 8), np.float32)], (4, 5))
    for images in (0, 65536):
        with pytest.raises(UsageError, match="images a launch"):
            cuda.CudaDecomposition(device, images, (4, 4), 8)


@pytest.mark.parametrize("device", model_devices(), indirect=True)
@pytest.mark.parametrize(("tau2", "merge_iou"), [(-1.0, 0.9), (0.2, 0.6), (0.1, 1.0)])
def test_regions_are_chosen_as_the_detector_does(device, tau2, merge_iou):
    case = MADE["small parts"]
    bad = case.features.copy()
    bad[0, 0] = np.inf
    images, sizes = (
        [case.features, bad, case.features[::-1].copy()],
        np.array([[640, 427], [9, 9], [333, 500]], np.int32),
    )
    options = {"alpha": 0.2, "smallest": 2}
    with contextlib.ExitStack() as stack:
        op = stack.enter_context(cuda.CudaDecomposition(device, 3, case.grid, case.features.shape[1]))
        features, shapes = device.upload(np.stack(images)), device.upload(sizes)
        stack.callback(features.close)
        stack.callback(shapes.close)
        found = op.run(features, **options).regions(shapes, tau2, merge_iou)
        stack.callback(found.close)
        host = {name: device.download(array) for name, array in found.arrays.items()}
    assert host["counts"][1] == 0
    for image in (0, 2):
        tree = cpu.decompose(images[image], case.grid, **options)
        kept, parents = kept_nodes(tree, tau2, merge_iou)
        count = len(kept)
        assert host["counts"][image] == count > 2
        np.testing.assert_array_equal(host["kept"][image, :count], kept)
        np.testing.assert_array_equal(host["kept_parents"][image, :count], parents)
        boxes = boxes_from_masks(tree.masks[kept], case.grid, tuple(sizes[image].tolist()))
        np.testing.assert_array_equal(host["boxes"][image, :count], boxes)
