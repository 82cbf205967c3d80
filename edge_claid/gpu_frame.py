"""Frames of one size on a device: memory that stays from frame to frame, launches that are recorded and replayed."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_claid.config import Settings
from edge_claid.errors import MachineError
from edge_claid.frames.letterbox import size_by_area, size_by_longer_side
from edge_claid.models import NetworkFile
from edge_claid.ops.cuda.decomposition_op import CudaDecomposition
from edge_claid.ops.cuda.device import Device, DeviceArray, Recording
from edge_claid.ops.cuda.encode_op import CudaCoder
from edge_claid.ops.cuda.pool_op import MapPooling, MasksOfRegions, RegionsOfMaps
from edge_claid.ops.cuda.preprocess_op import network_planes
from edge_claid.ops.cuda.trees_on_device import RegionsOnDevice, TreesOnDevice

log = logging.getLogger(__name__)

REGIONS = 128  # that there is room for at first; a frame with more is done again with room for them
PLAIN_RUNS = 2  # before launches are recorded: the first may still allocate, in an engine too


class DeviceNetwork(Protocol):
    """A network whose input and outputs lie on the device."""

    def run_all(self, planes: DeviceArray) -> list[DeviceArray]:
        """All outputs for (1, 3, H, W) float32 planes; the caller closes them."""

    def run_into(self, planes: DeviceArray, outputs: list[DeviceArray]) -> None:
        """The same into what ``run_all`` gave for planes of this shape before; nothing is allocated."""

    def recordable(self, shape: tuple[int, ...]) -> bool:
        """Whether ``run_into`` of this shape may be recorded: it only starts work on the device's stream."""


@dataclass(frozen=True)
class Stages:
    """What every frame goes through. files: of vit and convolutional. center: the mean token, on the device."""

    device: Device
    settings: Settings
    files: tuple[NetworkFile, NetworkFile]
    vit: DeviceNetwork
    convolutional: DeviceNetwork
    pooling: MapPooling
    center: DeviceArray | None


