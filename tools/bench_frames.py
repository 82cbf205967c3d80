"""Frames to hits on the GPU with the networks run by torch, for tools/bench_cuda.py; or why that cannot run here."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from bench_cuda_trees import milliseconds

FILES = ("vit.npz", "convolutional.npz", "frame.npy")
# A bare machine has none of these. The package imports them; the path from pixels to hits never uses them.
NEVER_USED = {"av", "cv2", "google", "onnx", "onnxruntime", "rich", "tomli", "typer"}
# Special methods by which Python uses an object.
_USES = (
    "call", "bool", "iter", "next", "len", "contains", "getitem", "setitem", "delitem", "enter", "exit", "await",
    "instancecheck", "subclasscheck", "eq", "ne", "lt", "le", "gt", "ge", "int", "float", "complex", "index", "bytes",
    "format", "str", "abs", "neg", "pos", "invert", "round", "add", "sub", "mul", "matmul", "truediv", "floordiv",
    "mod", "divmod", "pow", "lshift", "rshift", "and", "or", "xor", "radd", "rsub", "rmul", "rmatmul", "rtruediv",
    "rfloordiv", "rmod", "rdivmod", "rpow", "rlshift", "rrshift", "rand", "ror", "rxor",
)  # fmt: skip
REGIONS_AN_IMAGE = 30


def frame_to_hits(
    device: Any, folder: Path, rows: int, quick: bool, where: str = "cuda", settings: Any = None
) -> dict[str, Any]:
    """Latency of one picture from pixels on the host to hits on the host, and where it goes.

    folder: holds FILES, from tools/gpu_check_data.py. rows: of the gallery, made-up codes of 16 bytes. where: torch's
    name of what `device` is. settings: FILES were made with, None for the defaults. What cannot run gives
    {"not run": why}.
    """
    why = _why_not(folder, where)
    return {"not run": why} if why else _measured(device, folder, rows, quick, where, settings)


def _why_not(folder: Path, where: str) -> str:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        return f"{folder} has no {', '.join(missing)}: make it anew with tools/gpu_check_data.py"
    try:
        import torch
    except ImportError as error:
        return f"torch cannot be loaded ({error})"
    if where == "cuda" and not torch.cuda.is_available():
        return f"torch {torch.__version__} has no CUDA here"
    return ""


def _measured(device: Any, folder: Path, rows: int, quick: bool, where: str, settings: Any) -> dict[str, Any]:
    import torch

    with _stand_ins():
        from torch_network import StaticNetwork, TorchNetwork

        from edge_claid.config import Settings
        from edge_claid.gpu_pipeline import GpuPipeline
        from edge_claid.ops.cuda.encode_op import CudaCoder
        from edge_claid.ops.cuda.scan_op import CodeScan
        from edge_claid.records import Frame

    repeats, settings = 3 if quick else 100, settings or Settings()
    frame = Frame(np.load(folder / "frame.npy"))
    # Halves on a CPU are slow, and nothing is timed there.
    kind = torch.float16 if where == "cuda" else torch.float32
    networks = [StaticNetwork(folder / name, where, kind) for name in FILES[:2]]
    vit, convolutional = (TorchNetwork(device, network) for network in networks)
    files = (networks[0].file, networks[1].file)
    with contextlib.ExitStack() as stack:
        gpu = stack.enter_context(GpuPipeline(device, settings, files, vit, convolutional))
        described = gpu.describe_regions(frame)
        tokens = device.download(vit.outputs[0])[0]
        same = _same_regions(described.regions, tokens, settings, files[0].mean_token)
        space = _made_up_space(described.descriptors.values.shape[1])
        coder = stack.enter_context(CudaCoder(device, *space))
        scan = stack.enter_context(CodeScan(device, space[3].shape[0]))
        codes = np.random.default_rng(3).integers(0, 256, (rows, space[3].shape[0]), dtype=np.uint8)
        scan.append(codes, (np.arange(rows) // REGIONS_AN_IMAGE).astype(np.int32))
        whole = milliseconds(device, lambda: gpu.look_up(frame, coder, scan, 10), repeats)
        alone = {
            name: _alone(device, network, runs, repeats)
            for name, network, runs in zip(("vit", "convolutional"), networks, (vit, convolutional), strict=True)
        }
        boxes = gpu.look_up(frame, coder, scan, 10).boxes
    alone["the rest"] = {"median_ms": whole["median_ms"] - sum(one["median_ms"] for one in alone.values())}
    precision = "fp16 as CUDA graphs" if where == "cuda" else "fp32 on the CPU"
    return {
        "networks": f"torch {torch.__version__}, {precision}; the ViT's matrices were kept in 8 bits",
        "picture": "{}x{}".format(*frame.size),
        "inputs": {name: list(network.shape) for name, network in zip(alone, networks, strict=False)},
        "rows": rows,
        "regions": len(boxes),
        "regions_identical_with_the_cpu": same and bool(np.array_equal(boxes, described.regions.boxes)),
        "frame_to_hits": whole,
        "where": alone,
    }


def _same_regions(found: Any, tokens: np.ndarray, settings: Any, center: np.ndarray | None) -> bool | None:
    """Whether the CPU's stages make the same regions of the tokens that the GPU's network made; None without them."""
    try:
        from edge_claid.ops.cpu import decomposition_op
    except ImportError:
        return None
    from edge_claid.records import Tokens
    from edge_claid.regions.claid import ClaidDetector

    detector = ClaidDetector(settings.regions, decomposition_op.decompose, center)
    wanted = detector.detect(Tokens(tokens, found.grid, found.image_size))
    return all(np.array_equal(getattr(wanted, name), getattr(found, name)) for name in ("masks", "parents", "boxes"))


def _made_up_space(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, projection to 256, rotation and code book of 16 bytes: what they hold changes no time."""
    rng = np.random.default_rng(2)
    rotation = np.linalg.qr(rng.standard_normal((256, 256)))[0].astype(np.float32)
    centroids = rng.standard_normal((16, 256, 16)).astype(np.float32) / 16
    return np.zeros(width, np.float32), rng.standard_normal((width, 256)).astype(np.float32), rotation, centroids


def _alone(device: Any, network: Any, runs: Any, repeats: int) -> dict[str, float]:
    """One network over and over, on planes of its own."""
    planes = device.upload(np.zeros(network.shape, np.float32))
    outputs: list[Any] = []
    try:
        outputs = runs.run_all(planes)
        return milliseconds(device, lambda: runs.run_into(planes, outputs), repeats)
    finally:
        for array in (planes, *outputs):
            array.close()


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Imports of NEVER_USED that are not installed succeed; afterwards they are missing again."""
    finder = _StandIns()
    sys.meta_path.append(finder)  # last: what is installed is found before
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self) -> None:
        self.made: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in NEVER_USED:
            return None
        return importlib.util.spec_from_loader(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        self.made.append(spec.name)
        return _NeverUsed(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _NeverUsed(ModuleType):
    """A module, or what lies in it, that can be imported and named; every other use raises RuntimeError with its name.

    A figure can therefore not come of what only looks like a library.
    """

    def __getattr__(self, name: str) -> _NeverUsed:
        if name.startswith("__"):  # what Python itself asks a module for
            raise AttributeError(name)
        return _NeverUsed(f"{self.__name__}.{name}")

    def _refuse(self, *_: object, **__: object) -> Any:
        raise RuntimeError(f"{self.__name__} was used, and is not installed here: install it, and measure again")


for _use in _USES:
    setattr(_NeverUsed, f"__{_use}__", _NeverUsed._refuse)
