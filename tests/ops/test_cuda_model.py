"""The model of a GPU itself: it must catch the mistakes that it is there for, and let right kernels pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RUN = """
import sys
sys.path[:0] = [{folder!r}]
from pathlib import Path
import model_device, numpy as np
model_device.SOURCES = Path({built!r})
dtype = np.dtype([("values", np.uint64), ("count", np.int32), ("_end", np.int32)])
with model_device.ModelDevice(Path({built!r}), {order!r}) as device:
    values = device.upload(np.zeros(64, np.uint32))
    arguments = np.zeros((), dtype)
    arguments["values"], arguments["count"] = values.address, {count}
    device.kernels("wrong").launch({kernel!r}, arguments, (1,), 64, 256)
    print(*device.download(values))
    values.close()
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wrong kernels as a family of their own."""
    folder = tmp_path_factory.mktemp("wrong")
    sys.path.insert(0, str(HERE / "cuda_model"))
    from model_device import SOURCES, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    (folder / "wrong").mkdir()
    source = (HERE / "cuda_model" / "wrong.cu").read_text()
    (folder / "wrong" / "wrong.cu").write_text(source.replace('"kernel.h"', f'"{SOURCES / "kernel.h"}"'))
    return folder


def launched(built, kernel: str, order: str = "ascending", count: int = 0) -> subprocess.CompletedProcess[str]:
    script = RUN.format(folder=str(HERE / "cuda_model"), built=str(built), order=order, count=count, kernel=kernel)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)


def test_a_right_kernel_gives_the_same_in_every_order(built):
    wanted = " ".join(str(63 - i + (i ^ 1)) for i in range(64))
    for order in ("ascending", "descending", "shuffled"):
        ran = launched(built, "right", order)
        assert ran.stdout.strip() == wanted, ran.stderr


def test_a_barrier_that_some_threads_miss_is_told(built):
    ran = launched(built, "partial_barrier")
    assert ran.returncode == 70
    assert "never reach" in ran.stderr


def test_a_missing_barrier_gives_another_answer_in_another_order(built):
    answers = {launched(built, "missing_barrier", order).stdout for order in ("ascending", "descending")}
    assert len(answers) == 2


def test_a_write_behind_shared_memory_is_told(built):
    ran = launched(built, "beyond_shared", count=64)
    assert ran.returncode == 70
    assert "behind the shared memory" in ran.stderr
    assert launched(built, "beyond_shared", count=63).returncode == 0


def test_a_warp_operation_without_all_lanes_is_told(built):
    ran = launched(built, "half_a_warp")
    assert ran.returncode == 70
    assert "without all lanes" in ran.stderr


@pytest.mark.parametrize("order", ["ascending", "shuffled"])
def test_the_shipped_kernels_under_sanitizers(order, tmp_path):
    """Every family once under the address and undefined-behaviour sanitizers: no access outside any array."""
    sys.path.insert(0, str(HERE / "cuda_model"))
    from model_device import compiler

    found = compiler()
    if found is None or "g++" not in found:
        pytest.skip("no g++ to build the kernels with sanitizers")
    libraries = [
        subprocess.run([found, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip("g++ has no sanitizer libraries")
    environment = os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0,detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "halt_on_error=1,print_stacktrace=1",
        "CUDA_MODEL_FLAGS": "-g -fsanitize=address,undefined -fno-sanitize-recover=undefined",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE / "cuda_model"), *sys.path]),
    }
    command = [sys.executable, str(HERE / "cuda_model" / "every_family.py"), str(tmp_path), order]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert "all families ran" in ran.stdout
