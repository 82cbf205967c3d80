"""The layer over the real PyCUDA of shared/gpu/wheels, on a stand-in for the driver (cuda_model/driver_model.cc).

PyCUDA's own code runs, with its rules on contexts, threads, types and lifetimes; no GPU does. The wheels are for
Python 3.12: they run in one that has NumPy, this one or EDGE_CLAID_PYTHON312.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from model_device import HERE, compiler, library

ROOT = Path(__file__).parents[2]
SCENARIOS = (
    "nothing_is_left", "another_librarys_context_stays", "threads_take_turns", "what_is_recorded_is_replayed",
    "errors_are_told",
)  # fmt: skip


@pytest.fixture(scope="module")
def python312():
    """A Python 3.12 with NumPy."""
    for found in (os.environ.get("EDGE_CLAID_PYTHON312"), sys.executable, shutil.which("python3.12")):
        asks = "import sys, numpy; sys.exit(sys.version_info[:2] != (3, 12))"
        if found and not subprocess.run([found, "-c", asks], capture_output=True, check=False).returncode:
            return found
    pytest.skip("the wheels of PyCUDA are for Python 3.12: there is none with NumPy, see EDGE_CLAID_PYTHON312")


@pytest.fixture(scope="module")
def played(shared_data, tmp_path_factory):
    """A folder with PyCUDA unpacked, the driver's stand-in and kernels that it can run."""
    wheels = sorted((shared_data / "gpu" / "wheels").glob("*.whl"))
    if not wheels or compiler() is None or not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        pytest.skip("needs the wheels of PyCUDA, x86-64 Linux and a C++ compiler")
    folder = tmp_path_factory.mktemp("real-pycuda")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as content:
            content.extractall(folder / "site")
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Werror"]
    made = [str(HERE / "driver_model.cc"), "-o", str(folder / "libcuda.so.1"), "-ldl"]
    subprocess.run([compiler(), *flags, *made], check=True)
    for family in ("preprocess", "encode"):
        shutil.copy(library(family, folder, 800)._name, folder / f"{family}.so")
    return folder


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_pycuda_takes_what_it_is_asked(python312, played, scenario):
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(played),
        "PYTHONPATH": os.pathsep.join([str(played / "site"), str(ROOT)]),
    }
    command = [python312, str(Path(__file__).with_name("over_pycuda.py")), scenario, str(played), str(played / "site")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    # PyCUDA warns of what it could not clean up, and goes on.
    assert (ran.stdout, ran.stderr) == ("done\n", "")
