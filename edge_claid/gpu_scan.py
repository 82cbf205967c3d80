"""A gallery's codes on the GPU for a search that stands above ``ops``: scanned there, re-scored on the CPU."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from edge_claid import ops
from edge_claid.errors import MachineError
from edge_claid.ops.cuda.device import Device
from edge_claid.ops.cuda.scan_op import SUBSPACES, CodeScan, Found

log = logging.getLogger(__name__)


class GpuScans:
    """Scans on one device, made for whoever searches a gallery; their memory is given back once nobody has them.

    lock: held while a scan is on the device. Closed by its maker, with the lock held.
    """

    def __init__(self, device: Device, lock: threading.Lock) -> None:
        self._device, self._lock = device, lock
        self._open: set[ExitStack] = set()
        self._dropped: deque[ExitStack] = deque()  # not closed at once: let go of in any thread, at any moment

    def make(self, subspaces: int) -> Any:
        """An empty scan; the CPU's for codes of a length that the GPU has no kernel for."""
        if subspaces not in SUBSPACES:
            return ops.load().code_scan(subspaces)
        with ExitStack() as opening:
            scan = ScanOnGpu(opening.enter_context(CodeScan(self._device, subspaces)), self._on_device)
            memory = opening.pop_all()
        self._open.add(memory)
        weakref.finalize(scan, self._dropped.append, memory)
        return scan

    def close(self) -> None:
        """Give everything back."""
        for memory in self._open:
            memory.close()
        self._open.clear()
        self._dropped.clear()

    def _on_device(self, work: Callable[[], Any]) -> Any:
        with self._lock, self._device.current():
            while self._dropped:
                memory = self._dropped.popleft()
                self._open.discard(memory)
                memory.close()
            return work()


class ScanOnGpu:
    """The contract of ``edge_claid.ops.reference.scan.CodeScan``, the same answers to the bit.

    Codes lie on the device, where all of them are scanned, and on the host, where the few regions of what was found are
    scored: a launch for each of those would cost more. Where the device has no memory for more codes, that is told and
    all is done on the host from then on.
    """

    def __init__(self, scan: CodeScan, on_device: Callable[[Callable[[], Any]], Any]) -> None:
        self._scan: CodeScan | None = scan
        self._on_device = on_device
        self._host = ops.load().code_scan(scan.subspaces)

    def __len__(self) -> int:
        return len(self._host)

    @property
    def live_regions(self) -> int:
        """Regions of images that are not removed."""
        return int(self._host.live_regions)

    def append(self, codes: np.ndarray, images: np.ndarray) -> None:
        """See the reference."""
        self._host.append(codes, images)
        self._change(lambda scan: scan.append(codes, images))

    def remove(self, images: np.ndarray) -> int:
        """See the reference."""
        self._change(lambda scan: scan.remove(images))
        return int(self._host.remove(images))

    def search(self, tables: np.ndarray, k: int, allowed: np.ndarray | None = None, threads: int = 1) -> Found:
        """See the reference. Raises MachineError where the GPU fails."""
        scan = self._scan
        if scan is None:
            found: Found = self._host.search(tables, k, allowed, threads)
        else:
            found = self._on_device(lambda: scan.search(tables, k, allowed))
        return found

    def region_distances(self, table: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """See the reference."""
        distances: np.ndarray = self._host.region_distances(table, starts, stops)
        return distances

    def _change(self, change: Callable[[CodeScan], object]) -> None:
        scan = self._scan
        if scan is None:
            return

        def changed() -> None:
            try:
                change(scan)
            except MachineError:
                scan.__exit__()
                raise

        try:
            self._on_device(changed)
        except MachineError as error:
            log.warning("%s; the gallery is searched on the CPU from now on", error)
            self._scan = None
