"""Frames of one size on the model of a GPU: memory that stays, launches that are replayed, room that grows, errors."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_claid import gpu_frame
from edge_claid.codes.space import train_space
from edge_claid.config import CodeSettings, Settings
from edge_claid.descriptors.pool import RegionPooling
from edge_claid.errors import BadImageError, MachineError
from edge_claid.gpu_pipeline import GpuPipeline, coder_of
from edge_claid.models import NetworkFile
from edge_claid.ops.cuda import decomposition_op
from edge_claid.ops.cuda.device import DeviceArray
from edge_claid.ops.cuda.scan_op import CodeScan
from edge_claid.ops.reference.pool import pool_boxes
from edge_claid.records import FeatureMap, Frame

SIZE = (96, 64)
WIDTH = 12


def at(array: DeviceArray) -> np.ndarray:
    content = (ctypes.c_uint8 * array.nbytes).from_address(array.address)
    return np.frombuffer(content, array.dtype).reshape(array.shape)


class MadeUpNetwork:
    """Means of patches through a fixed matrix, as a step that the device runs now or when a recording is replayed.

    strides: a map of each, coarsest first; of tokens, one, laid out (1, N, D). fail: an error that it raises.
    """

    def __init__(self, device, strides, tokens=False, recordable=True):
        self._device, self._strides, self._tokens, self._recordable = device, strides, tokens, recordable
        self._matrix = np.abs(np.random.default_rng(8).normal(size=(3, WIDTH))).astype(np.float32)
        if tokens:
            self._matrix = np.random.default_rng(9).normal(size=(3, WIDTH)).astype(np.float32)
        self.fail: Exception | None = None
        self.seen: list[np.ndarray] = []

    def computed(self, planes):
        outputs = []
        for stride in self._strides:
            _, _, high, wide = planes.shape
            patches = planes.reshape(3, high // stride, stride, wide // stride, stride).mean(axis=(2, 4))
            found = np.einsum("chw,cd->dhw", patches, self._matrix).astype(np.float32)
            outputs.append(found.reshape(1, WIDTH, -1).transpose(0, 2, 1) if self._tokens else found[None])
        return [np.ascontiguousarray(values) for values in outputs]

    def run_all(self, planes):
        with contextlib.ExitStack() as opening:
            outputs = []
            for values in self.computed(at(planes)):
                outputs.append(self._device.empty(values.shape, np.float32))
                opening.callback(outputs[-1].close)
            self.run_into(planes, outputs)
            opening.pop_all()
        return outputs

    def run_into(self, planes, outputs):
        if self.fail is not None:
            raise self.fail

        def step():
            self.seen = self.computed(at(planes))
            for values, output in zip(self.seen, outputs, strict=True):
                at(output)[...] = values

        self._device.start(step)

    def recordable(self, shape):
        return self._recordable


def network_file(output, stride, inner):
    # Pixels of 0 to 1, so that maps are not negative.
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    mean = np.full(WIDTH, 0.1, np.float32) if output == "tokens" else None
    return NetworkFile(
        "made up", Path("none"), "fp32", 0, "0", zeros, ones, stride, stride, output, WIDTH, inner, mean, "none"
    )


FILES = network_file("tokens", 8, ()), network_file("map", 32, (WIDTH, WIDTH))


@pytest.fixture
def settings():
    plain = Settings()
    return replace(plain, networks=replace(plain.networks, vit_side=80, descriptor_side=96),
                   regions=replace(plain.regions, alpha=0.5, smallest=2))  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sys.path.insert(0, str(Path(__file__).parent / "ops" / "cuda_model"))
    from model_device import compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def device(folder):
    from model_device import ModelDevice

    with ModelDevice(folder) as opened:
        yield opened


def opened(device, settings, recordable=True):
    vit = MadeUpNetwork(device, [8], tokens=True, recordable=recordable)
    return GpuPipeline(device, settings, FILES, vit, MadeUpNetwork(device, [32, 16, 8], recordable=recordable))


def frame(seed, patches=6, size=SIZE):
    """A picture of coloured blocks; more patches, more regions."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (patches, patches, 3), dtype=np.uint8)
    rows, columns = (np.arange(length) * patches // length for length in size[::-1])
    return Frame(np.ascontiguousarray(blocks[rows][:, columns]), f"frame {seed}")


def described(pipeline, frames):
    return [pipeline.describe_regions(one) for one in frames]


def assert_same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.regions.boxes, b.regions.boxes)
        np.testing.assert_array_equal(a.regions.masks, b.regions.masks)
        np.testing.assert_array_equal(a.descriptors.values, b.descriptors.values)


