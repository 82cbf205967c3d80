"""A gallery searched through scans on the model of a GPU: the CPU's hits, also after the gallery has changed."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from edge_claid import gpu_scan, ops
from edge_claid.codes.space import train_space
from edge_claid.config import CodeSettings
from edge_claid.errors import MachineError
from edge_claid.gallery.lookup.positions import Positions
from edge_claid.gallery.lookup.scorers import CodeScorer
from edge_claid.gpu_scan import GpuScans, ScanOnGpu


@pytest.fixture
def device(tmp_path):
    sys.path.insert(0, str(Path(__file__).parent / "ops" / "cuda_model"))
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    with ModelDevice(tmp_path) as opened:
        yield opened


@pytest.fixture
def scans(device):
    made = GpuScans(device, threading.Lock())
    yield made
    made.close()


def codes_of(seed, images, each=5, subspaces=8):
    codes = np.random.default_rng(seed).integers(0, 256, (images * each, subspaces), dtype=np.uint8)
    return codes, np.repeat(np.arange(images, dtype=np.int32), each)


def test_answers_are_the_cpus_while_the_gallery_grows_and_shrinks(scans, device):
    on_gpu, on_cpu = scans.make(8), ops.load().code_scan(8)
    tables = np.random.default_rng(1).gamma(4.0, 0.1, (5, 8, 256)).astype(np.float32)
    codes, images = codes_of(2, 60)
    allowed = np.arange(60) % 3 > 0
    for first, last in ((0, 100), (100, 300)):
        for scan in (on_gpu, on_cpu):
            scan.append(codes[first:last], images[first:last])
            scan.remove(np.array([3, first // 10], np.int32))
        assert (len(on_gpu), on_gpu.live_regions) == (len(on_cpu), on_cpu.live_regions)
        held = len(device.launched)
        for asked in ((tables, 7), (tables, 7, allowed), (tables[:1], 100)):
            for a, b in zip(on_gpu.search(*asked), on_cpu.search(*asked), strict=True):
                np.testing.assert_array_equal(a, b)
        assert "scan_codes_8_4" in device.launched[held:]
        ranges = np.array([0, 40]), np.array([9, 77])
        np.testing.assert_array_equal(
            on_gpu.region_distances(tables[0], *ranges), on_cpu.region_distances(tables[0], *ranges)
        )


def test_a_search_over_codes_ranks_and_scores_as_on_the_cpu(scans):
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(90, 48)).astype(np.float32)
    values = centres.repeat(6, 0) + rng.normal(0, 0.3, (540, 48)).astype(np.float32)
    space = train_space(values, CodeSettings(bytes=8, width=32))
    found = []
    for make in (scans.make, ops.load().code_scan):
        positions = Positions("codes", "u1", 8)
        positions.starts = np.arange(0, 541, 6)
        scorer = CodeScorer(positions, space, make, 1)
        scorer.append(space.encode(values), np.repeat(np.arange(90, dtype=np.int32), 6))
        scored = scorer.scored(centres[:7])
        near = scored.nearest(5)
        found.append((near, scored.image_scores(near)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][0][:, 0].tolist() == list(range(7))


def test_a_scan_that_nobody_has_gives_its_memory_back(scans, device):
    kept, dropped = scans.make(8), scans.make(8)
    for scan in (kept, dropped):
        scan.append(*codes_of(3, 4))
    before = len(device.live)
    del scan, dropped
    gc.collect()
    kept.append(*codes_of(5, 4))
    assert 0 < len(device.live) < before


def test_a_scan_at_the_address_of_one_that_is_gone_is_another(monkeypatch):
    made, closed = [], []

    class Scan:
        def __init__(self, device, subspaces):
            self.subspaces = subspaces
            made.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            closed.append(self)

        def append(self, codes, images):
            assert self not in closed

    monkeypatch.setattr(gpu_scan, "CodeScan", Scan)
    scans = GpuScans(MagicMock(), threading.Lock())
    for seed in range(50):
        scan = scans.make(8)  # Python puts it, sooner or later, where one before it was
        scan.append(*codes_of(seed, 2))
        del scan
    scans.close()
    assert len(made) == 50
    assert closed == made


def test_no_memory_for_more_codes_is_told_and_the_cpu_goes_on(scans, device, caplog):
    scan, on_cpu = scans.make(8), ops.load().code_scan(8)
    device.memory = 1000
    for one in (scan, on_cpu):
        one.append(*codes_of(6, 9))
    assert "the gallery is searched on the CPU" in caplog.text
    tables = np.random.default_rng(7).gamma(4.0, 0.1, (2, 8, 256)).astype(np.float32)
    for a, b in zip(scan.search(tables, 3), on_cpu.search(tables, 3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not device.launched


def test_codes_without_a_kernel_are_the_cpus(scans):
    assert not isinstance(scans.make(64), ScanOnGpu)
    assert isinstance(scans.make(16), ScanOnGpu)


def test_a_search_that_fails_on_the_gpu_is_told(scans, device, monkeypatch):
    scan = scans.make(8)
    scan.append(*codes_of(8, 9))

    def failing(*_: object) -> None:
        raise MachineError("the GPU failed")

    monkeypatch.setattr(device, "upload", failing)
    with pytest.raises(MachineError, match="the GPU failed"):
        scan.search(np.zeros((1, 8, 256), np.float32), 3)
