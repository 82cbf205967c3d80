"""``build-engines`` and ``engines`` as a user meets them, on a machine that may have no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_claid.cli import engines
from edge_claid.engines import cache, upkeep
from edge_claid.engines.choosing import choose
from edge_claid.errors import MachineError, UsageError
from edge_claid.runners.cuda_driver import Driver, Gpu, driver
from edge_claid.runners.tensorrt_api import flavour

ORIN = Driver("12.6", (Gpu(0, "Orin", "sm_87", 8 << 30, None, True),))
RTX = Driver("13.0", (Gpu(0, "GeForce RTX 4090", "sm_89", 24 << 30, None, False),))
NONE = Driver("", (), "there is no NVIDIA driver")


def run(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGE_CLAID_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "edge_claid", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


without_gpu = pytest.mark.skipif(bool(driver().gpus), reason="this machine has a GPU")


@without_gpu
def test_without_a_gpu_the_cpu_serves_and_nothing_is_built(tmp_path):
    done = run(tmp_path, "build-engines", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["backend"] == "onnxruntime"
    assert "ONNX Runtime on the CPU serves" in done.stderr
    assert not list(tmp_path.rglob("*.engine"))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--backend", "tensort"], 2, "choose auto, tensorrt, tensorrt-rtx"),
        (["--target", "ampere"], 2, "sm_86,sm_89"),
        (["--target", "sm_87"], 2, "run build-engines on the Jetson"),
        (["--target", "sm_86", "--backend", "tensorrt"], 2, "--target needs --backend tensorrt-rtx"),
        (["--memory", "0"], 2, "--memory 0"),
        (["--calibration", "/no/such/folder"], 2, "is no folder"),
    ],
)
def test_wrong_use_is_told(tmp_path, arguments, code, told):
    done = run(tmp_path, "build-engines", *arguments)
    assert done.returncode == code
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@without_gpu
def test_a_backend_that_was_named_is_not_replaced(tmp_path):
    done = run(tmp_path, "build-engines", "--backend", "tensorrt")
    assert done.returncode == 3
    assert "has nothing to build for" in done.stderr


@pytest.fixture
def rtx():
    try:
        return flavour("tensorrt-rtx")
    except MachineError as error:
        pytest.skip(str(error))


def test_a_precision_or_network_that_no_recipe_has_is_told(tmp_path, rtx):
    done = run(tmp_path, "build-engines", "--target", "sm_86", "--precision", "bf16")
    assert (done.returncode, "is not built at bf16" in done.stderr) == (2, True)
    done = run(tmp_path, "build-engines", "--target", "sm_86", "--precision", "fp8")
    assert (done.returncode, "sm_86 cannot multiply fp8" in done.stderr) == (2, True)
    assert "efficientnet-lite0 has no fp8: it is built at fp16" in done.stderr
    done = run(tmp_path, "build-engines", "--target", "sm_89", "--precision", "fp8", "--model", "efficientnet-lite0")
    assert (done.returncode, "is not built at fp8" in done.stderr) == (2, True)
    done = run(tmp_path, "build-engines", "--target", "sm_86", "--model", "no-such")
    assert (done.returncode, "no recipe for no-such" in done.stderr) == (2, True)


def test_a_cache_that_cannot_be_written_ends_with_9(tmp_path, rtx):
    (tmp_path / "file").write_bytes(b"")
    done = run(tmp_path / "file", "build-engines", "--target", "sm_86")
    assert done.returncode == 9
    assert "EDGE_CLAID_CACHE_DIR" in done.stderr


def test_engines_of_an_empty_and_of_a_damaged_cache(tmp_path):
    assert run(tmp_path, "engines", "list").stderr.startswith("no engine is built")
    assert run(tmp_path, "engines", "verify").stderr.startswith("no engine is built")
    assert run(tmp_path, "engines", "verify").returncode == 0
    (tmp_path / "engines" / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "engines" / "0123456789abcdef" / "manifest.json").write_text("{")
    (tmp_path / "engines" / ".0123456789abcdef.00000000.building").mkdir()
    listed = json.loads(run(tmp_path, "engines", "list", "--json").stdout)
    assert listed["state"] == "damaged"
    verified = run(tmp_path, "engines", "verify")
    assert verified.returncode == 4
    assert "1 of the engines are damaged" in verified.stderr
    rehearsed = run(tmp_path, "engines", "prune", "--dry-run")
    assert rehearsed.stdout.count("would remove") == 2
    assert run(tmp_path, "engines", "prune").stdout.count("removed") == 2
    assert run(tmp_path, "engines", "prune", "--json").stdout == ""
    assert [path.name for path in (tmp_path / "engines").iterdir() if path.is_dir()] == []


def test_engines_that_cannot_be_tried_are_compared_all_the_same(tmp_path, onnx_engine, monkeypatch, capsys):
    """A GPU is here and PyCUDA is not: what of an engine can be told is told, of every engine."""

    def untried(folder, settings):
        raise MachineError("PyCUDA cannot be loaded: install it")

    monkeypatch.setenv("EDGE_CLAID_CACHE_DIR", str(tmp_path))
    found = [upkeep.State(entry, upkeep.RUNS) for entry in cache.entries()]
    monkeypatch.setattr(upkeep, "states", lambda: found)
    monkeypatch.setattr(engines, "verify_on_gpu", untried)
    with pytest.raises(MachineError, match="PyCUDA"):
        engines.verify()
    assert capsys.readouterr().out.count("sound; PyCUDA cannot be loaded") == 2


@pytest.fixture
def onnx_engine(tmp_path, monkeypatch):
    for folder in ("runners", "engines"):
        monkeypatch.syspath_prepend(Path(__file__).parents[1] / folder)
    from recorded_tensorrt import write_engine
    from small_network import save_map_network

    for key in ("k1", "k2"):
        write_engine(tmp_path / "engines" / key, save_map_network(tmp_path / "small.onnx"))


class TestChoice:
    """Which library builds for which GPU; libraries are made up."""

    @pytest.fixture
    def installed(self, monkeypatch):
        def install(*names: str) -> None:
            def load(name):
                if name not in names:
                    raise MachineError(f"{name} cannot be loaded: install it")
                return name

            monkeypatch.setattr("edge_claid.engines.choosing.flavour", load)

        return install

    def test_a_jetson_takes_tensorrt_and_an_rtx_card_what_it_has(self, installed):
        installed("tensorrt", "tensorrt-rtx")
        assert choose("auto", (), ORIN).library == "tensorrt"
        assert choose("auto", (), RTX).library == "tensorrt"
        assert choose("tensorrt-rtx", (), RTX).targets == ("sm_89",)
        installed("tensorrt-rtx")
        assert choose("auto", (), RTX).library == "tensorrt-rtx"
        assert choose("auto", (), RTX).here

    def test_a_gpu_without_a_library_is_told_and_not_left_to_the_cpu(self, installed):
        installed("tensorrt-rtx")
        with pytest.raises(MachineError, match=r"Orin \(sm_87\) is here, but no TensorRT.*install it"):
            choose("auto", (), ORIN)
        with pytest.raises(MachineError, match="does not run on Orin"):
            choose("tensorrt-rtx", (), ORIN)

    def test_other_machines_are_built_for_without_a_gpu(self, installed):
        installed("tensorrt-rtx")
        chosen = choose("auto", ("sm_86", "sm_120"), NONE)
        assert (chosen.library, chosen.targets, chosen.here) == ("tensorrt-rtx", ("sm_86", "sm_120"), False)
        with pytest.raises(UsageError, match="sm_100"):
            choose("auto", ("sm_86", "sm_100"), NONE)
