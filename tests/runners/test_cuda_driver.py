"""What the driver is asked, against a stand-in library that answers as a Jetson's does."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_claid.runners.cuda_driver import Driver, Gpu, driver, runtime_cuda


@pytest.fixture
def built(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build a stand-in driver with")

    def build(*options: str) -> str:
        path = tmp_path / f"libcuda{len(list(tmp_path.iterdir()))}.so"
        source = Path(__file__).with_name("stand_in_driver.c")
        subprocess.run([compiler, "-shared", "-fPIC", *options, str(source), "-o", str(path)], check=True)
        return str(path)

    return build


def test_a_gpu_is_told_with_its_memory_and_the_context_is_given_back(built):
    library = built()
    assert driver(library) == Driver("12.6", (Gpu(0, "Orin", "sm_87", 8_000_000_000, 5_000_000_000, True),))
    assert ctypes.CDLL(library).still_held() == 0


def test_a_driver_that_does_not_start_is_told(built):
    found = driver(built("-DSTART=999"))
    assert (found.cuda, found.gpus) == ("12.6", ())
    assert "CUDA error 999" in found.problem


def test_a_driver_without_a_gpu_is_told(built):
    assert driver(built("-DCOUNT=0")).problem == "the NVIDIA driver knows no GPU"


def test_no_driver_is_told():
    found = driver("libno-such-cuda.so.1")
    assert found.gpus == ()
    assert "no NVIDIA driver" in found.problem
    assert runtime_cuda("libno-such-cudart.so") == ""