@pytest.fixture
def wanted_of(device, settings):
    def wanted(frames):
        with opened(device, settings, recordable=False) as pipeline:
            return described(pipeline, frames)

    return wanted


def test_from_the_third_frame_on_launches_are_replayed(device, settings, wanted_of):
    frames = [frame(seed) for seed in range(5)]
    wanted = wanted_of(frames)
    assert device.replays == 0
    assert len({len(one.regions) for one in wanted}) > 1
    with opened(device, settings) as pipeline:
        found = described(pipeline, frames[:1])
        allocated = device.allocations
        found += described(pipeline, frames[1:])
        assert device.allocations == allocated
        assert device.replays == 3
    assert_same(found, wanted)


def test_looking_frames_up_allocates_nothing_after_the_first(device, settings, wanted_of):
    frames = [frame(seed) for seed in range(4)]
    wanted = wanted_of(frames)
    rng = np.random.default_rng(0)
    gallery = np.concatenate([one.descriptors.values for one in wanted])
    gallery = gallery[rng.integers(0, len(gallery), 600)] + rng.normal(0, 0.02, (600, 3 * WIDTH)).astype(np.float32)
    space = train_space(gallery, CodeSettings(bytes=8, width=16))
    with opened(device, settings) as pipeline, coder_of(device, space) as coder, CodeScan(device, 8) as scan:
        scan.append(space.encode(gallery), (np.arange(600) // 6).astype(np.int32))
        pipeline.look_up(frames[0], coder, scan, 5)
        allocated = device.allocations
        found_all = [pipeline.look_up(one, coder, scan, 5) for one in frames]
        assert device.allocations == allocated
        assert device.replays == 3
        for found, known in zip(found_all, wanted, strict=True):
            np.testing.assert_array_equal(found.boxes, known.regions.boxes)
            on_host = scan.search(space.tables(known.descriptors.values), 5)
            for a, b in zip((found.images, found.distances, found.regions), on_host, strict=True):
                np.testing.assert_array_equal(a, b)


def test_too_little_room_is_grown_and_the_frame_done_again(device, settings, wanted_of, monkeypatch):
    frames = [frame(0, 1), frame(1, 1), frame(2, 1), frame(3), frame(4), frame(5), frame(6), frame(7)]
    wanted = wanted_of(frames)
    monkeypatch.setattr(gpu_frame, "REGIONS", 2)
    monkeypatch.setattr(decomposition_op, "CAPACITY", 4)
    assert max(len(one.regions) for one in wanted) > 4
    with opened(device, settings) as pipeline:
        found = described(pipeline, frames)
        # Recorded before and again after it grew.
        assert device.replays > 1
    assert_same(found, wanted)


def test_another_size_has_memory_of_its_own(device, settings, wanted_of):
    small = [frame(seed, size=(32, 64)) for seed in range(3)]
    frames = [frame(0), frame(1), frame(2), *small, frame(3)]
    wanted = wanted_of(frames)
    with opened(device, settings) as pipeline:
        found = []
        for one in frames:
            found += described(pipeline, [one])
            assert device.recordings <= 1
        held = len(device.live)
        described(pipeline, frames[:4])
        assert len(device.live) == held
    assert_same(found, wanted)


def test_masks_are_pooled_as_on_the_cpu(device, settings):
    masked = replace(settings, descriptors=replace(settings.descriptors, mask=True))
    maps = MadeUpNetwork(device, [32, 16, 8])
    vit = MadeUpNetwork(device, [8], tokens=True)
    with GpuPipeline(device, masked, FILES, vit, maps) as pipeline:
        for seed in range(4):
            found = pipeline.describe_regions(frame(seed))
            feature_map = FeatureMap(maps.seen[0][0], SIZE, tuple(inner[0] for inner in maps.seen[1:]))
            pooling = RegionPooling(masked.descriptors, pool_boxes)
            wanted = pooling.describe_regions(feature_map, found.regions).values
            np.testing.assert_allclose(found.descriptors.values, wanted, rtol=1e-5, atol=1e-6)
            assert not np.allclose(wanted, pooling.describe(feature_map, found.regions.boxes).values, atol=1e-4)


def test_a_black_frame_is_one_region_without_content(device, settings):
    black = Frame(np.zeros((*SIZE[::-1], 3), np.uint8))
    with opened(device, settings) as pipeline:
        for _ in range(4):
            found = pipeline.describe_regions(black)
            np.testing.assert_array_equal(found.regions.boxes[0], [0, 0, *SIZE])
            assert not found.descriptors.values.any()


def test_tokens_that_are_not_finite_reject_the_frame_and_no_other(device, settings, wanted_of):
    wanted = wanted_of([frame(1)])
    with opened(device, settings) as pipeline:
        matrix = pipeline._vit._matrix
        for _ in range(4):
            pipeline._vit._matrix = np.full_like(matrix, np.inf)
            with pytest.raises(BadImageError, match=r"frame 0.*not finite"):
                pipeline.describe_regions(frame(0))
            pipeline._vit._matrix = matrix
            assert_same(described(pipeline, [frame(1)]), wanted)


def test_a_failing_network_leaves_nothing_behind(device, settings, wanted_of):
    wanted = wanted_of([frame(1)])
    with opened(device, settings) as pipeline:
        described(pipeline, [frame(0, size=(64, 64))])
        before = len(device.live)
        for good in range(4):
            described(pipeline, [frame(1)] * good)
            pipeline._convolutional.fail = MachineError("the engine failed on the GPU")
            # Launches that are replayed do not ask the network again; another size does.
            with pytest.raises(MachineError, match="the engine failed"):
                pipeline.describe_regions(frame(0, size=(32, 64)))
            assert (len(device.live) < before, device.recordings) == (True, 0)
            pipeline._convolutional.fail = None
        assert_same(described(pipeline, [frame(1)]), wanted)


def test_memory_that_does_not_suffice_is_told_and_nothing_leaks(device, settings, wanted_of):
    wanted = wanted_of([frame(1)])
    plenty = device.memory
    with opened(device, settings) as pipeline:
        before = len(device.live)
        used = sum(memory.block.nbytes for memory in device.live)
        for more in (1_000, 20_000, 100_000, 250_000):
            device.memory = used + more
            with pytest.raises(MachineError, match="bytes left"):
                pipeline.describe_regions(frame(1))
            assert len(device.live) - before <= 3  # the pooling's own room
        device.memory = plenty
        assert_same(described(pipeline, [frame(1)]), wanted)


def test_what_cannot_be_recorded_still_runs(device, settings, wanted_of, monkeypatch, caplog):
    frames = [frame(seed) for seed in range(4)]
    wanted = wanted_of(frames)

    def refused(work):
        raise MachineError("CUDA graph: recording cannot begin (CUDA error 1); run without it")

    monkeypatch.setattr(device, "record", refused)
    with opened(device, settings) as pipeline:
        assert_same(described(pipeline, frames), wanted)
    assert caplog.text.count("recording cannot begin") == 1
