"""What PycudaDevice does over the real PyCUDA, on driver_model.cc in place of libcuda.so.1; see test_real_pycuda.py.

Usage: over_pycuda.py SCENARIO FOLDER, the functions below by name; FOLDER holds kernels built for the model, by family.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from pathlib import Path

import numpy as np
import pycuda.driver as cuda

from edge_claid.errors import MachineError
from edge_claid.ops.cuda import pycuda_device
from edge_claid.ops.cuda.device import DeviceArray
from edge_claid.ops.cuda.pycuda_device import PycudaDevice

COUNTS = ("retained", "stack", "arrays", "pinned", "streams", "modules", "graphs")
driver = ctypes.CDLL("libcuda.so.1")
driver.model_driver_another.restype = driver.model_driver_current.restype = ctypes.c_void_p


def counts() -> dict[str, int]:
    values = (ctypes.c_longlong * len(COUNTS))()
    driver.model_driver_counts(values)
    return dict(zip(COUNTS, values, strict=True))


def fail(name: str, code: int) -> None:
    """The next call of this name."""
    driver.model_driver_fail(name.encode(), code)


def refused(work, message: str) -> None:
    told = ""
    try:
        work()
    except MachineError as error:
        told = str(error)
    assert message in told, told or "no MachineError"


def frames_of(device: PycudaDevice) -> tuple[DeviceArray, np.ndarray, object]:
    """Planes of a picture by the kernel of preprocess, into an array; the array, what it must hold, the work."""
    from edge_claid.ops.cuda.preprocess_op import network_planes

    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    source, planes = device.upload(pixels), device.empty((1, 3, 6, 8), np.float32)
    wanted = (pixels.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None]
    return planes, wanted, lambda: network_planes(device, source, "rgb", planes, (0.0,) * 3, (1.0,) * 3)


def nothing_is_left() -> None:
    for _ in range(3):
        with PycudaDevice() as device:
            planes, wanted, work = frames_of(device)
            work()
            np.testing.assert_allclose(device.download(planes), wanted, atol=1e-6)
            pinned = device.pinned((np.int64(4), 3), np.float32)
            device.copy_from(planes.part(np.int64(0), 1).reshaped((4, 3)), pinned)
            assert counts() | {"arrays": 0} == {
                "retained": 1, "stack": 0, "arrays": 0, "pinned": 1, "streams": 1, "modules": 1, "graphs": 0,
            }  # fmt: skip
            with device.current():
                del pinned
            left_open = device.empty((7,), np.uint8)
        left_open.close()
        planes.close()
        gc.collect()
        assert not any(counts().values()), counts()


def another_librarys_context_stays() -> None:
    another = driver.model_driver_another()
    driver.cuCtxPushCurrent_v2(ctypes.c_void_p(another))
    with PycudaDevice() as device:
        assert driver.model_driver_current() == another
        device.upload(np.zeros(3, np.uint8)).close()
        assert driver.model_driver_current() == another
        with device.current():
            device.synchronize()
            assert driver.model_driver_current() != another
        assert driver.model_driver_current() == another
    assert driver.model_driver_current() == another
    assert counts()["stack"] == 1


def threads_take_turns() -> None:
    errors: list[BaseException] = []

    def guarded(work) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    def elsewhere(work) -> None:
        thread = threading.Thread(target=guarded, args=(work,))
        thread.start()
        thread.join()
        assert not errors, errors

    device = PycudaDevice()
    elsewhere(device.__enter__)
    array = device.upload(np.arange(5))
    found: list[np.ndarray] = []
    elsewhere(lambda: found.append(device.download(array)))
    np.testing.assert_array_equal(found[0], np.arange(5))
    elsewhere(array.close)
    device.upload(np.arange(5))
    elsewhere(lambda: device.__exit__(None, None, None))
    assert not any(counts().values()), counts()


def what_is_recorded_is_replayed() -> None:
    with PycudaDevice() as device:
        planes, wanted, work = frames_of(device)
        work()
        device.fill(planes, 0)
        recording = device.record(work)
        np.testing.assert_allclose(device.download(planes), wanted, atol=1e-6)
        device.fill(planes, 0)
        recording.launch()
        np.testing.assert_allclose(device.download(planes), wanted, atol=1e-6)
        recording.close()
        for spoiled in (
            lambda: device.empty((9_999,), np.uint8),
            lambda: device.upload(np.zeros(3)),
            device.synchronize,
        ):
            refused(lambda spoiled=spoiled: device.record(spoiled), "900")
        device.record(work).close()  # the stream is as before
        assert counts()["graphs"] == 0
    assert not any(counts().values()), counts()


def errors_are_told() -> None:
    refused(lambda: PycudaDevice(3), "no GPU can be used")
    with PycudaDevice() as device:
        array = device.upload(np.zeros(9, np.uint8))
        refused(lambda: device.empty((1 << 40,), np.uint8), "bytes left")
        kernels = device.kernels("preprocess")
        refused(lambda: kernels.launch("no_such", np.zeros((), [("a", np.int32)]), (1,), 32), "no_such could not be")
        refused(lambda: kernels.launch("network_planes", np.zeros((), [("a", np.int32)]), (1,), 32), "could not be")
        for call, work in {
            "cuMemAlloc_v2": lambda: device.empty((1 << 20,), np.uint8),
            "cuStreamSynchronize": lambda: device.download(array),
            "cuMemcpyHtoDAsync_v2": lambda: device.upload(np.ones(9, np.uint8), array),
            "cuMemcpyDtoHAsync_v2": lambda: device.download(array),
            "cuMemsetD8Async": lambda: device.fill(array, 255),
            "cuMemHostAlloc": lambda: device.pinned((3,), np.uint8),
            "cuMemGetInfo_v2": device.free_bytes,
            "cuModuleLoadDataEx": lambda: device.kernels("encode"),
        }.items():
            fail(call, 700)
            refused(work, "700")
        gc.collect()  # tracebacks of errors hold what failed
    assert not any(counts().values()), counts()


def main() -> None:
    folder = Path(sys.argv[2])
    # The image of a module is the path of its library; see driver_model.cc.
    pycuda_device.machine_code = lambda family, arch, cache_dir: f"{folder / family}.so\0".encode()
    assert cuda.__file__.startswith(sys.argv[3]), cuda.__file__
    globals()[sys.argv[1]]()
    print("done")


if __name__ == "__main__":
    main()
