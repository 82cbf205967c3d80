"""The GPU's pipeline on the model of a GPU, against the CPU's pipeline, with the real networks on a real picture."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_claid.codes.space import train_space
from edge_claid.config import CodeSettings, Settings
from edge_claid.errors import UsageError
from edge_claid.frames.reading import read_picture
from edge_claid.gpu_pipeline import GpuPipeline, HostNetwork, coder_of
from edge_claid.gpu_scan import ScanOnGpu
from edge_claid.live.look import PipelineLooker
from edge_claid.models import open_network
from edge_claid.ops.cpu.scan_op import CodeScan as CpuScan
from edge_claid.ops.cuda.scan_op import CodeScan
from edge_claid.pipeline import Pipeline
from edge_claid.runners.onnx_runner import OnnxRunner

SAMPLE = Path(__file__).parents[1] / "samples" / "pictures" / "db_can_03.jpg"


@pytest.fixture(scope="module")
def settings():
    plain = Settings()
    return replace(plain, networks=replace(plain.networks, vit_side=224, descriptor_side=320))


@pytest.fixture(scope="module")
def networks(settings):
    chosen = settings.networks
    return (
        open_network(chosen.vit, variant=chosen.vit_variant, layer=chosen.token_layer),
        open_network(chosen.descriptor),
    )


def test_frames_to_hits_as_on_the_cpu(settings, networks, tmp_path):
    sys.path.insert(0, str(Path(__file__).parent / "ops" / "cuda_model"))
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    frame = read_picture(str(SAMPLE))
    with (
        Pipeline.open(settings) as cpu,
        OnnxRunner(networks[0].path, threads=1) as vit,
        OnnxRunner(networks[1].path, threads=1) as convolutional,
        ModelDevice(tmp_path) as device,
        GpuPipeline(device, settings, networks, HostNetwork(device, vit), HostNetwork(device, convolutional)) as gpu,
    ):
        wanted = cpu.describe_regions(frame)
        described = gpu.describe_regions(frame)
        boxes, descriptors = described.regions.boxes, described.descriptors.values
        # Resized pixels differ by a grey level here and there, so a token may change sides; most regions stay.
        equal = [row for row, box in enumerate(boxes) if (np.abs(wanted.regions.boxes - box).max(axis=1) < 1).any()]
        assert len(equal) >= 0.7 * len(boxes)
        assert abs(len(boxes) - len(wanted.regions)) <= 0.3 * len(wanted.regions)
        for row in equal:
            other = np.abs(wanted.regions.boxes - boxes[row]).max(axis=1).argmin()
            assert descriptors[row] @ wanted.descriptors.values[other] > 0.99
        np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)

        rng = np.random.default_rng(0)
        noise = rng.normal(0, 0.02, (600, descriptors.shape[1])).astype(np.float32)
        gallery = descriptors[rng.integers(0, len(descriptors), 600)] + noise
        space = train_space(gallery, CodeSettings(bytes=8, width=64))
        codes, owners = space.encode(gallery), (np.arange(600) // 6).astype(np.int32)
        on_cpu = CpuScan(8)
        on_cpu.append(codes, owners)
        with coder_of(device, space) as coder, CodeScan(device, 8) as scan:
            scan.append(codes, owners)
            found = gpu.look_up(frame, coder, scan, 5)
        np.testing.assert_array_equal(found.boxes, boxes)
        for a, b in zip(
            (found.images, found.distances, found.regions), on_cpu.search(space.tables(descriptors), 5), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A machine whose GPU is the model."""
    sys.path.insert(0, str(Path(__file__).parent / "ops" / "cuda_model"))
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    monkeypatch.setattr("edge_claid.gpu_pipeline.open_gpu", lambda cache_dir: ModelDevice(tmp_path))


def test_a_setting_puts_the_stages_of_a_pipeline_on_the_gpu(settings, model):
    frame = read_picture(str(SAMPLE))
    small = replace(settings, networks=replace(settings.networks, stages="cuda", descriptor_side=224))
    on_cpu = replace(small, networks=replace(small.networks, stages="cpu"))
    with Pipeline.open(small, threads=2) as gpu, Pipeline.open(on_cpu) as cpu:
        assert (gpu.on_gpu, cpu.on_gpu, gpu.id) == (True, False, cpu.id)
        assert [type(each.code_scan(16)) for each in (gpu, cpu)] == [ScanOnGpu, CpuScan]
        one, other = gpu.describe_many([frame, frame])
        look = PipelineLooker(gpu).look(frame)
        np.testing.assert_array_equal(one.descriptors.values, other.descriptors.values)
        np.testing.assert_array_equal(look.descriptors, one.descriptors.values)
        assert list(look.stages) == ["gpu"]
        # The whole picture is a region on both, and pixels differ by a grey level at most.
        wanted = cpu.describe(frame).values[0]
        assert one.descriptors.values[0] @ wanted > 0.995
        assert one.regions.parents[0] == -1
        assert (one.regions.areas[1:] < one.regions.areas[0]).all()


def test_stages_that_are_not_known_are_refused(settings):
    with pytest.raises(UsageError, match="no stages are called 'gpu': choose cpu, cuda"):
        Pipeline.open(replace(settings, networks=replace(settings.networks, stages="gpu")))
