"""The model of a GPU itself: it must catch the mistakes that it is there for, and let right kernels pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_claid.errors import MachineError
from edge_claid.ops.cuda.preprocess_op import ARGUMENTS

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
    device.kernels("wrong").launch({kernel!r}, arguments, ({blocks},), 64, 256)
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


def launched(
    built, kernel: str, order: str = "ascending", count: int = 0, blocks: int = 1, races: bool = False
) -> subprocess.CompletedProcess[str]:
    settings = {"order": order, "count": count, "kernel": kernel, "blocks": blocks}
    script = RUN.format(folder=str(HERE / "cuda_model"), built=str(built), **settings)
    environment = os.environ | {"CUDA_MODEL_RACES": "1" if races else "0"}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120, env=environment
    )


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


@pytest.mark.parametrize(
    ("kernel", "what"),
    [
        ("two_barriers", "threads of a block meet at different barriers"),
        ("two_ballots", "lanes of a warp meet at different operations"),
    ],
)
def test_threads_that_meet_at_different_places_are_told(built, kernel, what):
    ran = launched(built, kernel)
    assert ran.returncode == 70
    assert what in ran.stderr


@pytest.mark.parametrize(
    ("kernel", "blocks", "where"),
    [("missing_barrier", 1, "shared"), ("ballot_as_barrier", 1, "shared"), ("blocks_write_one_place", 2, "global")],
)
def test_a_race_is_told_in_an_order_that_hides_it(built, kernel, blocks, where):
    ran = launched(built, kernel, "descending", blocks=blocks, races=True)
    assert ran.returncode == 71
    assert "a race" in ran.stderr
    assert f"{where} memory" in ran.stderr


@pytest.mark.parametrize(("kernel", "blocks"), [("right", 1), ("right_with_atomics", 3)])
def test_a_right_kernel_has_no_race(built, kernel, blocks):
    ran = launched(built, kernel, blocks=blocks, races=True)
    assert ran.returncode == 0, ran.stderr


def test_a_write_behind_an_array_is_told(built):
    assert launched(built, "beyond_array", count=63).returncode == 0
    ran = launched(built, "beyond_array", count=64)
    assert ran.returncode != 0
    assert "behind an array" in ran.stderr


def test_launches_that_a_driver_refuses_are_refused(built_kernels):
    sys.path.insert(0, str(HERE / "cuda_model"))
    from model_device import ModelDevice, compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    with ModelDevice(built_kernels) as device:
        kernels, arguments = device.kernels("preprocess"), np.zeros((), ARGUMENTS)
        for grid, threads, shared in (((0,), 256, 0), ((1, 65536), 256, 0), ((1,), 512, 0), ((1,), 256, 1 << 20)):
            with pytest.raises(MachineError, match="could not be started"):
                kernels.launch("network_planes", arguments, grid, threads, shared)
        with pytest.raises(AssertionError, match="bytes"):
            kernels.launch("network_planes", arguments["scale"], (1,), 256)


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


def test_the_shipped_kernels_have_no_races(tmp_path):
    """Every family once with each access looked at, as compute-sanitizer's racecheck does on a GPU."""
    sys.path.insert(0, str(HERE / "cuda_model"))
    from model_device import compiler

    found = compiler()
    if found is None or "g++" not in found:
        pytest.skip("no g++ to build the kernels with their accesses watched")
    path = os.pathsep.join([str(HERE), str(HERE / "cuda_model"), *sys.path])
    command = [sys.executable, str(HERE / "cuda_model" / "every_family.py"), str(tmp_path), "descending"]
    environment = os.environ | {"CUDA_MODEL_RACES": "1", "PYTHONPATH": path}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert "all families ran" in ran.stdout
