"""The ONNX Runtime runner, on small networks made here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_claid.errors import MachineError, UsageError
from edge_claid.runners import OnnxRunner, Runner


def save_network(path: Path, *, dims=("b", 3, "h", "w"), outputs: int = 1) -> Path:
    """Doubles its input, then keeps one channel: a wrong order of axes or batches shows."""
    weight = numpy_helper.from_array(np.array([0, 2, 0], np.float32).reshape(1, 3, 1, 1), "weight")
    made_of = ("Conv", ["image", "weight"]) if len(dims) == 4 else ("Identity", ["image"])
    nodes = [helper.make_node(*made_of, [f"out{n}"]) for n in range(outputs)]
    values = [helper.make_tensor_value_info(f"out{n}", TensorProto.FLOAT, None) for n in range(outputs)]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)
    graph = helper.make_graph(nodes, "double", [image], values, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return save_network(tmp_path / "double.onnx")


def batch_of(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(count * height + width).normal(size=(count, 3, height, width)).astype(np.float32)


@pytest.mark.parametrize("threads", [None, 1, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 8, 8), (2, 5, 17)])
def test_runs_any_batch_and_size(network, threads, shape):
    runner: Runner = OnnxRunner(network, threads=threads)
    batch = batch_of(*shape)
    with runner as opened:
        output = opened.run(batch)
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output, 2 * batch[:, 1:2])


def test_takes_arrays_that_are_not_contiguous(network):
    batch = batch_of(2, 6, 9)[:, :, ::2, ::-1]
    with OnnxRunner(network) as runner:
        np.testing.assert_array_equal(runner.run(batch), 2 * batch[:, 1:2])


def test_threads_may_share_a_runner(network):
    batches = [batch_of(1, 16, n + 1) for n in range(20)]
    with OnnxRunner(network, threads=1) as runner, ThreadPoolExecutor(4) as pool:
        for batch, output in zip(batches, pool.map(runner.run, batches), strict=True):
            np.testing.assert_array_equal(output, 2 * batch[:, 1:2])


def test_opens_again_after_closing_and_does_not_run_while_closed(network):
    runner = OnnxRunner(network)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="outside its with block"):
            runner.run(batch_of(1, 4, 4))
        with runner:
            assert runner.run(batch_of(1, 4, 4)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((3, 8, 8), np.float32),
        np.zeros((1, 3, 8, 8), np.float64),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((1, 4, 8, 8), np.float32),
        np.zeros((0, 3, 8, 8), np.float32),
        np.zeros((1, 3, 0, 8), np.float32),
    ],
)
def test_refuses_batches_that_cannot_be_an_input(network, batch):
    with OnnxRunner(network) as runner, pytest.raises(UsageError):
        runner.run(batch)


def test_a_fixed_size_is_told(tmp_path):
    path = save_network(tmp_path / "fixed.onnx", dims=(1, 3, 8, 8))
    with OnnxRunner(path) as runner:
        assert runner.run(batch_of(1, 8, 8)).shape == (1, 1, 8, 8)
        with pytest.raises(UsageError, match=r"fixed\.onnx takes an input of \[1, 3, 8, 8\]"):
            runner.run(batch_of(2, 8, 8))


def test_gives_all_outputs_in_order(tmp_path):
    with OnnxRunner(save_network(tmp_path / "two.onnx", outputs=2)) as runner:
        batch = batch_of(2, 4, 6)
        outputs = runner.run_all(batch)
        assert len(outputs) == 2
        np.testing.assert_array_equal(runner.run(batch), outputs[0])


def open_and_close(path: Path, **options) -> None:
    with OnnxRunner(path, **options):
        pass


def test_a_missing_provider_is_named_and_not_replaced(network):
    with pytest.raises(MachineError, match="no NoSuchExecutionProvider") as caught:
        open_and_close(network, providers=("NoSuchExecutionProvider", "CPUExecutionProvider"))
    assert caught.value.exit_code == 3
    with pytest.raises(MachineError, match="provider"):
        open_and_close(network, providers=())


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_not_replaced(network, monkeypatch):
    listed = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.raises(MachineError, match="CUDAExecutionProvider"):
        open_and_close(network, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))


@pytest.mark.parametrize("content", [b"", b"no network", None])
def test_a_corrupt_file_is_told(network, content):
    network.write_bytes(network.read_bytes()[:60] if content is None else content)
    with pytest.raises(MachineError, match=r"double\.onnx"):
        open_and_close(network)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(MachineError, match="models fetch"):
        open_and_close(tmp_path / "none.onnx")


def test_a_network_of_another_form_is_told(tmp_path):
    with pytest.raises(MachineError, match="one float32 image input"):
        open_and_close(save_network(tmp_path / "flat.onnx", dims=("b", 3, "n")))


def test_no_threads_is_wrong_use(network):
    with pytest.raises(UsageError, match="at least one thread"):
        OnnxRunner(network, threads=0)
