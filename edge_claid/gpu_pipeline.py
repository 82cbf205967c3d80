"""The pipeline on a GPU: a frame goes up, hits come down; tokens, regions, descriptors and codes stay there.

It gives what ``Pipeline.describe_regions`` gives and takes the same settings and networks, so a gallery of the one is
searched by the other, and everything above does not see which of the two it has. What runs the networks is handed in:
a TensorRT engine that leaves its output on the device, or ``HostNetwork`` around any Runner.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_claid.codes.space import CodeSpace
from edge_claid.config import Settings
from edge_claid.errors import BadImageError, UsageError
from edge_claid.frames.letterbox import size_by_area, size_by_longer_side
from edge_claid.models import NetworkFile
from edge_claid.ops.cuda.decomposition_op import CudaDecomposition, RegionsOnDevice
from edge_claid.ops.cuda.device import Device, DeviceArray
from edge_claid.ops.cuda.encode_op import CudaCoder
from edge_claid.ops.cuda.pool_op import MapPooling, RegionsOfMaps
from edge_claid.ops.cuda.preprocess_op import network_planes
from edge_claid.ops.cuda.scan_op import CodeScan
from edge_claid.records import Frame
from edge_claid.runners import Runner


class DeviceNetwork(Protocol):
    """A network whose input and outputs lie on the device."""

    def run_all(self, planes: DeviceArray) -> list[DeviceArray]:
        """All outputs for (1, 3, H, W) float32 planes; the caller closes them."""


class HostNetwork:
    """A network that runs beside the GPU or behind its own copies: planes come down, outputs go up."""

    def __init__(self, device: Device, runner: Runner) -> None:
        self._device, self._runner = device, runner

    def run_all(self, planes: DeviceArray) -> list[DeviceArray]:
        return [self._device.upload(output) for output in self._runner.run_all(self._device.download(planes))]


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
    """One frame at a time on one device. Use in a ``with`` block.

    vit, convolutional: what runs the networks of `files`, in that order. settings: as for Pipeline.
    Raises MachineError where the device's memory does not suffice.
    """

    def __init__(
        self,
        device: Device,
        settings: Settings,
        files: tuple[NetworkFile, NetworkFile],
        vit: DeviceNetwork,
        convolutional: DeviceNetwork,
    ) -> None:
        self._device, self._settings = device, settings
        self._vit_file, self._convolutional_file = files
        self._vit, self._convolutional = vit, convolutional
        chosen = settings.descriptors
        self._pooling = MapPooling(device, chosen.power, chosen.smallest_side)
        self._weights = (1.0, chosen.share_16, chosen.share_8)
        self._decompositions: dict[tuple[int, int], CudaDecomposition] = {}
        self._resources = contextlib.ExitStack()
        self._center: DeviceArray | None = None

    def __enter__(self) -> GpuPipeline:
        if self._settings.regions.center:
            mean = self._vit_file.mean_token
            if mean is None:
                raise UsageError("region settings ask for centring, but the network has no mean token")
            self._center = self._device.upload(np.ascontiguousarray(mean, np.float32))
            self._resources.callback(self._center.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()
        self._decompositions.clear()

    def describe_regions(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (R, 4) in pixels and descriptors (R, D) of a frame's regions, on the host."""
        with contextlib.ExitStack() as stack:
            boxes, descriptors = self._described(frame, stack)
            return self._device.download(boxes), self._device.download(descriptors)

    def look_up(self, frame: Frame, coder: CudaCoder, scan: CodeScan, k: int) -> RegionLookUp:
        """The k nearest gallery images of each of a frame's regions, without its descriptors leaving the device.

        coder, scan: the gallery's code space (``coder_of``) and its codes. Raises BadImageError where the network's
        tokens are not finite.
        """
        with contextlib.ExitStack() as stack:
            boxes, descriptors = self._described(frame, stack)
            count = descriptors.shape[0]
            projected = self._empty(stack, (count, coder.dimensions))
            tables = self._empty(stack, (count, coder.subspaces, 256))
            coder.project(descriptors, projected)
            coder.tables(projected, tables)
            return RegionLookUp(self._device.download(boxes), *scan.search_on_device(tables, k))

    # -- inside

    def _described(self, frame: Frame, stack: contextlib.ExitStack) -> tuple[DeviceArray, DeviceArray]:
        pixels = self._device.upload(frame.pixels)
        stack.callback(pixels.close)
        sizes = self._device.upload(np.array([frame.size], np.int32))
        stack.callback(sizes.close)
        found = self._regions(pixels, frame, sizes, stack)
        (count,) = self._device.download(found.arrays["counts"])
        if not count:
            raise BadImageError(f"{frame.name or 'the frame'}: the network's tokens are not finite")
        boxes = DeviceArray(found.arrays["boxes"].address, (int(count), 4), np.dtype(np.float32))
        return boxes, self._pooled(pixels, frame, RegionsOfMaps(boxes, self._zeros(stack, int(count)), sizes), stack)

    def _regions(
        self, pixels: DeviceArray, frame: Frame, sizes: DeviceArray, stack: contextlib.ExitStack
    ) -> RegionsOnDevice:
        chosen, file = self._settings.regions, self._vit_file
        size = size_by_area(frame.size, self._settings.networks.vit_side, file.input_multiple)
        tokens = self._network(self._vit, pixels, size, file, stack)[0]
        grid = (size[1] // file.stride, size[0] // file.stride)
        trees = self._decomposition(grid, tokens.shape[2]).run(
            tokens,
            self._center,
            alpha=chosen.alpha,
            tau1=chosen.tau1,
            energy_share=chosen.energy_share,
            smallest=chosen.smallest,
        )
        found = trees.regions(sizes, chosen.tau2, chosen.merge_iou)
        stack.callback(found.close)
        return found

    def _pooled(
        self, pixels: DeviceArray, frame: Frame, regions: RegionsOfMaps, stack: contextlib.ExitStack
    ) -> DeviceArray:
        networks, file = self._settings.networks, self._convolutional_file
        side = networks.descriptor_side
        if networks.descriptor_growth:
            side = min(side, round(max(frame.size) * networks.descriptor_growth))
        size = size_by_longer_side(frame.size, side, file.input_multiple)
        maps = self._network(self._convolutional, pixels, size, file, stack)
        used = [(values, weight) for values, weight in zip(maps, self._weights, strict=False) if weight]
        pooled = self._empty(stack, (regions.pixels.shape[0], sum(values.shape[1] for values, _ in used)))
        whole, offset = sum(weight for _, weight in used), 0
        for values, weight in used:
            self._pooling.pool(values, regions, pooled, offset=offset, norm=float(np.sqrt(weight / whole)))
            offset += values.shape[1]
        return pooled

    def _network(
        self,
        network: DeviceNetwork,
        pixels: DeviceArray,
        size: tuple[int, int],
        file: NetworkFile,
        stack: contextlib.ExitStack,
    ) -> list[DeviceArray]:
        planes = self._empty(stack, (1, 3, size[1], size[0]))
        mean = (float(file.mean[0]), float(file.mean[1]), float(file.mean[2]))
        std = (float(file.std[0]), float(file.std[1]), float(file.std[2]))
        network_planes(self._device, pixels, "rgb", planes, mean, std)
        outputs = network.run_all(planes)
        for output in outputs:
            stack.callback(output.close)
        return outputs

    def _decomposition(self, grid: tuple[int, int], width: int) -> CudaDecomposition:
        if grid not in self._decompositions:
            # Kept, as a camera's frames are all of one shape; pictures of many shapes share by their grid.
            self._decompositions[grid] = self._resources.enter_context(CudaDecomposition(self._device, 1, grid, width))
        return self._decompositions[grid]

    def _empty(self, stack: contextlib.ExitStack, shape: tuple[int, ...]) -> DeviceArray:
        array = self._device.empty(shape, np.float32)
        stack.callback(array.close)
        return array

    def _zeros(self, stack: contextlib.ExitStack, count: int) -> DeviceArray:
        array = self._device.upload(np.zeros(count, np.int32))
        stack.callback(array.close)
        return array


def coder_of(device: Device, space: CodeSpace) -> CudaCoder:
    """A gallery's code space for the device; to be opened in a ``with`` block."""
    book = space.book
    return CudaCoder(device, space.projection.mean, space.projection.matrix, book.rotation, book.centroids)
