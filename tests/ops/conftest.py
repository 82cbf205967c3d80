"""Fixtures for the ops."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "cuda_model"))


@pytest.fixture(scope="session")
def built_kernels(tmp_path_factory):
    """Where kernels built for the model lie, one folder a session."""
    return tmp_path_factory.mktemp("cuda-model")


@pytest.fixture
def device(request, built_kernels):
    """A device to launch kernels on: the model with a thread order, or the GPU of this machine.

    The shuffled order also leaves __CUDA_ARCH__ out, which takes the path of GPUs before Ampere.
    """
    if request.param == "gpu":
        try:
            from edge_claid.ops.cuda.pycuda_device import PycudaDevice

            opened = PycudaDevice(cache_dir=built_kernels)
        except Exception as error:
            pytest.skip(f"no GPU: {error}")
        with opened:
            opened.is_model = False
            yield opened
        return
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    with ModelDevice(built_kernels, request.param, None if request.param == "shuffled" else 800) as opened:
        yield opened
