"""The way from the driver to a network that runs on the GPU."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import onnxruntime

from edge_claid.config import Settings
from edge_claid.doctor.check import OK, PROBLEM, WARNING, Check
from edge_claid.engines.runtime import choose_runtime, providers_of
from edge_claid.engines.upkeep import RUNS, states
from edge_claid.errors import EdgeClaidError, MachineError
from edge_claid.ops.cuda.compile import FAMILIES, SOURCES, compiles_for, found_nvcc
from edge_claid.runners.cuda_driver import LIBRARY, Driver, runtime_cuda
from edge_claid.runners.tensorrt_api import FLAVOURS, RTX_TARGETS, Flavour, flavour

JETSON = Path("/etc/nv_tegra_release")
JETSON_ARCHITECTURES = ("sm_87", "sm_110")


def gpu_checks(here: Driver, settings: Settings, cache_dir: Path | None = None) -> Iterator[Check]:
    """Driver, GPUs, CUDA, kernels, TensorRT flavours, PyCUDA, ONNX Runtime, engines. here: the driver's answers."""
    yield _driver(here)
    for gpu in here.gpus:
        free = f", {gpu.free / 1e9:.1f} free" if gpu.free is not None else ""
        shared = " shared with the CPU" if gpu.integrated else ""
        yield Check(f"GPU {gpu.number}", OK, f"{gpu.name}, {gpu.sm}, {gpu.memory / 1e9:.1f} GB{shared}{free}")
    yield _cuda(here)
    yield _kernels(here)
    for name in FLAVOURS:
        yield _tensorrt(name, here)
    yield _pycuda(here)
    yield _onnxruntime(here)
    yield _engines(here, settings, cache_dir)
    yield _runtime(here, settings, cache_dir)


def is_jetson(here: Driver, release: Path = JETSON) -> bool:
    """Whether this is a Jetson: by its release file, or by its GPU."""
    return release.is_file() or any(gpu.integrated and gpu.sm in JETSON_ARCHITECTURES for gpu in here.gpus)


def _driver(here: Driver) -> Check:
    if here.gpus:
        return Check("NVIDIA driver", OK, f"takes CUDA up to {here.cuda}")
    # No library: nobody put a driver here, and the CPU serves. A library that fails: somebody wanted a GPU.
    if LIBRARY in here.problem:
        return Check("NVIDIA driver", OK, f"{here.problem}: ONNX Runtime on the CPU serves")
    fix = "load the driver (nvidia-smi tells more); in a container, start it with --runtime nvidia or --gpus all"
    return Check("NVIDIA driver", PROBLEM, here.problem, fix)


def _cuda(here: Driver) -> Check:
    version = runtime_cuda()
    if version or not here.gpus:
        return Check("CUDA", OK, f"runtime {version}" if version else "not installed, not needed without a GPU")
    fix = "install the CUDA runtime (on a Jetson: apt install nvidia-jetpack)"
    return Check("CUDA", WARNING, "no libcudart.so is found; TensorRT for RTX brings its own", fix)


def _kernels(here: Driver) -> Check:
    if not here.gpus:
        return Check("CUDA kernels", OK, "not needed without a GPU")
    sm = here.gpus[0].sm
    if all((SOURCES / family / f"{family}.{sm}.fatbin").is_file() for family in FAMILIES):
        return Check("CUDA kernels", OK, f"built for {sm}")
    nvcc = found_nvcc()
    if nvcc and compiles_for(nvcc, sm):
        return Check("CUDA kernels", OK, f"compiled for {sm} at first use by {nvcc}")
    fix = f"install the CUDA toolkit, or run `python -m edge_claid.ops.cuda.compile --arch {sm}` where nvcc is"
    if nvcc:
        fix = f"install a CUDA toolkit that knows {sm}, or put its nvcc on PATH before this one"
        return Check("CUDA kernels", PROBLEM, f"not built for {sm}, which {nvcc} does not know", fix)
    return Check("CUDA kernels", PROBLEM, f"not built for {sm}, and there is no nvcc", fix)


