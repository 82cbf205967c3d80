"""The doctor's findings on machines made up here, and the command on this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_claid.config import Settings
from edge_claid.doctor import boards, gpu, machine
from edge_claid.doctor.check import OK, PROBLEM, WARNING
from edge_claid.engines.activations import peak_activation_bytes
from edge_claid.errors import MachineError, UsageError
from edge_claid.runners.cuda_driver import Driver, Gpu

NO_DRIVER = Driver("", (), "there is no NVIDIA driver on this machine (no libcuda.so.1)")
ORIN = Driver("12.6", (Gpu(0, "Orin", "sm_87", 8 << 30, 5 << 30, True),))
RTX = Driver("13.0", (Gpu(0, "GeForce RTX 4090", "sm_89", 24 << 30, None, False),))
H200 = Driver("13.0", (Gpu(0, "H200", "sm_90", 141 << 30, None, False),))


def found(here: Driver, tmp_path: Path):
    return {check.name: check for check in gpu.gpu_checks(here, Settings(), tmp_path)}


@pytest.fixture
def nothing_installed(monkeypatch):
    def missing(name):
        raise MachineError(f"{name} cannot be loaded (No module named x): install {name}")

    monkeypatch.setattr(gpu, "flavour", missing)
    monkeypatch.setattr(gpu, "found_nvcc", lambda: None)


def test_without_a_gpu_all_is_well_and_the_cpu_serves(tmp_path, nothing_installed):
    checks = found(NO_DRIVER, tmp_path)
    assert {check.state for check in checks.values()} == {OK}
    assert "CPU serves" in checks["NVIDIA driver"].told


def test_a_driver_that_fails_is_a_problem_with_a_fix(tmp_path):
    check = found(Driver("12.6", (), "the NVIDIA driver does not start (CUDA error 999)"), tmp_path)["NVIDIA driver"]
    assert check.state == PROBLEM
    assert "--runtime nvidia" in check.fix


@pytest.mark.parametrize(
    ("here", "problems"),
    [
        (ORIN, {"TensorRT", "PyCUDA", "CUDA kernels"}),
        (RTX, {"TensorRT for RTX", "PyCUDA", "CUDA kernels"}),
        (H200, {"TensorRT", "PyCUDA", "CUDA kernels"}),
    ],
)
def test_a_gpu_without_software_is_told_what_to_install(tmp_path, nothing_installed, monkeypatch, here, problems):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    checks = found(here, tmp_path)
    assert {name for name, check in checks.items() if check.state == PROBLEM} == problems
    assert all(checks[name].fix for name in problems)
    assert checks["engines"].state == WARNING
    assert checks["engines"].fix == "edge-claid build-engines"
    assert here.gpus[0].sm in checks["GPU 0"].told


def test_an_nvcc_that_does_not_know_the_gpu_is_a_problem(tmp_path, monkeypatch):
    """CUDA 12.6 beside an RTX 50, CUDA 13 beside a card of 2016: the kernels would fail at their first use."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho sm_86\necho sm_87\n")
    nvcc.chmod(0o755)
    monkeypatch.setattr(gpu, "found_nvcc", lambda: str(nvcc))
    monkeypatch.setattr(gpu, "SOURCES", tmp_path)
    assert found(ORIN, tmp_path)["CUDA kernels"].state == OK
    check = found(RTX, tmp_path)["CUDA kernels"]
    assert (check.state, check.told) == (PROBLEM, f"not built for sm_89, which {nvcc} does not know")
    assert "CUDA toolkit that knows sm_89" in check.fix
    nvcc.write_text("#!/bin/sh\nexit 1\n")  # one that is too old to be asked
    assert found(RTX, tmp_path)["CUDA kernels"].state == OK
    nvcc.chmod(0o644)
    assert found(RTX, tmp_path)["CUDA kernels"].state == PROBLEM


