"""Search over codes on a CUDA device: the contract of edge_claid.ops.reference.scan.CodeScan, bit for bit."""

from __future__ import annotations

import contextlib
import math

import numpy as np

from edge_claid.errors import UsageError
from edge_claid.ops.cuda.device import Device, DeviceArray, Scratch
from edge_claid.ops.cuda.scan_results import Found, found_from_best, found_from_bytes, nothing_found, padded

THREADS = 256
CODEWORDS = 256
SEGMENT = 1 << 20  # rows
CHUNK = 1024  # rows a block takes at a time
MOST_SELECTED = 2048  # images that are sorted on the device; more are sorted on the host
MOST_QUERIES = 16  # that go over the codes together
SAMPLED_CHUNKS = 32  # of a first pass, whose every row counts
SAMPLED_TIMES = 4  # as many images as are wanted should lie in them
GROWTH = 64  # most times as many rows as the pass before, so that few are left to sort
PACK = 4
SUBSPACES = (4, 8, 16, 32)
WIDE = 1024  # threads of select_images
SELECTION_SHARED = -(-(16 + 4 * 256) // 16) * 16 + 8 * MOST_SELECTED
BLOCKS_PER_PROCESSOR = 8

# struct Scan of scan/arguments.h.
_POINTERS = (
    "codes", "images", "live", "tables", "bytes", "thresholds", "best", "touched", "counts", "marked", "found_images",
    "found_distances", "found_rows", "starts", "offsets", "distances",
)  # fmt: skip
_NUMBERS = ("subspaces", "queries", "k", "step", "image_count", "marked_count", "pack", "ranges")
ARGUMENTS = np.dtype(
    [(name, np.uint64) for name in _POINTERS] + [("rows", np.int64)] + [(name, np.int32) for name in _NUMBERS]
)


class CodeScan:
    """Codes of a gallery's regions in device memory. Use in a ``with`` block, which frees them.

    Raises UsageError for a number of subspaces that has no kernel, MachineError where memory does not suffice.
    """

    def __init__(self, device: Device, subspaces: int) -> None:
        if subspaces not in SUBSPACES:
            raise UsageError(f"codes of {subspaces} bytes: the GPU scans codes of 4, 8, 16 or 32 bytes")
        self.subspaces = subspaces
        self._device, self._kernels = device, device.kernels("scan")
        self._rows, self._live_rows, self._images = 0, 0, 0
        self._segments: list[tuple[DeviceArray, DeviceArray, DeviceArray]] = []
        self._pointers: list[DeviceArray] = []
        self._room: dict[str, DeviceArray] = {}
        self._found = Scratch(device)
        self._capacity = 0  # images a query's arrays have room for
        groups = device.shared_limit // (subspaces * CODEWORDS * PACK)
        self._most_queries = min(MOST_QUERIES, PACK * groups)

    def __enter__(self) -> CodeScan:
        return self

    def __exit__(self, *_: object) -> None:
        for array in [*self._pointers, *self._room.values(), *(array for row in self._segments for array in row)]:
            array.close()
        self._found.close()
        self._pointers, self._room, self._segments = [], {}, []

    def __len__(self) -> int:
        return self._rows

    @property
    def live_regions(self) -> int:
        """Regions of images that are not removed."""
        return self._live_rows

    def append(self, codes: np.ndarray, images: np.ndarray) -> None:
        """Add regions, in place. codes: (n, M) uint8. images: (n,) int32, not negative. Raises ValueError."""
        codes, images = np.ascontiguousarray(codes, np.uint8), np.ascontiguousarray(images, np.int32)
        if codes.ndim != 2 or codes.shape[1] != self.subspaces or images.shape != (len(codes),):
            raise ValueError(f"codes {codes.shape} and images {images.shape} do not fit {self.subspaces} subspaces")
        if len(codes) and images.min() < 0:
            raise ValueError("an image index is negative")
        if self._rows + len(codes) >= 1 << 32:
            raise ValueError("a scan holds less than 2^32 regions")
        done = 0
        while done < len(codes):
            if self._rows == len(self._segments) * SEGMENT:
                self._add_segment()
            stored, owners, _ = self._segments[-1]
            at = self._rows % SEGMENT
            count = min(SEGMENT - at, len(codes) - done)
            self._device.upload(codes[done : done + count], stored.part(at, count))
            self._device.upload(images[done : done + count], owners.part(at, count))
            self._rows, self._live_rows, done = self._rows + count, self._live_rows + count, done + count
        if len(codes):
            self._images = max(self._images, int(images.max()) + 1)

    def remove(self, images: np.ndarray) -> int:
        """Leave out all present regions of these images from now on; returns how many regions that were."""
        wanted = np.asarray(images, np.int64)
        wanted = wanted[(wanted >= 0) & (wanted < self._images)]
        if not len(wanted) or not self._rows:
            return 0
        flags = np.zeros(self._images, bool)
        flags[wanted] = True
        self._make_room(1)
        with self._uploaded(_bits(flags)) as marked:
            self._device.fill(self._room["counts"], 0)
            arguments = self._arguments(queries=1, marked=marked, marked_count=len(flags))
            self._kernels.launch("remove_rows", arguments, (self._blocks(-(-self._rows // (32 * THREADS))),), THREADS)
            gone = int(self._device.download(self._room["counts"])[0])
            self._device.fill(self._room["counts"], 0)
        self._live_rows -= gone
        return gone

    def search(self, tables: np.ndarray, k: int, allowed: np.ndarray | None = None, threads: int = 1) -> Found:
        """See the reference. threads is for the CPU's scan alone. Raises ValueError for tables of another shape."""
        del threads
        tables = np.ascontiguousarray(tables, np.float32)
        if tables.ndim != 3 or tables.shape[1:] != (self.subspaces, CODEWORDS):
            raise ValueError(f"tables {tables.shape} have another width than ({self.subspaces}, {CODEWORDS})")
        if np.isnan(tables).any():
            raise ValueError("look-up tables hold NaN")
        with self._uploaded(tables) as uploaded:
            return self.search_on_device(uploaded, k, allowed)

    def search_on_device(self, tables: DeviceArray, k: int, allowed: np.ndarray | None = None) -> Found:
        """``search`` for look-up tables (Q, M, 256) float32 that are on the device already; finite."""
        queries = tables.shape[0]
        parts = [
            self._search(tables.part(start, min(self._most_queries, queries - start)), k, allowed)
            for start in range(0, queries, self._most_queries)
        ] or [nothing_found(0, k)]
        images, distances, rows = (np.concatenate([part[i] for part in parts]) for i in range(3))
        return images, distances, rows

    def region_distances(self, table: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """See the reference."""
        starts, stops = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(stops, np.int64)
        if (starts < 0).any() or (stops < starts).any() or (stops > self._rows).any():
            raise ValueError("a range of regions is outside the gallery")
        offsets = np.concatenate([[0], np.cumsum(stops - starts)])
        if not offsets[-1]:
            return np.empty(0, np.float32)
        with contextlib.ExitStack() as stack:
            given = [np.ascontiguousarray(table, np.float32), starts, offsets]
            uploaded = [stack.enter_context(self._uploaded(values)) for values in given]
            distances = self._device.empty((int(offsets[-1]),), np.float32)
            stack.callback(distances.close)
            arguments = self._arguments(1, tables=uploaded[0], starts=uploaded[1], offsets=uploaded[2])
            arguments["distances"], arguments["ranges"] = distances.address, len(starts)
            self._kernels.launch("range_distances", arguments, (len(starts),), THREADS)
            return self._device.download(distances)

    # -- inside

    def _search(self, tables: DeviceArray, k: int, allowed: np.ndarray | None) -> Found:
        queries, wanted = tables.shape[0], min(k, self._images)
        if not self._rows or wanted < 1:
            return nothing_found(queries, max(k, 0))
        self._make_room(queries)
        try:
            if allowed is None:
                found = self._ranked(self._arguments(queries, tables=tables), wanted)
            else:
                with self._uploaded(_bits(np.asarray(allowed, bool))) as marked:
                    arguments = self._arguments(queries, marked_count=len(allowed), tables=tables, marked=marked)
                    found = self._ranked(arguments, wanted)
        except BaseException:
            # Only a search that comes to its end leaves thresholds and best rows as the next one needs them.
            self._close_room()
            raise
        return padded(found, k)

    def _ranked(self, arguments: np.ndarray, k: int) -> Found:
        """The k images of all passes. Zeros in place of byte tables: nothing is discarded before there is a bound."""
        queries = int(arguments["queries"])
        arguments["k"] = k
        self._device.fill(self._room["bytes"], 0)
        if k > MOST_SELECTED:
            self._pass(arguments, 1)
            best = self._device.download(self._room["best"])[:queries]
            self._device.fill(self._room["best"], 0xFF)
            self._device.fill(self._room["counts"], 0)
            return found_from_best(best, k)
        count = queries * k
        # As large for few queries as for many, so that it stays where it is.
        room = self._found.array((16 * k * (1 if queries == 1 else self._most_queries),), np.uint8)
        for name, start in (("found_rows", 0), ("found_images", 8 * count), ("found_distances", 12 * count)):
            arguments[name] = room.address + start
        for step in self._steps(k):
            self._pass(arguments, step)
            self._kernels.launch("select_images", arguments, (queries,), WIDE, SELECTION_SHARED)
        return found_from_bytes(self._device.download(room.part(0, 16 * count)), queries, k)

    def _steps(self, k: int) -> list[int]:
        """Every how many chunks each pass takes one: ever more rows, all of them at last."""
        chunks = -(-self._rows // CHUNK)
        sampled = max(SAMPLED_CHUNKS, -(-SAMPLED_TIMES * k * self._rows // (self._images * CHUNK)))
        first = chunks // sampled
        if first <= 1:
            return [1]
        passes = math.ceil(math.log(first) / math.log(GROWTH))
        return [round(first ** ((passes - number) / passes)) for number in range(passes + 1)]

    def _pass(self, arguments: np.ndarray, step: int) -> None:
        arguments["step"] = step
        queries, pack = int(arguments["queries"]), int(arguments["pack"])
        blocks = self._blocks(-(-self._rows // (CHUNK * step)))
        shared = -(-queries // pack) * self.subspaces * CODEWORDS * pack
        self._kernels.launch(f"scan_codes_{self.subspaces}_{pack}", arguments, (blocks,), THREADS, shared)

    def _blocks(self, most: int) -> int:
        return max(1, min(most, self._device.processors * BLOCKS_PER_PROCESSOR))

    def _add_segment(self) -> None:
        shapes = [((SEGMENT, self.subspaces), np.uint8), ((SEGMENT,), np.int32), ((SEGMENT // 32,), np.uint32)]
        with contextlib.ExitStack() as undo:
            made = []
            for shape, kind in shapes:
                made.append(self._device.empty(shape, kind))
                undo.callback(made[-1].close)
            # Rows are live from the beginning; those not yet added are never looked at.
            self._device.fill(made[2], 0xFF)
            rows = [*self._segments, (made[0], made[1], made[2])]
            pointers = [self._device.upload(np.array([row[i].address for row in rows], np.uint64)) for i in range(3)]
            undo.pop_all()
        for old in self._pointers:
            old.close()
        self._segments, self._pointers = rows, pointers

    def _make_room(self, queries: int) -> None:
        have = self._room["counts"].shape[0] if self._room else 0
        if self._images <= self._capacity and queries <= have:
            return
        images = self._capacity if self._images <= self._capacity else max(1024, self._images * 5 // 4)
        queries = max(queries, have)
        queries = queries if queries == 1 else self._most_queries
        shapes = {
            "best": ((queries, images), np.uint64),
            "touched": ((queries, images), np.int32),
            "counts": ((queries,), np.uint32),
            "thresholds": ((queries,), np.float32),
            "bytes": ((-(-queries // PACK) * PACK, self.subspaces, CODEWORDS), np.uint8),
        }
        self._close_room()
        for name, (shape, kind) in shapes.items():
            self._room[name] = self._device.empty(shape, kind)
        self._device.fill(self._room["best"], 0xFF)
        self._device.fill(self._room["counts"], 0)
        self._device.upload(np.full(queries, np.inf, np.float32), self._room["thresholds"])
        self._capacity = images

    def _close_room(self) -> None:
        for array in self._room.values():
            array.close()
        self._room, self._capacity = {}, 0

    def _arguments(self, queries: int, *, marked_count: int = 0, **arrays: DeviceArray | None) -> np.ndarray:
        values = np.zeros((), ARGUMENTS)
        for name, array in {**self._room, **arrays}.items():
            values[name] = array.address if array is not None else 0
        for name, array in zip(("codes", "images", "live"), self._pointers, strict=True):
            values[name] = array.address
        values["rows"], values["subspaces"], values["queries"] = self._rows, self.subspaces, queries
        values["step"], values["image_count"] = 1, self._capacity
        values["marked_count"], values["pack"] = marked_count, 1 if queries == 1 else PACK
        return values

    @contextlib.contextmanager
    def _uploaded(self, values: np.ndarray):  # type: ignore[no-untyped-def]
        array = self._device.upload(values)
        try:
            yield array
        finally:
            array.close()


def _bits(flags: np.ndarray) -> np.ndarray:
    """(n,) bool to words of 32 bits, at least one."""
    packed = np.packbits(flags, bitorder="little")
    return np.pad(packed, (0, -len(packed) % 4 or (4 if not len(packed) else 0))).view("<u4")