def _tensorrt(name: str, here: Driver) -> Check:
    sm = here.gpus[0].sm if here.gpus else ""
    shown = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}[name]
    try:
        library = flavour(name)
    except MachineError as error:
        if not sm or (name == "tensorrt-rtx" and sm not in RTX_TARGETS):
            return Check(shown, OK, "not installed, not needed here")
        if name == "tensorrt" and sm in RTX_TARGETS:
            return Check(shown, OK, "not installed; TensorRT for RTX serves this card")
        reason, _, fix = str(error).rpartition(": ")
        return Check(shown, PROBLEM, reason, fix)
    told = f"{library.version}" + (f", CUDA {library.cuda}" if library.cuda else "")
    if name == "tensorrt-rtx" and sm and sm not in RTX_TARGETS:
        return Check(shown, WARNING, f"{told}, which does not run on {sm}", "use TensorRT (--backend tensorrt)")
    if sm and (reason := _starts(library)):
        fix = f"take a driver for CUDA {library.cuda or 'of this library'} or newer, or the library for this driver"
        return Check(shown, PROBLEM, reason, fix)
    return Check(shown, OK, told if sm else f"{told}; builds for other machines (--target), there is no GPU here")


def _starts(library: Flavour) -> str:
    """Why a library that can be imported does not start on this machine's GPU, or ""."""
    complaints: list[str] = []

    def told(severity: str, message: str) -> None:
        if severity == "error":
            complaints.append(" ".join(message.split())[:200])

    logger = library.logger(told)
    try:
        library.runtime(logger, lambda: f" ({complaints[0]})" if complaints else "")
    except MachineError as error:
        return str(error).rpartition(": ")[0]
    return ""


def _pycuda(here: Driver) -> Check:
    try:
        driver = importlib.import_module("pycuda.driver")
        version = ".".join(map(str, driver.get_version()))
    except ImportError as error:
        if not here.gpus:
            return Check("PyCUDA", OK, "not to be loaded, not needed without a GPU")
        reason = str(error).splitlines()[0]
        fix = "pip install pycuda (it compiles: the CUDA toolkit's nvcc must be on PATH)"
        return Check("PyCUDA", PROBLEM, f"cannot be loaded ({reason})", fix)
    return Check("PyCUDA", OK, f"built for CUDA {version}")


def _onnxruntime(here: Driver) -> Check:
    providers = onnxruntime.get_available_providers()
    told = f"{onnxruntime.__version__}: {', '.join(name.removesuffix('ExecutionProvider') for name in providers)}"
    if "CPUExecutionProvider" not in providers:
        return Check("ONNX Runtime", PROBLEM, told, "pip install --force-reinstall onnxruntime")
    return Check("ONNX Runtime", OK, told)


def _engines(here: Driver, settings: Settings, cache_dir: Path | None) -> Check:
    if not here.gpus:
        return Check("engines", OK, "not needed without a GPU")
    running = {
        known.entry.manifest.network: known.entry.manifest
        for known in states(cache_dir, here)
        if known.state == RUNS and known.entry.manifest
    }
    missing = [name for name in (settings.networks.vit, settings.networks.descriptor) if name not in running]
    if missing:
        told = f"none that runs here for {' and '.join(missing)}: ONNX Runtime on the CPU serves"
        return Check("engines", WARNING, told, "edge-claid build-engines")
    tried = ", ".join(f"{name} {manifest.verification['status']}" for name, manifest in running.items())
    return Check("engines", OK, tried)


def _runtime(here: Driver, settings: Settings, cache_dir: Path | None) -> Check:
    try:
        choice = choose_runtime(settings.networks, cache_dir, here)
    except EdgeClaidError as error:
        reason, _, fix = str(error).rpartition(": ")
        return Check("networks", PROBLEM, reason, fix)
    missing = [name for name in providers_of(choice) if name not in onnxruntime.get_available_providers()]
    if missing:
        fix = "pip install onnxruntime-gpu in place of onnxruntime, or take the runtime auto"
        return Check("networks", PROBLEM, f"{choice.name} needs {' and '.join(missing)}", fix)
    told = f"run by {choice.told}"
    return Check("networks", OK, told if not choice.given_up else f"{told}, as {choice.given_up.rpartition(': ')[0]}")