def test_a_library_that_does_not_start_is_a_problem_with_its_reason(tmp_path, monkeypatch):
    """As TensorRT answers on a driver that is too old for its CUDA."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "runners"))
    from recorded_tensorrt import Recorded, recorded_flavour

    def refuse(logger):
        logger.log(logger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    module = Recorded()
    monkeypatch.setattr(gpu, "flavour", lambda name: recorded_flavour(module))
    assert found(ORIN, tmp_path)["TensorRT"].state == OK
    module.Runtime = refuse
    check = found(ORIN, tmp_path)["TensorRT"]
    assert (check.state, check.told) == (
        PROBLEM,
        "tensorrt 10.3.0 does not start here (CUDA initialization failure with error: 35)",
    )
    assert "driver for CUDA 12.6" in check.fix


def test_a_jetson_is_known_by_its_release_or_its_gpu(tmp_path):
    release = tmp_path / "nv_tegra_release"
    assert gpu.is_jetson(ORIN, release)
    assert not gpu.is_jetson(RTX, release)
    release.write_text("# R36")
    assert gpu.is_jetson(NO_DRIVER, release)


def checked(galleries=(), jetson=False):
    return {check.name: check for check in machine.machine_checks(Settings(), jetson, galleries)}


def test_a_machine_in_trouble(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(machine, "is_here", lambda known: False)
    monkeypatch.setenv("EDGE_CLAID_OFFLINE", "1")
    monkeypatch.setattr(machine, "available_bytes", lambda: 200 << 20)
    monkeypatch.setattr(machine, "has_element", lambda name: name == "appsink")
    (tmp_path / "broken.claid").write_bytes(b"no gallery")
    checks = checked([tmp_path / "broken.claid"], jetson=True)
    assert checks["cache"].state == PROBLEM
    assert "EDGE_CLAID_CACHE_DIR" in checks["cache"].fix
    assert checks["memory"].state == PROBLEM
    assert checks["network efficientnet-lite0"].state == PROBLEM
    assert "models fetch" in checks["network efficientnet-lite0"].fix
    assert checks["GStreamer"].state == WARNING
    assert "nvarguscamerasrc" in checks["GStreamer"].told
    assert "nvidia-l4t-gstreamer" in checks["GStreamer"].fix
    assert checks[f"gallery {tmp_path / 'broken.claid'}"].state == PROBLEM


def test_a_machine_that_is_well(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "is_here", lambda known: True)
    monkeypatch.setattr(machine, "available_bytes", lambda: 8 << 30)
    monkeypatch.setattr(machine, "has_element", lambda name: True)
    checks = checked(jetson=True)
    states = {name: check.state for name, check in checks.items() if not name.startswith("v4l2")}
    assert set(states.values()) == {OK}, states
    assert str(tmp_path) in checks["cache"].told


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_claid", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_tells_every_check_as_json_and_fails_on_a_problem(tmp_path):
    done = doctor("--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(row) == {"name", "state", "told", "fix"} for row in rows)
    assert {"NVIDIA driver", "TensorRT", "PyCUDA", "ONNX Runtime", "memory", "cache", "GStreamer"} <= {
        row["name"] for row in rows
    }
    assert done.returncode == (3 if any(row["state"] == PROBLEM for row in rows) else 0)
    done = doctor("--gallery", str(tmp_path / "none.claid"))
    assert done.returncode == 3
    assert "none.claid" in done.stdout
    assert "-> edge-claid enroll FOLDER --gallery" in done.stdout
    (tmp_path / "broken.claid").write_bytes(b"no gallery")
    assert "-> edge-claid gallery verify --repair" in doctor("--gallery", str(tmp_path / "broken.claid")).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--board", "orin"], "orin-nano-4gb, orin-nano"),
        (["--board", "orin-nano", "--regions", "-1"], "--regions -1"),
        (["--board", "orin-nano", "--precision", "fp8"], "sm_87 cannot multiply fp8"),
        (["--board", "thor", "--precision", "bf16"], "is not built at bf16"),
    ],
)
def test_wrong_use_is_told(arguments, told):
    done = doctor(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_the_budget_takes_the_precisions_that_a_build_would(monkeypatch):
    """At fp8 a network that has none is built at its first precision."""
    taken = []
    monkeypatch.setattr(boards, "open_network", lambda name, layer: name)
    monkeypatch.setattr(boards, "_network_parts", lambda network, known, own, board: taken.append(own) or {})
    boards.budget_of("thor", Settings(), 1, "fp8")
    assert taken == ["fp8", "fp16"]


def test_the_budget_of_a_board_adds_up(monkeypatch):
    try:
        budget = boards.budget_of("orin-nano", Settings(), 1_000_000, "fp16")
    except MachineError as error:
        pytest.skip(str(error))
    gallery = next(size for name, size in budget.parts.items() if name.startswith("gallery of 1,000,000"))
    assert gallery == 36_000_000
    assert budget.left == 8_000_000_000 - sum(budget.parts.values())
    larger = boards.budget_of("orin-nano", Settings(), 1_000_000, "fp32")
    assert larger.left < budget.left
    with pytest.raises(UsageError, match="orin-nano"):
        boards.budget_of("orin-mini", Settings(), 1, "fp16")


def test_activations_by_hand(tmp_path):
    sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
    from small_network import save_map_network

    path = save_map_network(tmp_path / "small.onnx")
    # The picture and the map of its convolution live at once; ReLU works in place.
    assert peak_activation_bytes(path, (1, 64, 32), 4) == 4 * (3 * 64 * 32 + 8 * 8 * 4)
    assert peak_activation_bytes(path, (2, 64, 32), 2) == 2 * 2 * (3 * 64 * 32 + 8 * 8 * 4)
