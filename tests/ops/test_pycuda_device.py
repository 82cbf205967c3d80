"""The layer over PyCUDA against a recorded interface (recorded_pycuda.py). It is no GPU and says nothing of one."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_pycuda import Recorded, installed

from edge_claid.errors import MachineError
from edge_claid.ops.cuda.decomposition_op import CudaDecomposition


@pytest.fixture
def driver():
    return Recorded()


@pytest.fixture
def module(monkeypatch, driver):
    return installed(monkeypatch, driver)


def test_contexts_are_balanced_and_memory_is_given_back(module, driver):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with module.PycudaDevice() as device:
        assert (device.shared_limit, device.processors, device.name) == (166912, 8, "recorded")
        array = device.upload(values)
        np.testing.assert_array_equal(device.download(array), values)
        np.testing.assert_array_equal(device.download(array.part(1, 2)), values[1:])
        device.fill(array, 0)
        assert not device.download(array).any()
        array.close()
        array.close()
        assert not driver.allocated
        device.empty((5,), np.uint8)  # left open: the device frees it
        assert driver.contexts == ["another library's"]
    assert driver.contexts == ["another library's"]
    assert not driver.allocated
    assert driver.retained == 0


def test_another_librarys_context_on_top_does_no_harm(module, driver):
    with module.PycudaDevice() as device:
        driver.contexts.append("a third")
        device.upload(np.zeros(3, np.uint8)).close()
        with device.current():
            device.synchronize()
            assert driver.contexts[-1] == "primary"
        assert driver.contexts == ["another library's", "a third"]
        driver.contexts.pop()


def test_a_launch_carries_the_struct_and_asks_for_large_shared_memory(module, driver):
    dtype = np.dtype([("pointer", np.uint64), ("count", np.int32), ("_end", np.int32)])
    arguments = np.zeros((), dtype)
    arguments["pointer"], arguments["count"] = 7, 9
    with module.PycudaDevice() as device:
        kernels = device.kernels("scan")
        kernels.launch("small", arguments, (3,), 256)
        kernels.launch("large", arguments, (2, 5), 128, 100_000)
        assert device.kernels("scan") is kernels
    small, large = driver.launches
    assert small["bytes"] == large["bytes"] == arguments.tobytes()
    assert (small["grid"], small["block"], small["shared"]) == ((3, 1), (256, 1, 1), 0)
    assert "max_dynamic_shared" not in small
    assert (large["grid"], large["shared"], large["max_dynamic_shared"]) == ((2, 5), 100_000, 100_000)


class RecordedGraphs:
    """The driver's graph calls, each of which wants our context on top. failing: the call that fails, by name."""

    def __init__(self, driver: Recorded, failing: str = "") -> None:
        self.calls: list[str] = []
        self._driver, self._failing = driver, failing

    def __getattr__(self, name: str):
        def call(*arguments):
            assert self._driver.contexts[-1] == "primary"
            self.calls.append(name)
            if name == "cuGraphInstantiateWithFlags":
                arguments[0]._obj.value = 7
            return 1 if name == self._failing else 0

        return call


def test_launches_are_recorded_and_replayed_in_our_context(module, driver, monkeypatch):
    graphs = RecordedGraphs(driver)
    monkeypatch.setattr("edge_claid.ops.cuda.graph._driver", lambda: graphs)
    with module.PycudaDevice() as device:
        kernels = device.kernels("scan")
        arguments = np.zeros((), [("count", np.int32)])
        recording = device.record(lambda: kernels.launch("work", arguments, (1,), 32))
        assert (len(driver.launches), graphs.calls[0], graphs.calls[-1]) == (
            1, "cuStreamBeginCapture_v2", "cuGraphLaunch",
        )  # fmt: skip
        driver.contexts.append("another library's")
        recording.launch()
        driver.contexts.pop()
        recording.close()
        recording.close()
        assert len(driver.launches) == 1
        assert graphs.calls.count("cuGraphLaunch") == 2
        assert graphs.calls.count("cuGraphExecDestroy") == 1
    assert driver.contexts == ["another library's"]


def test_a_launch_that_fails_while_it_is_recorded_ends_the_recording(module, driver, monkeypatch):
    graphs = RecordedGraphs(driver)
    monkeypatch.setattr("edge_claid.ops.cuda.graph._driver", lambda: graphs)
    with module.PycudaDevice() as device:
        driver.fail = "launch"
        with pytest.raises(MachineError, match="kernel work could not be started"):
            device.record(lambda: device.kernels("scan").launch("work", np.zeros((), [("count", np.int32)]), (1,), 32))
        driver.fail = ""
    assert graphs.calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture"]
    assert driver.contexts == ["another library's"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("launch", "kernel work could not be started"),
        ("upload", "copying to the GPU failed"),
        ("synchronize", "the GPU failed"),
        ("download", "the GPU failed"),
    ],
)
def test_errors_come_back_at_the_call_that_caused_them(module, driver, call, message):
    with module.PycudaDevice() as device:
        array = device.upload(np.zeros(3, np.uint8))
        driver.fail = call
        work = {
            "launch": lambda: device.kernels("scan").launch("work", np.zeros((), [("count", np.int32)]), (1,), 32),
            "upload": lambda: device.upload(np.zeros(3, np.uint8), array),
            "synchronize": device.synchronize,
            "download": lambda: device.download(array),
        }[call]
        with pytest.raises(MachineError, match=f"{message}.*recorded"):
            work()
        driver.fail = ""
    assert driver.contexts == ["another library's"]
    assert not driver.allocated


def test_memory_that_does_not_suffice_leaves_nothing_behind(module, driver):
    driver.memory = 5_000_000  # the Gram matrix of one picture alone is 2 MB
    with module.PycudaDevice() as device:
        with pytest.raises(MachineError, match="bytes left"), CudaDecomposition(device, 16, (32, 32), 384):
            pass
        assert not driver.allocated


def test_a_gpu_that_is_not_there_is_told(module):
    with pytest.raises(MachineError, match=r"no GPU can be used.*ordinal"):
        module.PycudaDevice(3)


def test_without_pycuda_the_remedy_is_told(module, monkeypatch):
    monkeypatch.setattr(module, "cuda", None)
    monkeypatch.setattr(module, "_WHY", "no libcuda.so.1", raising=False)
    with pytest.raises(MachineError, match=r"no libcuda.so.1.*pip install pycuda"):
        module.PycudaDevice()
