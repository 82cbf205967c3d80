"""The arithmetic behind the stages, chosen once: a compiled backend, or the NumPy reference by name.

To add an op: ``reference/<op>.py`` (readable truth), ``cpu/<op>/`` (C++), one field and one line in each of the two
functions below, and one parametrised test over both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_claid.errors import MachineError, UsageError


@dataclass(frozen=True)
class Backend:
    """One implementation of every op; the contracts are the docstrings in ``edge_claid.ops.reference``."""

    name: str
    decompose: Callable[..., Any]
    pool_boxes: Callable[..., Any]
    code_scan: Callable[[int], Any]


def load(name: str = "cpu") -> Backend:
    """The backend of this name: "cpu" or "reference". Raises UsageError for another, MachineError if not built."""
    makers = {"cpu": _cpu, "reference": _reference}
    if name not in makers:
        raise UsageError(f"no backend {name!r}: choose of {', '.join(makers)}")
    try:
        return makers[name]()
    except ImportError as error:
        raise MachineError(f"the {name} backend is not built ({error}): install edge-claid again with pip") from error


def _reference() -> Backend:
    from edge_claid.ops.reference import decomposition, pool, scan

    return Backend("reference", decomposition.decompose, pool.pool_boxes, scan.CodeScan)


def _cpu() -> Backend:
    from edge_claid.ops.cpu._pool import pool_boxes
    from edge_claid.ops.cpu.decomposition_op import decompose
    from edge_claid.ops.cpu.scan_op import CodeScan

    return Backend("cpu", decompose, pool_boxes, CodeScan)
