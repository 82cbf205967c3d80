"""The pipeline on a GPU: a frame goes up, hits come down; tokens, regions, descriptors and codes stay there.

It gives what ``Pipeline.describe_regions`` gives and takes the same settings and networks, so a gallery of the one is
searched by the other, and everything above does not see which of the two it has. What runs the networks is handed in:
a TensorRT engine that leaves its output on the device (``EngineNetwork``), or ``HostNetwork`` around any Runner.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_claid.codes.space import CodeSpace
from edge_claid.config import Settings
from edge_claid.engines.runtime import Networks, SharedEngine
from edge_claid.errors import BadImageError, UsageError
from edge_claid.gpu_frame import DeviceNetwork, FrameOnDevice, Stages
from edge_claid.gpu_scan import GpuScans
from edge_claid.models import NetworkFile
from edge_claid.ops.cuda.device import Device, DeviceArray
from edge_claid.ops.cuda.encode_op import CudaCoder
from edge_claid.ops.cuda.pool_op import MapPooling
from edge_claid.ops.cuda.scan_op import CodeScan
from edge_claid.records import Described, Descriptors, Frame, Tokens
from edge_claid.regions.claid import regions_from_nodes
from edge_claid.runners import Runner


class HostNetwork:
    """A network that runs beside the GPU or behind its own copies: planes come down, outputs go up."""

    def __init__(self, device: Device, runner: Runner) -> None:
        self._device, self._runner = device, runner

    def run_all(self, planes: DeviceArray) -> list[DeviceArray]:
        found = self._runner.run_all(self._device.download(planes))
        with contextlib.ExitStack() as opening:
            outputs = []
            for values in found:
                outputs.append(self._device.upload(values))
                opening.callback(outputs[-1].close)
            opening.pop_all()
        return outputs

    def run_into(self, planes: DeviceArray, outputs: list[DeviceArray]) -> None:
        found = self._runner.run_all(self._device.download(planes))
        for values, output in zip(found, outputs, strict=True):
            self._device.upload(values, output)

    def recordable(self, shape: tuple[int, ...]) -> bool:
        return False


class EngineNetwork:
    """An engine on the device; a shape that it does not take goes by way of the host, as it does in Pipeline."""

    def __init__(self, device: Device, shared: SharedEngine) -> None:
        self._engine, self._by_host = shared.engine, HostNetwork(device, shared)

    def run_all(self, planes: DeviceArray) -> list[DeviceArray]:
        if not self._engine.takes(planes.shape):
            return self._by_host.run_all(planes)
        outputs: list[DeviceArray] = self._engine.run_all(planes)
        return outputs

    def run_into(self, planes: DeviceArray, outputs: list[DeviceArray]) -> None:
        (self._engine if self._engine.takes(planes.shape) else self._by_host).run_into(planes, outputs)

    def recordable(self, shape: tuple[int, ...]) -> bool:
        return bool(self._engine.takes(shape) and self._engine.recordable)


@dataclass(frozen=True)
class RegionLookUp:
    """The nearest gallery images of every region of a frame.

    boxes: (R, 4) float32, pixels; row 0 the whole picture. images: (R, k) int32, positions in the scan, -1 where there
    are fewer. distances: (R, k) float32, squared. regions: (R, k) int64, the nearest region of each.
    """

    boxes: np.ndarray
    images: np.ndarray
    distances: np.ndarray
    regions: np.ndarray


class GpuPipeline:
    """One frame at a time on one device; other threads wait. Use in a ``with`` block.

    vit, convolutional: what runs the networks of `files`, in that order. settings: as for Pipeline. lock: held while a
    frame is on the device; who else uses the device's stream must hold it too.
    Memory and recorded launches are kept for the last frame's size; see FrameOnDevice.
    Raises MachineError where the device's memory does not suffice; nothing stays allocated for that frame.
    """

    def __init__(
        self,
        device: Device,
        settings: Settings,
        files: tuple[NetworkFile, NetworkFile],
        vit: DeviceNetwork,
        convolutional: DeviceNetwork,
        lock: threading.Lock | None = None,
    ) -> None:
        self._device, self._settings, self._files = device, settings, files
        self._vit, self._convolutional = vit, convolutional
        self._lock = lock or threading.Lock()
        self._scans = GpuScans(device, self._lock)
        self._resources = contextlib.ExitStack()
        self._stages: Stages | None = None
        self._frame: FrameOnDevice | None = None
        self._shape: object = None

    def __enter__(self) -> GpuPipeline:
        device, chosen, mean = self._device, self._settings.descriptors, self._files[0].mean_token
        center: DeviceArray | None = None
        with contextlib.ExitStack() as opening:
            if self._settings.regions.center:
                if mean is None:
                    raise UsageError("region settings ask for centring, but the network has no mean token")
                center = device.upload(np.ascontiguousarray(mean, np.float32))
                opening.callback(center.close)
            pooling = opening.enter_context(MapPooling(device, chosen.power, chosen.smallest_side, chosen.margin))
            self._stages = Stages(device, self._settings, self._files, self._vit, self._convolutional, pooling, center)
            self._resources = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock, self._device.current():
            self._drop_frame()
            self._scans.close()
            self._resources.close()

    def describe_regions(self, frame: Frame, side: int | None = None) -> Described:
        """Regions of a frame and their descriptors, on the host. side: the ViT's; None as the settings have it.

        Raises BadImageError where the network's tokens are not finite.
        """
        with self._described(frame, side, None) as found:
            (tree,) = found.trees.download()
            if isinstance(tree, BadImageError):
                raise tree
            kept, parents = (self._device.download(array) for array in found.kept)
            tokens = Tokens(np.empty((0, 0), np.float32), found.grid, frame.size)
            regions = regions_from_nodes(tree, kept, parents, tokens)
            return Described(regions, Descriptors(self._device.download(found.descriptors)))

    def look_up(self, frame: Frame, coder: CudaCoder, scan: CodeScan, k: int) -> RegionLookUp:
        """The k nearest gallery images of each of a frame's regions, without its descriptors leaving the device.

        coder, scan: the gallery's code space (``coder_of``) and its codes. Raises BadImageError where the network's
        tokens are not finite.
        """
        with self._described(frame, None, coder) as found:
            return RegionLookUp(self._device.download(found.boxes), *scan.search_on_device(found.tables, k))

    def code_scan(self, subspaces: int) -> Any:
        """An empty scan of a gallery's codes, for a GallerySearch: as ``ops.load().code_scan``, but on this device."""
        return self._scans.make(subspaces)

    # -- inside

    @contextlib.contextmanager
    def _described(self, frame: Frame, side: int | None, coder: CudaCoder | None) -> Iterator[FrameOnDevice]:
        if self._stages is None:
            raise RuntimeError("a GpuPipeline is used in its with block")
        with self._lock, self._device.current():
            shape = (frame.size, side or self._settings.networks.vit_side, coder)
            if shape != self._shape:
                self._drop_frame()
                self._frame, self._shape = FrameOnDevice(self._stages, *shape), shape
            assert self._frame is not None
            try:
                count = self._frame.describe(frame.pixels)
            except BaseException:
                # What a stage left half done is not built upon.
                self._drop_frame()
                raise
            if not count:
                raise BadImageError(f"{frame.name or 'the frame'}: the network's tokens are not finite")
            yield self._frame

    def _drop_frame(self) -> None:
        frame, self._frame, self._shape = self._frame, None, None
        if frame is not None:
            frame.close()


