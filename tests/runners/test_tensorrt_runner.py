"""The TensorRT runner against the recorded interface (see recorded_tensorrt.py), not against TensorRT."""

from __future__ import annotations

import gc
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from recorded_tensorrt import STREAM, HostDevice, Recorded, at, recorded_flavour, write_engine
from small_network import save_map_network

from edge_claid.errors import EngineError, MachineError, UsageError
from edge_claid.ops.cuda.graph import CudaGraph
from edge_claid.runners import OnnxRunner, Runner
from edge_claid.runners.engine_file import ENGINE, MANIFEST, Running, check_fit, read_manifest
from edge_claid.runners.tensorrt_api import flavour
from edge_claid.runners.tensorrt_runner import TensorrtRunner


@pytest.fixture
def onnx(tmp_path):
    return save_map_network(tmp_path / "small.onnx")


@pytest.fixture
def folder(tmp_path, onnx):
    write_engine(tmp_path / "engine", onnx)
    return tmp_path / "engine"


def planes(count=1, height=32, width=48):
    shape = (count, 3, height, width)
    return np.random.default_rng(height * width).uniform(0, 255, shape).astype(np.float32)


def opened(folder, device=None, library=None, **options):
    return TensorrtRunner(folder, device or HostDevice(), library or recorded_flavour(), **options)


def open_and_close(folder, **options):
    with opened(folder, **options):
        pass


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 32, 48), (2, 64, 64)])
def test_gives_what_the_network_gives(folder, onnx, shape):
    batch = planes(*shape)
    runner: Runner = opened(folder)
    with runner, OnnxRunner(onnx, threads=1) as reference:
        found = runner.run(batch)
        again = runner.run(batch[..., ::-1])
        np.testing.assert_array_equal(found, reference.run(batch))
        np.testing.assert_array_equal(again, reference.run(np.ascontiguousarray(batch[..., ::-1])))
    assert found.dtype == np.float32
    assert found.max() > 1


def test_arrays_on_the_device_stay_there(folder, onnx):
    device, batch = HostDevice(), planes()
    with OnnxRunner(onnx, threads=1) as reference:
        expected = reference.run(batch)
    with opened(folder, device) as runner:
        given = device.upload(batch)
        outputs = runner.run_all(given)
        assert [output.shape for output in outputs] == [expected.shape]
        np.testing.assert_array_equal(at(outputs[0]), expected)
        assert runner._context.played.streams == [STREAM]
        for array in (given, *outputs):
            array.close()
    assert not device.live


def test_memory_is_given_back_whatever_shapes_were_seen(folder):
    device = HostDevice()
    with opened(folder, device) as runner:
        for width in range(16, 65, 8):
            assert runner.run(planes(1, 16, width)).shape == (1, 8, 2, width // 8)
        assert len(device.live) <= 8  # four shapes, an input and an output each
    assert not device.live
    with pytest.raises(RuntimeError, match="outside its with block"):
        runner.run(planes())


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (np.zeros((1, 3, 8, 16), np.float32), r"\[1, 16, 16\] to \[2, 64, 64\]"),
        (np.zeros((1, 3, 16, 72), np.float32), r"not \[1, 16, 72\]"),
        (np.zeros((3, 3, 16, 16), np.float32), r"not \[3, 16, 16\]"),
        (np.zeros((1, 3, 16, 16), np.uint8), "float32"),
        (np.zeros((1, 4, 16, 16), np.float32), "float32"),
        (np.zeros((3, 16, 16), np.float32), "float32"),
    ],
)
def test_batches_that_the_engine_cannot_take_are_told(folder, batch, told):
    with opened(folder) as runner, pytest.raises(UsageError, match=told):
        runner.run(batch)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": "10.13.2"}, r"built with tensorrt 10\.13\.2.*running here is tensorrt 10\.3\.0.*another version"),
        ({"cuda": "13.0"}, r"CUDA 13\.0.*CUDA 12\.6.*another CUDA"),
        ({"compute_capabilities": ["sm_86", "sm_89"]}, r"for sm_86\+sm_89.*on sm_87.*another GPU"),
        ({"flavour": "tensorrt-rtx"}, "another library"),
        ({"cuda": "13.0", "version": "11.0"}, r"another version, CUDA\)"),
    ],
)
def test_an_engine_of_another_library_or_gpu_is_refused_before_it_is_read(tmp_path, onnx, changes, told):
    write_engine(tmp_path / "engine", onnx, **changes)
    module = Recorded()
    with pytest.raises(EngineError, match=told) as caught:
        open_and_close(tmp_path / "engine", library=recorded_flavour(module))
    assert caught.value.exit_code == 4
    assert "edge-claid build-engines --" in str(caught.value)
    assert module.read == []


