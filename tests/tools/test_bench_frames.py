"""Frames to hits with networks run by torch: on the model of a GPU, in a process that has what a bare machine has."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_claid.config import Settings
from edge_claid.frames.letterbox import resize
from edge_claid.frames.reading import read_picture
from edge_claid.records import Frame

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "samples" / "pictures" / "db_can_03.jpg"
SIDES = {"vit_side": 140, "descriptor_side": 160}
ON_A_BARE_MACHINE = """
import json, sys
from pathlib import Path
import bench_frames

class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in bench_frames.NEVER_USED
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
from dataclasses import replace
from edge_claid.config import Settings
from model_device import ModelDevice

folder, plain = Path(sys.argv[1]), Settings()
settings = replace(plain, networks=replace(plain.networks, **json.loads(sys.argv[2])))
with ModelDevice(folder) as device:
    row = bench_frames.frame_to_hits(device, folder, 600, True, "cpu", settings)
left = [name for name in sys.modules if name.partition(".")[0] in bench_frames.NEVER_USED]
print(json.dumps(row | {"left": left}))
"""


def test_one_picture_from_pixels_to_hits_by_torch(tmp_path):
    pytest.importorskip("torch")
    import gpu_check_data

    sys.path.insert(0, str(ROOT / "tests" / "ops" / "cuda_model"))
    from model_device import compiler

    if compiler() is None:
        pytest.skip("no C++ compiler to build the kernels for the model")
    plain = Settings()
    settings = replace(plain, networks=replace(plain.networks, **SIDES))
    frame = Frame(resize(read_picture(str(SAMPLE)).pixels, (120, 160)))
    cosines = gpu_check_data.write_frame_and_networks(tmp_path, frame, settings)
    assert [len(one) for one in cosines.values()] == [1, 3]
    assert min(min(one) for one in cosines.values()) > gpu_check_data.LEAST_COSINE
    path = os.pathsep.join(str(ROOT / one) for one in (".", "tools", "tests/ops/cuda_model"))
    done = subprocess.run(
        [sys.executable, "-c", ON_A_BARE_MACHINE, str(tmp_path), json.dumps(SIDES)],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["left"] == []
    assert row["regions_identical_with_the_cpu"]
    assert row["regions"] > 1
    assert row["inputs"] == {"vit": [1, 3, 168, 126], "convolutional": [1, 3, 160, 128]}
    assert set(row["where"]) == {"vit", "convolutional", "the rest"}


def test_what_cannot_run_is_told(tmp_path):
    import bench_frames

    told = bench_frames.frame_to_hits(None, tmp_path, 10, True)["not run"]
    assert "has no vit.npz, convolutional.npz, frame.npy" in told
    for name in bench_frames.FILES:
        (tmp_path / name).touch()
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        assert "no CUDA here" in bench_frames.frame_to_hits(None, tmp_path, 10, True)["not run"]


def test_what_stands_for_a_library_refuses_every_use(monkeypatch):
    import bench_frames

    monkeypatch.setattr(bench_frames, "NEVER_USED", {"no_such_library"})
    with bench_frames._stand_ins():
        import no_such_library.inner as library
        from no_such_library.inner import Thing
    assert "no_such_library" not in sys.modules
    uses = (
        lambda: library(), lambda: Thing(1, a=2), lambda: library.make.more(), lambda: Thing + 1, lambda: 1 - Thing,
        lambda: -Thing, lambda: Thing < 1, lambda: Thing == 1, lambda: bool(Thing), lambda: list(Thing),
        lambda: Thing[0], lambda: len(Thing), lambda: float(Thing), lambda: range(Thing), lambda: f"{Thing}",
        lambda: isinstance(1, Thing), lambda: contextlib.ExitStack().enter_context(Thing),
    )  # fmt: skip
    for use in uses:
        with pytest.raises(RuntimeError, match=r"no_such_library\.inner.* was used, and is not installed here"):
            use()
    for use in (lambda: np.ones(2) * Thing, lambda: np.asarray(Thing, np.float32)):  # NumPy says it in its own words
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            use()


def test_weights_and_operations_as_onnx_has_them():
    torch = pytest.importorskip("torch")
    import torch_network

    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((300, 300)).astype(np.float32)
    packed = torch_network._packed("w", matrix)
    assert packed["w"].dtype == np.int8
    np.testing.assert_allclose(torch_network._unpacked("w", packed), matrix, atol=np.abs(matrix).max() / 250)
    # SAME_UPPER puts the odd pixel at the end: 4 wide, kernel 3, stride 2 sees pixels 0-2 and 2-4.
    x, ones = torch.arange(4.0).reshape(1, 1, 1, 4), torch.ones(1, 1, 1, 3)
    same = {"auto_pad": "SAME_UPPER", "strides": [1, 2]}
    assert torch_network._run("Conv", [x, ones], same).flatten().tolist() == [3.0, 5.0]
    cut = [np.array([1]), np.array([1 << 40]), np.array([3])]
    assert torch_network._run("Slice", [x, *cut], {}).flatten().tolist() == [1.0, 2.0, 3.0]


def test_launches_are_recorded_once_for_the_same_memory(monkeypatch):
    """The CUDA calls are recorded here, not made: the order of a first frame, two more, and one of other memory."""
    torch = pytest.importorskip("torch")
    import torch_network

    from edge_claid.ops.cuda.device import DeviceArray

    calls = []

    class Graph:
        def replay(self):
            calls.append("replay")

    @contextlib.contextmanager
    def entered(name):
        calls.append(name)
        yield

    class Network:
        where, shape, kind = "cuda", (1, 2), torch.float32

        def __call__(self, image):
            calls.append("network")
            return [image * 2]

    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda handle: f"stream {handle}")
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: entered("record"))
    kept = [np.array([[3, 4]], np.float32), np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32)]
    planes, output, other = (DeviceArray(one.ctypes.data, one.shape, one.dtype) for one in kept)
    tensors = {array.address: torch.from_numpy(one) for array, one in zip((planes, output, other), kept, strict=True)}
    device = SimpleNamespace(stream=SimpleNamespace(handle=7), empty=lambda shape, kind: output)
    network = torch_network.TorchNetwork(device, Network())
    monkeypatch.setattr(network, "_tensor", lambda array: tensors[array.address])
    assert network.run_all(planes) == [output]
    np.testing.assert_array_equal(kept[1], [[6, 8]])
    assert calls == ["stream 7", "network"]
    for outputs in ([output], [output], [other]):
        network.run_into(planes, outputs)
    once = ["stream 7", "record", "network", "replay"]
    assert calls[2:] == [*once, "stream 7", "replay", *once]
    np.testing.assert_array_equal(kept[2], [[6, 8]])
    assert not network.recordable((1, 2))
