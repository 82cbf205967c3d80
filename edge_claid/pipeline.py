"""Frame -> tokens -> regions -> descriptors: the one place that orders the stages."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_claid import ops
from edge_claid.config import STAGES, Settings, load_settings
from edge_claid.descriptors.pool import RegionPooling
from edge_claid.descriptors.views import augmented_view
from edge_claid.engines.runtime import Choice, Networks, choose_runtime, network_files, open_networks
from edge_claid.errors import EdgeClaidError, UsageError
from edge_claid.frames.letterbox import size_by_area, size_by_longer_side
from edge_claid.frames.reading import read_picture
from edge_claid.models import NetworkFile
from edge_claid.network_input import network_input
from edge_claid.records import Described, Descriptors, FeatureMap, Frame, Regions, Tokens
from edge_claid.regions.claid import ClaidDetector, Decompose
from edge_claid.runners.onnx_runner import usable_cores

if TYPE_CHECKING:
    from edge_claid.gpu_pipeline import GpuPipeline

Box = Sequence[float]


class Pipeline:
    """Two networks and the stages between them, opened with ``Pipeline.open()`` in a ``with`` block.

    Several pictures are worked on at once, one thread each, which uses cores better than many threads a picture.
    """

    def __init__(
        self,
        settings: Settings,
        vit: NetworkFile,
        convolutional: NetworkFile,
        threads: int,
        choice: Choice | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        """choice: what runs the networks, see ``engines.runtime``; None for ONNX Runtime on the CPU."""
        self.settings = settings
        self._vit, self._convolutional = vit, convolutional
        self._threads = threads
        self._backend = ops.load()
        self._detector = self.detector_with(self._backend.decompose)
        self._pooling = RegionPooling(settings.descriptors, self._backend.pool_boxes)
        self._choice, self._cache_dir = choice or Choice("onnx"), cache_dir
        self._running: Networks | None = None
        self._gpu: GpuPipeline | None = None
        self._resources = contextlib.ExitStack()

    @classmethod
    def open(
        cls, settings: Settings | None = None, *, cache_dir: Path | None = None, threads: int | None = None
    ) -> Pipeline:
        """The pipeline of these settings (None: the user's file, else defaults); networks are fetched where missing.

        threads: pictures worked on at once, None for one per core. What runs the networks is chosen by
        ``[networks] runtime``. Raises MachineError, UsageError, and EngineError where engines were asked for and miss.
        """
        settings = settings or load_settings()
        if settings.networks.stages not in STAGES:
            raise UsageError(f"no stages are called {settings.networks.stages!r}: choose {', '.join(STAGES)}")
        choice = choose_runtime(settings.networks, cache_dir)
        vit, convolutional = network_files(settings.networks, choice, cache_dir)
        for network, output in ((vit, "tokens"), (convolutional, "map")):
            if network.output != output:
                raise UsageError(f"{network.name} gives {network.output}; the pipeline needs {output} there")
        return cls(settings, vit, convolutional, threads or usable_cores(), choice, cache_dir)

    def __enter__(self) -> Pipeline:
        files = (self._vit, self._convolutional)
        with contextlib.ExitStack() as opening:
            self._running = opening.enter_context(
                open_networks(self.settings, files, self._choice, self._threads, self._cache_dir)
            )
            if self.settings.networks.stages == "cuda":
                # Imported here: it needs what this module makes, and a GPU.
                from edge_claid.gpu_pipeline import gpu_pipeline_over

                self._gpu = opening.enter_context(gpu_pipeline_over(self._running, self.settings, self._cache_dir))
            self._resources = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = self._gpu = None
        self._resources.close()

    @property
    def running(self) -> Networks:
        """The networks and what runs them; only inside the ``with`` block."""
        if self._running is None:
            raise RuntimeError("a Pipeline is used in its with block")
        return self._running

    @cached_property
    def describe_settings(self) -> dict[str, Any]:
        """What gives a descriptor its meaning, fit for JSON. Precision variants of a network share it."""
        networks = self.settings.networks
        return {
            "vit": {"name": self._vit.name, "sha256": self._vit.source_sha256, "layer": self._vit.layer},
            "vit_side": networks.vit_side,
            "descriptor": {
                "name": self._convolutional.name,
                "sha256": self._convolutional.source_sha256,
                "layer": self._convolutional.layer,
                "parts": self._pooling.parts([self._convolutional.feature_dim, *self._convolutional.inner_dims]),
            },
            "descriptor_side": networks.descriptor_side,
            "descriptor_growth": networks.descriptor_growth,
            "regions": asdict(self.settings.regions),
            "pooling": self._pooling_settings,
        }

    @property
    def _pooling_settings(self) -> dict[str, str]:
        told = {key: str(value) for key, value in asdict(self.settings.descriptors).items()}
        # Galleries from before there was a choice hold box descriptors and keep their id.
        return told if self.settings.descriptors.mask else {key: told[key] for key in told if key != "mask"}

    @cached_property
    def id(self) -> str:
        """Pipeline id: galleries of one id hold comparable descriptors."""
        return hashlib.sha256(json.dumps(self.describe_settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def descriptor_dim(self) -> int:
        """D, length of a descriptor before projection."""
        return sum(self.describe_settings["descriptor"]["parts"])

    # -- stages

    def detector_with(self, decompose: Decompose) -> ClaidDetector:
        """The region detector of these settings over another implementation of the decomposition."""
        center = self._vit.mean_token if self.settings.regions.center else None
        return ClaidDetector(self.settings.regions, decompose, center)

    def tokens(self, frame: Frame, side: int | None = None) -> Tokens:
        """Patch tokens of a picture, resized in its own shape to about side squared pixels (None: vit_side)."""
        vit = self.running.vit_file
        size = size_by_area(frame.size, side or self.settings.networks.vit_side, vit.input_multiple)
        features = self.running.vit.run(network_input(frame.pixels, size, vit))[0]
        return Tokens(features, (size[1] // vit.stride, size[0] // vit.stride), frame.size)

    def detect(self, tokens: Tokens) -> Regions:
        """The instance regions of a picture's tokens as a tree, the root first."""
        return self._detector.detect(tokens)

    def regions(self, frame: Frame) -> Regions:
        """The instance regions of a picture as a tree, the root first."""
        return self.detect(self.tokens(frame))

    def descriptor_input(self, frame: Frame) -> np.ndarray:
        """(1, 3, H, W) float32, what the convolutional network sees: resized to a longer side of descriptor_side."""
        network = self.running.convolutional_file
        side = self.settings.networks.descriptor_side
        if growth := self.settings.networks.descriptor_growth:
            side = min(side, round(max(frame.size) * growth))
        return network_input(frame.pixels, size_by_longer_side(frame.size, side, network.input_multiple), network)

    def feature_map(self, frame: Frame) -> FeatureMap:
        """Convolutional maps of a picture, resized to a longer side of descriptor_side pixels."""
        outputs = self.running.convolutional.run_all(self.descriptor_input(frame))
        return FeatureMap(outputs[0][0], frame.size, tuple(inner[0] for inner in outputs[1:]))

    def pool(self, feature_map: FeatureMap, regions: Regions) -> Descriptors:
        """A descriptor of unit norm for every region."""
        return self._pooling.describe_regions(feature_map, regions)

    @property
    def on_gpu(self) -> bool:
        """Whether ``describe_regions`` keeps tokens and maps on the GPU: there is nothing between to be seen."""
        return self._gpu is not None

    @property
    def code_scan(self) -> Callable[[int], Any]:
        """What makes the scan of a gallery's codes, to be searched beside this: on the GPU where the stages are."""
        return self._backend.code_scan if self._gpu is None else self._gpu.code_scan

    def describe_regions(self, frame: Frame, side: int | None = None) -> Described:
        """Regions of a picture and their descriptors. side: as of ``tokens``."""
        if self._gpu is not None:
            return self._gpu.describe_regions(frame, side)
        regions = self.detect(self.tokens(frame, side))
        return Described(regions, self.pool(self.feature_map(frame), regions))

    # -- what users call

    def describe(
        self,
        image: Frame | str | os.PathLike[str],
        box: Box | None = None,
        *,
        boxes: Sequence[Box] | None = None,
    ) -> Descriptors:
        """Descriptors of a query: of one box, of several boxes, or of the whole picture.

        image: a picture file, or a Frame. box, boxes: x0, y0, x1, y1 in pixels. One row a box, (B, D) float32.
        Raises BadImageError for a picture that cannot be used, UsageError for a box outside it.
        """
        frame = image if isinstance(image, Frame) else read_picture(os.fspath(image))
        asked = list(boxes) if boxes is not None else [] if box is None else [box]
        width, height = frame.size
        chosen = [checked_box(one, frame) for one in asked] or [(0.0, 0.0, float(width), float(height))]
        rows = np.array(chosen, np.float32)
        values = self._pooling.describe(self.feature_map(frame), rows).values
        return Descriptors(values, (rows[:, 2] - rows[:, 0]) / (rows[:, 3] - rows[:, 1]))

    def describe_many(self, frames: Iterable[Frame]) -> Iterator[Described | Exception]:
        """Regions and descriptors of many pictures, in order; the exception itself for one that cannot be used."""
        waiting: deque[Future[Described]] = deque()
        with ThreadPoolExecutor(self.running.workers, "describe") as workers:
            try:
                for frame in frames:
                    waiting.append(workers.submit(self.describe_regions, frame))
                    # One more than the workers hold, so that none waits for its next picture.
                    if len(waiting) > self.running.workers:
                        yield _settled(waiting.popleft())
                while waiting:
                    yield _settled(waiting.popleft())
            finally:
                for future in waiting:
                    future.cancel()

    def described_views(self, pictures: Iterable[tuple[str, np.ndarray]], count: int) -> Iterator[np.ndarray | None]:
        """Descriptors of the same regions in a picture and in augmented views of it.

        pictures: files, each with boxes (R, 4) in pixels. Gives (1 + count, R, D) float32 each, in order, the picture
        itself first; None for one that cannot be used. The views are drawn from a generator seeded by the picture's
        place in the row, so they are the same in every run.
        """

        def looked_at(numbered: tuple[int, tuple[str, np.ndarray]]) -> np.ndarray | None:
            number, (path, boxes) = numbered
            try:
                frame = read_picture(path)
            except EdgeClaidError:
                return None
            rng = np.random.default_rng(number)
            seen = [self._pooling.describe(self.feature_map(frame), boxes).values]
            for _ in range(count):
                pixels, moved = augmented_view(frame.pixels, boxes, rng)
                seen.append(self._pooling.describe(self.feature_map(Frame(pixels, frame.name)), moved).values)
            return np.stack(seen)

        with ThreadPoolExecutor(self.running.workers, "views") as workers:
            yield from workers.map(looked_at, enumerate(pictures))

    def view_scatter(
        self, pictures: Iterable[tuple[str, np.ndarray]], count: int, done: Callable[[], None] = lambda: None
    ) -> np.ndarray | None:
        """How much descriptors of one region differ between views of it (see ``described_views``).

        done: called after each picture.
        Returns the scatter (D, D) float64 about each region's mean, or None where no picture could be used.
        """
        total, freedom = np.zeros((self.descriptor_dim, self.descriptor_dim)), 0
        for seen in self.described_views(pictures, count):
            done()
            if seen is not None:
                spread = seen.astype(np.float64)
                spread = (spread - spread.mean(axis=0)).reshape(-1, spread.shape[-1])
                total, freedom = total + spread.T @ spread, freedom + seen.shape[1] * count
        return total / freedom if freedom else None


def checked_box(box: Box, frame: Frame) -> tuple[float, float, float, float]:
    """The part of a box that lies in the picture. Raises UsageError where there is none."""
    width, height = frame.size
    name = frame.name or "the picture"
    if len(box) != 4 or not np.isfinite(np.asarray(box, np.float64)).all():
        raise UsageError(f"a box is four numbers x0,y0,x1,y1, not {list(box)}")
    x0, y0, x1, y1 = (float(value) for value in box)
    if x1 <= x0 or y1 <= y0:
        raise UsageError(f"box {list(box)} is empty: x1 and y1 must be larger than x0 and y0")
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if inside[2] - inside[0] < 1 or inside[3] - inside[1] < 1:
        raise UsageError(f"box {list(box)} lies outside {name}, which is {width} x {height} pixels")
    return inside


def _settled(future: Future[Described]) -> Described | Exception:
    try:
        return future.result()
    except EdgeClaidError as error:
        return error