def test_the_command_that_is_told_builds_for_the_gpu_at_hand(tmp_path, onnx):
    """An engine of an RTX card that was copied to a Jetson is not to be rebuilt by TensorRT for RTX there."""
    write_engine(tmp_path / "engine", onnx, flavour="tensorrt-rtx", compute_capabilities=["sm_86"])
    known = read_manifest(tmp_path / "engine")
    for sm, command in (("sm_87", "build-engines --model"), ("sm_89", "build-engines --backend tensorrt-rtx --model")):
        with pytest.raises(EngineError, match=command):
            check_fit(known, Running("tensorrt-rtx", known.version, known.cuda, sm))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 2}', b"\xff" * 40, b" " * 2**21, b"[" * 100_000],
)
def test_a_manifest_that_cannot_be_trusted_is_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(EngineError, match=r"manifest\.json"):
        open_and_close(folder)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"layer": 8', '"layer": "8"'),
        ('"wider": false', '"wider": 0'),
        ("12.6", '12.6", "more": "1'),
        ('"sm_87"', "87"),
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(folder, before, after):
    path = folder / MANIFEST
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(EngineError, match="lacks or misstates"):
        open_and_close(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "small; touch /tmp/x #"},
        {"network": "../small"},
        {"network": "\x1b[31msmall"},
        {"flavour": "tensorrt\n"},
        {"version": "10.3`id`"},
        {"key": "../../elsewhere"},
        {"compute_capabilities": []},
        {"compute_capabilities": ["sm_87;id"]},
        {"shapes": {}},
        {"shapes": {"smallest": [1], "usual": [1], "largest": [1]}},
        {"verification": {"status": "failed", "failures": [1]}},
        {"verification": {"status": "failed", "failures": ["\x1b[2J"]}},
    ],
)
def test_values_that_no_build_writes_are_refused(folder, changes):
    """Names of a manifest stand on terminals and in commands to be copied."""
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(EngineError, match=f"lacks or misstates {next(iter(changes))}"):
        read_manifest(folder)


def test_a_manifest_that_is_no_file_is_not_read(folder):
    """A link to a device that never ends would take all memory, a pipe would wait for ever."""
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    with pytest.raises(EngineError, match="it is no file"):
        read_manifest(folder)


def test_an_engine_that_is_not_the_one_that_was_built_is_refused(folder):
    content, module = (folder / ENGINE).read_bytes(), Recorded()
    for damaged in (content[:-1], content[:-1] + b"x", b"", None):
        if damaged is None:
            (folder / ENGINE).unlink()
        else:
            (folder / ENGINE).write_bytes(damaged)
        with pytest.raises(EngineError, match=r"model\.engine.*--model small --precision fp16 --force"):
            open_and_close(folder, library=recorded_flavour(module))
    assert module.read == []


def test_no_engine_at_all_is_told(tmp_path):
    with pytest.raises(EngineError, match="no engine in"):
        open_and_close(tmp_path)


def test_an_interrupt_while_the_library_is_loaded_is_no_missing_library(tmp_path, monkeypatch):
    """pybind11 tells an interrupt within a module's start as an ImportError whose cause it is."""
    text = "raise ImportError('initialization failed') from KeyboardInterrupt()"
    (tmp_path / "tensorrt_rtx.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        flavour("tensorrt-rtx")


def test_a_library_that_answers_with_nothing_is_told(folder):
    """NVIDIA/TensorRT#2105: None, and a line in a log that nobody sees."""
    with pytest.raises(EngineError, match=r"plan file is not compatible.*build-engines") as caught:
        open_and_close(folder, library=recorded_flavour(Recorded(answer=None)))
    assert caught.value.exit_code == 4


def test_an_engine_of_other_outputs_is_refused(tmp_path, onnx):
    write_engine(tmp_path / "engine", onnx, outputs=["tokens"])
    with pytest.raises(EngineError, match="image, map"):
        open_and_close(tmp_path / "engine")


def test_nothing_leaks_over_ten_thousand_loads(folder, monkeypatch):
    """The bookkeeping: device memory, buffers, engines. Running is one in a hundred, as it is ONNX Runtime's time."""
    device, engine = HostDevice(), Recorded().Runtime(None).deserialize_cuda_engine((folder / ENGINE).read_bytes())
    library, batch = recorded_flavour(Recorded(answer=engine)), planes(1, 16, 16)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda content: engine)
    monkeypatch.setattr(library.module, "Runtime", lambda logger: runtime)
    runner = opened(folder, device, library)

    def cycles(count):
        for number in range(count):
            with runner:
                if number % 100 == 0:
                    runner.run(batch)
        gc.collect()
        return len(gc.get_objects())

    before = cycles(300)
    after = cycles(10_000)
    assert not device.live
    assert after - before < 100


