"""A pipeline whose engines and stages share a GPU: engines on the recorded interface, stages on the model of a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import recorded_tensorrt
from recorded_tensorrt import STREAM
from test_runtime import NAMES, orin, put, with_runtime

from edge_claid.engines import runtime
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame

__all__ = ["orin"]  # a fixture


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """Where compiled kernels are kept."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def board(orin, kernels, monkeypatch):
    """The machine of ``orin`` with a GPU that computes; its cache folder, and the devices that were opened on it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "ops" / "cuda_model"))
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    opened = []

    class Board(ModelDevice):
        arch, stream = "sm_87", SimpleNamespace(handle=STREAM)
        downloaded = 0

        def __enter__(self):
            opened.append(self)
            return self

        def download(self, array):
            self.downloaded += array.nbytes
            return super().download(array)

        def pinned(self, shape, dtype):
            return np.empty(shape, dtype)

        def copy_from(self, array, to):
            to[...] = self.download(array)

    def start(context, stream):
        """As an engine does: it is started on the device's stream, and may be recorded there."""
        shape, addresses = context.shape, dict(context.addresses)

        def step():
            context.shape, context.addresses = shape, addresses
            assert run(context, stream)

        opened[-1].start(step)
        return True

    run = recorded_tensorrt._Context.execute_async_v3
    monkeypatch.setattr(recorded_tensorrt._Context, "execute_async_v3", start)
    monkeypatch.setattr(runtime, "_gpu", lambda cache_dir: Board(kernels))
    for name in NAMES:
        put(orin, name)
    return orin, opened


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 6, 8, 3), np.uint8)
    return [Frame(np.ascontiguousarray(one.repeat(40, 0).repeat(40, 1)), str(n)) for n, one in enumerate(coarse)]


@pytest.fixture
def on_gpu(quick_settings):
    small = replace(quick_settings, networks=replace(quick_settings.networks, vit_side=98, descriptor_side=128))
    return with_runtime("tensorrt", small, stages="cuda")


def test_frames_stay_on_the_device_and_are_replayed(board, frames, on_gpu):
    folder, opened = board
    with Pipeline.open(on_gpu, cache_dir=folder) as pipeline:
        found = [pipeline.describe_regions(frame) for frame in frames]
        (device,) = opened
        assert device.replays == 1
        # The tree and the descriptors come down, not the 2,192 maps nor what the networks see.
        assert device.downloaded / len(frames) < 4 * 3 * 128 * 96
        queried = pipeline.describe(frames[0]).values[0]
    with Pipeline.open(replace(on_gpu, networks=replace(on_gpu.networks, stages="cpu")), cache_dir=folder) as cpu:
        wanted = [cpu.describe_regions(frame) for frame in frames]
    for one, other in zip(found, wanted, strict=True):
        assert one.descriptors.values[0] @ other.descriptors.values[0] > 0.995
        assert abs(len(one.regions) - len(other.regions)) <= 0.3 * len(other.regions)
    assert found[0].descriptors.values[0] @ found[1].descriptors.values[0] < 0.99
    assert queried @ found[0].descriptors.values[0] > 0.995


def test_a_shape_that_the_engine_does_not_take_goes_by_the_host(board, on_gpu, caplog):
    folder, opened = board
    rng = np.random.default_rng(1)
    thin = Frame(rng.integers(0, 256, (40, 600, 3), np.uint8), "thin")
    with Pipeline.open(on_gpu, cache_dir=folder) as pipeline:
        found = [pipeline.describe_regions(thin) for _ in range(2)]
        assert not opened[0].replays
    assert caplog.text.count("is more than the engine of dinov2-s14-focus takes") == 1
    np.testing.assert_array_equal(found[0].descriptors.values, found[1].descriptors.values)
