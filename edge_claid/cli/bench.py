"""``edge-claid bench``: how long each stage takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from edge_claid.cli.enroll import open_pipeline
from edge_claid.cli.printing import print_json, print_table, shown
from edge_claid.frames.reading import read_picture
from edge_claid.records import Frame


def bench(
    picture: Annotated[Path | None, typer.Argument(help="Picture to time on; a made-up one where none.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times each stage runs; the median counts.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="One JSON line.")] = False,
) -> None:
    """Time every stage of the default pipeline, one thread, on one picture."""
    stages: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        result = work()
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            result = work()
            seconds.append(time.perf_counter() - start)
        stages[name] = median(seconds) * 1000
        return result

    frame = _made_up() if picture is None else timed("decode", lambda: read_picture(str(picture)))
    with open_pipeline() as pipeline:
        tokens = timed("resize, ViT", lambda: pipeline.tokens(frame))
        regions = timed("regions", lambda: pipeline.detect(tokens))
        feature_map = timed("resize, convolutional network", lambda: pipeline.feature_map(frame))
        timed("pooling", lambda: pipeline.pool(feature_map, regions))
        told = pipeline.running.told
    total = sum(stages.values())
    if json:
        print_json({"picture": frame.name, "regions": len(regions), "runtime": told, "ms": {**stages, "total": total}})
        return
    table = Table("stage", "ms", "share", title=f"{shown(frame.name)}, {len(regions)} regions, one thread; {told}")
    for name, value in [*stages.items(), ("total", total)]:
        table.add_row(name, f"{value:.1f}", f"{value / total:.0%}")
    print_table(table)


def _made_up() -> Frame:
    """640 x 480 smooth blobs on noise, so that there is something to decompose."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:480, 0:640]
    pixels = rng.integers(90, 110, (480, 640, 3)).astype(np.uint8)
    for _ in range(12):
        centre, radius, colour = rng.uniform(0, [640, 480]), rng.uniform(25, 90), rng.integers(0, 255, 3)
        pixels[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = colour
    return Frame(pixels, "made-up picture")