class FrameOnDevice:
    """Frames of one size, one after another, described on the device. Whoever made it closes it.

    grid: (rows, columns) of the tokens. count: R, the regions of the last frame.
    size: (width, height). side: the ViT's, as NetworkSettings.vit_side. coder: makes look-up tables too, where given.
    Raises MachineError where the device's memory does not suffice.
    """

    def __init__(self, stages: Stages, size: tuple[int, int], side: int, coder: CudaCoder | None) -> None:
        self._stages, self._device, self._coder = stages, stages.device, coder
        self._resources = contextlib.ExitStack()
        self._outputs: dict[str, list[DeviceArray]] = {}
        self._arrays: dict[str, DeviceArray] = {}
        self._regions: RegionsOnDevice | None = None
        self._recording: Recording | None = None
        self._runs, self._room, self.count = 0, 0, 0
        vit, convolutional = stages.files
        networks = stages.settings.networks
        longer = networks.descriptor_side
        if networks.descriptor_growth:
            longer = min(longer, round(max(size) * networks.descriptor_growth))
        seen = size_by_area(size, side, vit.input_multiple)
        self.grid = (seen[1] // vit.stride, seen[0] // vit.stride)
        with contextlib.ExitStack() as opening:
            opening.callback(self.close)
            self._pixels = self._kept((size[1], size[0], 3), np.uint8)
            self._sizes = self._device.upload(np.array([size], np.int32))
            self._resources.callback(self._sizes.close)
            self._vit_planes = self._kept((1, 3, seen[1], seen[0]), np.float32)
            wide, high = size_by_longer_side(size, longer, convolutional.input_multiple)
            self._planes = self._kept((1, 3, high, wide), np.float32)
            op = CudaDecomposition(self._device, 1, self.grid, vit.feature_dim)
            self._decomposition = self._resources.enter_context(op)
            self._recordable = stages.vit.recordable(self._vit_planes.shape) and stages.convolutional.recordable(
                self._planes.shape
            )
            opening.pop_all()

    def close(self) -> None:
        """Give everything back."""
        self._forget()
        arrays = [*self._arrays.values(), *(one for outputs in self._outputs.values() for one in outputs)]
        for array in arrays:
            array.close()
        if self._regions is not None:
            self._regions.close()
        self._arrays, self._outputs, self._regions = {}, {}, None
        self._resources.close()

    def describe(self, pixels: np.ndarray) -> int:
        """Put (H, W, 3) uint8 RGB through all stages; the number of its regions, 0 where tokens are not finite.

        From the third frame on everything is replayed, where the networks can be recorded. A frame that there is too
        little room for is done again with more.
        """
        self._device.upload(pixels, self._pixels)
        if self._recording is not None:
            self._recording.launch()
        elif self._recordable and self._runs >= PLAIN_RUNS:
            self._record()
        else:
            self._start()
        self._runs += 1
        while not self._fits():
            self._start()
        return self.count

    @property
    def trees(self) -> TreesOnDevice:
        """Of the last frame."""
        return self._decomposition.trees(1)

    @property
    def kept(self) -> tuple[DeviceArray, DeviceArray]:
        """Which nodes of the tree are regions, and their parents among them: (R,) int32 each."""
        assert self._regions is not None
        arrays = self._regions.arrays
        return arrays["kept"].reshaped((self.count,)), arrays["kept_parents"].reshaped((self.count,))

    @property
    def boxes(self) -> DeviceArray:
        """(R, 4) float32, pixels."""
        assert self._regions is not None
        return self._regions.arrays["boxes"].reshaped((self.count, 4))

    @property
    def descriptors(self) -> DeviceArray:
        """(R, D) float32."""
        return self._arrays["pooled"].part(0, self.count)

    @property
    def tables(self) -> DeviceArray:
        """(R, M, 256) float32, of the coder."""
        return self._arrays["tables"].part(0, self.count)

    # -- inside

    def _start(self) -> None:
        """Start all stages; from the second time on nothing here allocates or waits, so that it can be recorded."""
        stages, chosen = self._stages, self._stages.settings.regions
        tokens = self._run_network("vit", stages.vit, self._vit_planes, stages.files[0])[0]
        trees = self._decomposition.start(tokens, stages.center, **chosen.decomposition)
        self._regions = trees.regions(self._sizes, chosen.tau2, chosen.merge_iou, self._regions)
        maps = self._run_network("convolutional", stages.convolutional, self._planes, stages.files[1])
        weights = (1.0, stages.settings.descriptors.share_16, stages.settings.descriptors.share_8)
        used = [(values, weight) for values, weight in zip(maps, weights, strict=False) if weight]
        self._make_room(sum(values.shape[1] for values, _ in used))
        self._pool(used, trees)
        if self._coder is not None:
            counted = self._regions.arrays["counts"]
            self._coder.project(self._arrays["pooled"], self._arrays["projected"], counted)
            self._coder.tables(self._arrays["projected"], self._arrays["tables"], counted)

    def _record(self) -> None:
        try:
            self._recording = self._device.record(self._start)
        except MachineError as error:
            # What cannot be recorded still runs, only with more work for the CPU.
            log.warning("%s; frames of this size go on without", error)
            self._recordable = False
            self._start()

    def _pool(self, used: list[tuple[DeviceArray, float]], trees: TreesOnDevice) -> None:
        assert self._regions is not None
        found = self._regions.arrays
        masks = None
        if self._stages.settings.descriptors.mask:
            words = trees.arrays["masks"]
            masks = MasksOfRegions(words.reshaped(words.shape[1:]), found["kept"].reshaped((self._room,)), self.grid)
        boxes = found["boxes"].reshaped((self._room, 4))
        regions = RegionsOfMaps(boxes, self._arrays["images"], self._sizes, found["counts"], masks)
        whole, offset = sum(weight for _, weight in used), 0
        for values, weight in used:
            norm = float(np.sqrt(weight / whole))
            self._stages.pooling.pool(values, regions, self._arrays["pooled"], offset=offset, norm=norm)
            offset += values.shape[1]

    def _run_network(
        self, name: str, network: DeviceNetwork, planes: DeviceArray, file: NetworkFile
    ) -> list[DeviceArray]:
        mean = (float(file.mean[0]), float(file.mean[1]), float(file.mean[2]))
        std = (float(file.std[0]), float(file.std[1]), float(file.std[2]))
        network_planes(self._device, self._pixels, "rgb", planes, mean, std)
        if name in self._outputs:
            network.run_into(planes, self._outputs[name])
        else:
            self._outputs[name] = network.run_all(planes)
        return self._outputs[name]

    def _fits(self) -> bool:
        """Whether the frame had room; else there is more of it now."""
        assert self._regions is not None
        if self.trees.too_large():
            self._forget()
            self._decomposition.enlarge()
            self._regions.close()
            self._regions = None
            return False
        self.count = int(self._device.download(self._regions.arrays["counts"])[0])
        if self.count <= self._room:
            return True
        self._forget()
        for array in self._arrays.values():
            array.close()
        self._arrays, self._room = {}, 0
        return False

    def _forget(self) -> None:
        if self._recording is not None:
            self._device.synchronize()
            self._recording.close()
        self._recording, self._runs = None, 0

    def _make_room(self, width: int) -> None:
        if self._arrays:
            return
        nodes = self.trees.arrays["parents"].shape[1]
        self._room = min(nodes, max(REGIONS, self.count * 5 // 4))
        shapes: dict[str, tuple[int, ...]] = {"pooled": (self._room, width)}
        if self._coder is not None:
            shapes["projected"] = (self._room, self._coder.dimensions)
            shapes["tables"] = (self._room, self._coder.subspaces, 256)
        for name, shape in shapes.items():
            self._arrays[name] = self._device.empty(shape, np.float32)
        self._arrays["images"] = self._device.upload(np.zeros(self._room, np.int32))

    def _kept(self, shape: tuple[int, ...], dtype: type) -> DeviceArray:
        array = self._device.empty(shape, dtype)
        self._resources.callback(array.close)
        return array