@contextlib.contextmanager
def gpu_pipeline_over(running: Networks, settings: Settings, cache_dir: Path | None = None) -> Iterator[GpuPipeline]:
    """The pipeline over networks that are open: engines leave their outputs on their device, others go by the host.

    Raises MachineError where there is no GPU, or nothing to compile its kernels with.
    """
    device, lock = running.device, None
    vit: DeviceNetwork
    convolutional: DeviceNetwork
    with contextlib.ExitStack() as stack:
        if device is None:
            device = stack.enter_context(open_gpu(cache_dir))
            vit, convolutional = HostNetwork(device, running.vit), HostNetwork(device, running.convolutional)
        else:
            assert isinstance(running.vit, SharedEngine)
            assert isinstance(running.convolutional, SharedEngine)
            vit, convolutional = EngineNetwork(device, running.vit), EngineNetwork(device, running.convolutional)
            lock = running.vit.lock
        files = running.vit_file, running.convolutional_file
        yield stack.enter_context(GpuPipeline(device, settings, files, vit, convolutional, lock))


def open_gpu(cache_dir: Path | None) -> AbstractContextManager[Any]:
    """The first GPU, by PyCUDA."""
    # Imported here: PyCUDA is not where nothing runs on a GPU.
    from edge_claid.ops.cuda.pycuda_device import PycudaDevice

    return PycudaDevice(cache_dir=cache_dir)


def coder_of(device: Device, space: CodeSpace) -> CudaCoder:
    """A gallery's code space for the device; to be opened in a ``with`` block."""
    book = space.book
    return CudaCoder(device, space.projection.mean, space.projection.matrix, book.rotation, book.centroids)
