"""How the decomposition's time and memory grow with the number and the width of tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from clustered_tokens import clustered_tokens
from decomposition_floors import STEPS

from edge_claid.ops.cpu import _decomposition
from edge_claid.ops.cpu import decomposition_op as cpu
from edge_claid.ops.reference.decomposition_settings import DecompositionSettings

SIDES = (16, 24, 32, 45, 64, 80, 100)
WIDTHS = (384, 768)


def growth() -> list[dict[str, float]]:
    """One row a size: tokens, width, milliseconds by step and in all (best of the repeats), workspace bytes."""
    rows = []
    for width in WIDTHS:
        for side in SIDES:
            features = clustered_tokens((side, side), width)
            arguments = cpu.arguments_of(features, None, DecompositionSettings())
            isa = cpu.supported_isas()[0]
            runs = _decomposition.timed(features, side, side, arguments, isa, 9 if side <= 45 else 4)
            steps = {step: min(run[step] for run in runs) * 1e3 for step in STEPS}
            bytes_used = runs[0]["workspace_bytes"]
            rows.append(
                {"tokens": side * side, "width": width, **steps, "ms": sum(steps.values()), "bytes": bytes_used}
            )
    return rows


def plotted(rows: list[dict[str, float]], path: Path) -> None:
    """Time against tokens, both logarithmic, a line a width and a step of the wider one; nothing without rows."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    if not rows:
        return
    axes = (figure := Figure(figsize=(7, 5))).subplots()
    for width in WIDTHS:
        some = [row for row in rows if row["width"] == width]
        axes.loglog([row["tokens"] for row in some], [row["ms"] for row in some], "o-", label=f"all steps, D = {width}")
    some = [row for row in rows if row["width"] == WIDTHS[-1]]
    for step in STEPS:
        axes.loglog(
            [row["tokens"] for row in some], [row[step] for row in some], "--", label=f"{step}, D = {WIDTHS[-1]}"
        )
    tokens = np.array([row["tokens"] for row in some], float)
    axes.loglog(tokens, some[0]["ms"] * (tokens / tokens[0]) ** 2, ":", color="grey", label="N² from the first")
    axes.set(xlabel="tokens", ylabel="ms, one thread", title="Decomposition of one image")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110, bbox_inches="tight")
