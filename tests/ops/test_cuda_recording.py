"""Launches recorded once and replayed on new content, on the model of a GPU, and on a real one by ``-m gpu``."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from cuda_devices import model_devices

from edge_claid.ops.cuda.decomposition_op import CudaDecomposition
from edge_claid.ops.cuda.pool_op import MapPooling, MasksOfRegions, RegionsOfMaps

GRID, WIDTH, ROOM = (9, 11), 24, 64


def tokens(seed):
    """A few clusters of tokens, one picture."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, WIDTH))
    coarse = rng.integers(0, 5, (3, 4))
    labels = coarse.repeat(3, 0).repeat(3, 1)[: GRID[0], : GRID[1]].ravel()
    return (centres[labels] + rng.normal(0, 0.1, (len(labels), WIDTH))).astype(np.float32)[None]


@pytest.mark.parametrize("device", model_devices(), indirect=True)
def test_a_replay_works_on_what_lies_there_now(device):
    options = {"alpha": 0.5, "tau1": 0.9, "energy_share": 0.3, "smallest": 3}
    maps = np.random.default_rng(1).gamma(1.0, 1.0, (1, 40, 5, 6)).astype(np.float32)
    with contextlib.ExitStack() as stack:

        def kept(array):
            stack.callback(array.close)
            return array

        op = stack.enter_context(CudaDecomposition(device, 1, GRID, WIDTH))
        pooling = stack.enter_context(MapPooling(device, 3.0, 1.0))
        features, values = kept(device.upload(tokens(0))), kept(device.upload(maps))
        sizes = kept(device.upload(np.array([[110, 90]], np.int32)))
        images = kept(device.upload(np.zeros(ROOM, np.int32)))
        pooled, copied = (kept(device.empty((ROOM, 40), np.float32)) for _ in range(2))
        room = kept(op.start(features, **options).regions(sizes, -1.0, 0.9))

        def work():
            device.fill(pooled, 0)
            trees = op.start(features, **options)
            found = trees.regions(sizes, -1.0, 0.9, room).arrays
            words, rows = trees.arrays["masks"], found["kept"].reshaped((found["kept"].shape[1],))
            masks = MasksOfRegions(words.reshaped(words.shape[1:]), rows.part(0, ROOM), GRID)
            boxes = found["boxes"].reshaped(found["boxes"].shape[1:]).part(0, ROOM)
            pooling.pool(values, RegionsOfMaps(boxes, images, sizes, found["counts"], masks), pooled)
            device.copy(pooled, copied)

        def answer():
            count = int(device.download(room.arrays["counts"])[0])
            return count, device.download(room.arrays["boxes"])[0, :count], device.download(copied)

        work()
        recording = device.record(work)
        stack.callback(recording.close)
        counts = set()
        for seed in (0, 3, 4):
            device.upload(tokens(seed), features)
            recording.launch()
            replayed = answer()
            device.upload(np.zeros((ROOM, 40), np.float32), copied)
            work()
            for a, b in zip(replayed, answer(), strict=True):
                np.testing.assert_array_equal(a, b)
            count, _, descriptors = replayed
            assert np.linalg.norm(descriptors[:count], axis=1) == pytest.approx(1, abs=1e-4)
            assert not descriptors[count:].any()
            counts.add(count)
        assert len(counts) > 1
