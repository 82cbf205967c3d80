"""What the NVIDIA driver says of this machine's GPUs, asked through its own library; no other package is needed."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_size_t, c_void_p
from dataclasses import dataclass

LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute


@dataclass(frozen=True)
class Gpu:
    """One GPU. sm: compute capability, as "sm_87". memory: bytes in all; free: of them, None where it was not told.

    integrated: it shares its memory with the CPU, as a Jetson's does.
    """

    number: int
    name: str
    sm: str
    memory: int
    free: int | None
    integrated: bool


@dataclass(frozen=True)
class Driver:
    """cuda: newest CUDA that the driver takes, as "12.6"; gpus: of this machine, none where they cannot be asked.

    problem: why there is nothing to be told, or "".
    """

    cuda: str
    gpus: tuple[Gpu, ...]
    problem: str = ""


def driver(library: str = LIBRARY) -> Driver:
    """The driver of this machine and its GPUs; never raises: what is missing is told in ``problem``."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return Driver("", (), f"there is no NVIDIA driver on this machine (no {library})")
    version = c_int()
    cuda.cuDriverGetVersion(byref(version))
    named = f"{version.value // 1000}.{version.value % 1000 // 10}"
    started = cuda.cuInit(0)
    if started:
        return Driver(named, (), f"the NVIDIA driver does not start (CUDA error {started})")
    count = c_int()
    cuda.cuDeviceGetCount(byref(count))
    gpus = tuple(_gpu(cuda, number) for number in range(count.value))
    return Driver(named, gpus, "" if gpus else "the NVIDIA driver knows no GPU")


def _gpu(cuda: ctypes.CDLL, number: int) -> Gpu:
    device, memory, name = c_int(), c_size_t(), ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(byref(device), number)
    cuda.cuDeviceGetName(name, 256, device)
    cuda.cuDeviceTotalMem_v2(byref(memory), device)
    major, minor, integrated = (_attribute(cuda, which, device) for which in (_MAJOR, _MINOR, _INTEGRATED))
    text = name.value.decode(errors="replace")
    return Gpu(number, text, f"sm_{major}{minor}", memory.value, _free(cuda, device), bool(integrated))


def _attribute(cuda: ctypes.CDLL, which: int, device: c_int) -> int:
    value = c_int()
    cuda.cuDeviceGetAttribute(byref(value), which, device)
    return value.value


def _free(cuda: ctypes.CDLL, device: c_int) -> int | None:
    """Free bytes, which only a context knows; the primary one is borrowed and given back."""
    context, free, total = c_void_p(), c_size_t(), c_size_t()
    if cuda.cuDevicePrimaryCtxRetain(byref(context), device):
        return None
    try:
        if cuda.cuCtxPushCurrent_v2(context):
            return None
        told = cuda.cuMemGetInfo_v2(byref(free), byref(total))
        cuda.cuCtxPopCurrent_v2(byref(context))
        return None if told else free.value
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)


def runtime_cuda(library: str = "libcudart.so") -> str:
    """Version of the CUDA runtime library that the system links to, as "12.6"; "" where there is none."""
    try:
        runtime = ctypes.CDLL(library)
        version = c_int()
        runtime.cudaRuntimeGetVersion(byref(version))
    except (OSError, AttributeError):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