class RecordedDriver:
    """The driver's graph calls; each is told, the recording's number is 7."""

    def __init__(self, failing: str = "") -> None:
        self.calls: list[str] = []
        self._failing = failing

    def __getattr__(self, name: str):
        def call(*arguments):
            self.calls.append(name)
            if name == "cuGraphInstantiateWithFlags":
                arguments[0]._obj.value = 7
            return 1 if name == self._failing else 0

        return call


def test_launches_are_recorded_once_and_replayed(folder, onnx, monkeypatch):
    driver = RecordedDriver()
    monkeypatch.setattr("edge_claid.ops.cuda.graph._driver", lambda: driver)
    with opened(folder, graph=True) as runner:
        first = runner.run(planes())
        assert driver.calls == [
            "cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphDestroy",
            "cuGraphLaunch",
        ]  # fmt: skip
        assert len(runner._context.played.streams) == 2  # once to warm up, once recorded
        runner.run(planes())
        assert driver.calls[5:] == ["cuGraphLaunch"]
        assert len(runner._context.played.streams) == 2
    assert driver.calls[-1] == "cuGraphExecDestroy"
    with OnnxRunner(onnx, threads=1) as reference:
        np.testing.assert_array_equal(first, reference.run(planes()))


@pytest.mark.parametrize("failing", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_recording_that_fails_is_told(failing):
    driver = RecordedDriver(failing)
    with pytest.raises(Exception, match=r"CUDA graph.*CUDA error 1") as caught, CudaGraph.recording(STREAM, driver):
        pass
    assert caught.value.exit_code == 3
    assert "cuGraphLaunch" not in driver.calls


def test_a_library_that_does_not_start_is_told(folder):
    """The bindings answer with TypeError where the library gives no runtime: no GPU, or a driver too old."""

    def refuse(logger):
        logger.log(logger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    module = Recorded()
    module.Runtime = refuse
    with pytest.raises(MachineError, match=r"tensorrt 10\.3\.0 does not start here \(CUDA.*35\): run .*doctor"):
        open_and_close(folder, library=recorded_flavour(module))


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3.9", "11.4.0"])
def test_every_version_takes_the_calls_of_the_runner(tmp_path, onnx, version):
    write_engine(tmp_path / "engine", onnx, version=version)
    with opened(tmp_path / "engine", library=recorded_flavour(version=version)) as runner:
        found = runner.run(planes())
    with OnnxRunner(onnx, threads=1) as reference:
        np.testing.assert_array_equal(found, reference.run(planes()))


def test_tensorrt_for_rtx_records_its_own_launches(tmp_path, onnx):
    library = recorded_flavour(name="tensorrt-rtx", version="1.7.1.116")
    write_engine(tmp_path / "engine", onnx, flavour="tensorrt-rtx", version="1.7.1.116")
    with opened(tmp_path / "engine", library=library, graph=True) as runner:
        runner.run(planes())
        assert runner._context.played.config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
        assert len(runner._context.played.streams) == 1
        assert not runner.recordable


def test_what_the_bindings_refuse_is_refused_here(folder):
    with opened(folder) as runner:
        context, engine = runner._context, runner._engine
        for call in (
            lambda: context.execute_async_v3(1.5),
            lambda: context.execute_async_v3(stream=1),
            lambda: context.set_tensor_address("image", None),
            lambda: context.set_input_shape("image", 3),
            lambda: engine.create_execution_context(object()),
            lambda: engine.get_tensor_name(),
        ):
            with pytest.raises(TypeError, match="incompatible function arguments"):
                call()
        with pytest.raises(AttributeError, match="create_runtime_config"):
            engine.create_runtime_config()  # 10.3 has none
        with pytest.raises(AttributeError, match="execute_v2"):
            context.execute_v2([])
