"""The memory budget of a board: what runs on it, part by part, and what is left."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edge_claid.config import Settings
from edge_claid.engines.activations import peak_activation_bytes
from edge_claid.engines.build import check_targets
from edge_claid.engines.memory import resident_bytes
from edge_claid.engines.recipe import Recipe, recipe
from edge_claid.engines.typed import typed_file
from edge_claid.errors import UsageError
from edge_claid.gallery.storage.rows import BOX_BYTES
from edge_claid.models import NetworkFile, open_network

_GB, _MB = 1_000_000_000, 1_000_000
# A camera of 1920 x 1080: three frames on their way, RGB.
_FRAMES = 3 * 1920 * 1080 * 3
# Of a region in memory beside its box and code: the image it belongs to.
_IMAGE_BYTES = 4


@dataclass(frozen=True)
class Board:
    """memory: bytes that CPU and GPU share (maker's data sheet). system: what the system takes of it without a desktop.

    cuda: CUDA's context and TensorRT's kernels. system and cuda are estimates; no board has been measured.
    """

    name: str
    sm: str
    memory: int
    system: int = 1 * _GB
    cuda: int = 600 * _MB


BOARDS = {
    "orin-nano-4gb": Board("Jetson Orin Nano 4 GB", "sm_87", 4 * _GB),
    "orin-nano": Board("Jetson Orin Nano 8 GB", "sm_87", 8 * _GB),
    "orin-nx": Board("Jetson Orin NX 16 GB", "sm_87", 16 * _GB),
    "agx-orin": Board("Jetson AGX Orin 64 GB", "sm_87", 64 * _GB),
    "thor": Board("Jetson AGX Thor 128 GB", "sm_110", 128 * _GB, 2 * _GB, 900 * _MB),
}


@dataclass(frozen=True)
class Budget:
    """board: its name. memory: bytes in all. parts: what takes how many bytes."""

    board: str
    memory: int
    parts: dict[str, int]

    @property
    def left(self) -> int:
        """Bytes that nothing takes; negative where it does not fit."""
        return self.memory - sum(self.parts.values())


def budget_of(name: str, settings: Settings, regions: int, precision: str) -> Budget:
    """What a live look-up with both networks as engines takes on a board.

    name: of BOARDS. regions: of the gallery. precision: of the engines. Raises UsageError for an unknown board or
    precision; networks that are missing are fetched.
    """
    if name not in BOARDS:
        raise UsageError(f"no board is called {name!r}: choose {', '.join(BOARDS)}")
    board = BOARDS[name]
    parts = {"system (estimate)": board.system, "CUDA and TensorRT (estimate)": board.cuda}
    parts["this program, measured now"] = resident_bytes(os.getpid()) or 0
    recipes = [recipe(network_name) for network_name in (settings.networks.vit, settings.networks.descriptor)]
    check_targets(precision, (board.sm,))
    for known in recipes:
        # As build-engines does: a network that lacks a precision which the other has is built at its own first.
        lacks = precision not in known.precisions and any(precision in other.precisions for other in recipes)
        own = known.precisions[0] if lacks else known.checked_precision(precision)
        parts |= _network_parts(open_network(known.network, layer=known.layer), known, own, board)
    parts["frames of a 1080p camera"] = _FRAMES
    region_bytes = settings.codes.bytes + BOX_BYTES + _IMAGE_BYTES
    parts[f"gallery of {regions:,} regions, {region_bytes} bytes each"] = regions * region_bytes
    return Budget(board.name, board.memory, parts)


def _network_parts(network: NetworkFile, known: Recipe, precision: str, board: Board) -> dict[str, int]:
    shape = known.shapes_on((board.sm,)).largest
    element_bytes = 4 if precision == "fp32" else 2
    size = "x".join(map(str, shape))
    return {
        f"{network.name}: engine, {precision}": typed_file(network, known, precision).stat().st_size,
        f"{network.name}: activations at {size}": peak_activation_bytes(network.path, shape, element_bytes),
        f"{network.name}: scratch memory, at most": known.workspace_mb((board.sm,)) << 20,
    }
