"""The acceptance test: does an engine, or the graph it is built from, give the features that float32 gives?

Both run on the calibration pictures; what is compared is what the product lives on: tokens and the regions they give,
maps and the descriptors pooled from them. An engine that gives every picture the same features passes no test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edge_claid import ops
from edge_claid.config import Settings
from edge_claid.descriptors.pool import RegionPooling
from edge_claid.engines.pictures import Seen, planes_of
from edge_claid.engines.recipe import Gate, Recipe
from edge_claid.models import NetworkFile
from edge_claid.records import FeatureMap, Regions, Tokens
from edge_claid.regions.claid import ClaidDetector
from edge_claid.runners.runner import Runner

# (1, …) input of a typed graph to its outputs.
Run = Callable[[np.ndarray], list[np.ndarray]]
# Two different pictures whose mean features are closer than this are not told apart; float32 gives 0.3 to 0.9.
_SAME = 0.999
_GRID = 4


@dataclass(frozen=True)
class Report:
    """What the comparison found, over all pictures; None where it does not apply to the network's kind.

    finite: every value of the candidate is. distinct: different pictures give different features. failures: what was
    missed, in words.
    """

    pictures: int
    finite: bool
    distinct: bool
    token_cosine_mean: float | None
    token_cosine_least: float | None
    map_cosine_mean: float | None
    descriptor_cosine_mean: float | None
    descriptor_cosine_least: float | None
    region_iou: float | None
    failures: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"failures": list(self.failures)}


def compare(
    network: NetworkFile, recipe: Recipe, settings: Settings, pictures: Sequence[Seen], reference: Run, candidate: Run
) -> Report:
    """Run both on all pictures and hold the candidate to the recipe's gate.

    reference, candidate: both take what the typed graph takes, see ``planes_of``.
    """
    inputs = (planes_of(seen, recipe.input) for seen in pictures)
    outputs = [(reference(batch), candidate(batch)) for batch in inputs]
    finite = all(bool(np.isfinite(array).all()) for _, found in outputs for array in found)
    figures: dict[str, Any] = dict.fromkeys(
        ("token_cosine_mean", "token_cosine_least", "map_cosine_mean", "descriptor_cosine_mean",
         "descriptor_cosine_least", "region_iou")
    )  # fmt: skip
    distinct = False
    if finite:
        kind = _compare_tokens if network.output == "tokens" else _compare_maps
        figures |= kind(network, settings, pictures, outputs)
        distinct = _distinct([wanted[0] for wanted, _ in outputs], [found[0] for _, found in outputs], network.output)
    report = Report(pictures=len(pictures), finite=finite, distinct=distinct, failures=(), **figures)
    return replace(report, failures=_failures(report, recipe.gate))


def float32_run(runner: Runner, network: NetworkFile, recipe: Recipe) -> Run:
    """The zoo's float32 network on inputs of its typed graph: normalised here, by NumPy."""
    scale = (1.0 / (255.0 * network.std.astype(np.float64))).astype(np.float32).reshape(1, 3, 1, 1)
    offset = (network.mean.astype(np.float64) / network.std).astype(np.float32).reshape(1, 3, 1, 1)

    def run(batch: np.ndarray) -> list[np.ndarray]:
        planes = batch.transpose(0, 3, 1, 2).astype(np.float32) if recipe.input == "pixels" else batch
        return runner.run_all(planes * scale - offset)[: len(recipe.outputs)]

    return run


def _compare_tokens(
    network: NetworkFile, settings: Settings, pictures: Sequence[Seen], outputs: Sequence[tuple[list[np.ndarray], ...]]
) -> dict[str, float | None]:
    center = network.mean_token if settings.regions.center else None
    detector = ClaidDetector(settings.regions, ops.load().decompose, center)
    cosines, overlaps = [], []
    for seen, (wanted, found) in zip(pictures, outputs, strict=True):
        cosines.append(_cosines(wanted[0][0], found[0][0], axis=1))
        height, width = seen.pixels.shape[:2]
        grid = (height // network.stride, width // network.stride)
        regions = [detector.detect(Tokens(tokens[0][0], grid, seen.image_size)) for tokens in (wanted, found)]
        overlaps.append(best_ious(*regions).mean())
    every = np.concatenate(cosines)
    return {
        "token_cosine_mean": float(every.mean()),
        "token_cosine_least": float(every.min()),
        "region_iou": float(np.mean(overlaps)),
    }


def _compare_maps(
    network: NetworkFile, settings: Settings, pictures: Sequence[Seen], outputs: Sequence[tuple[list[np.ndarray], ...]]
) -> dict[str, float | None]:
    pooling = RegionPooling(settings.descriptors, ops.load().pool_boxes)
    cells, descriptors = [], []
    for seen, (wanted, found) in zip(pictures, outputs, strict=True):
        for a, b in zip(wanted, found, strict=True):
            cells.append(_cosines(a[0].reshape(a.shape[1], -1), b[0].reshape(b.shape[1], -1), axis=0))
        boxes = _boxes(seen.image_size)
        a, b = (
            pooling.describe(FeatureMap(maps[0][0], seen.image_size, tuple(m[0] for m in maps[1:])), boxes).values
            for maps in (wanted, found)
        )
        descriptors.append(_cosines(a, b, axis=1))
    every = np.concatenate(descriptors)
    return {
        "map_cosine_mean": float(np.concatenate(cells).mean()),
        "descriptor_cosine_mean": float(every.mean()),
        "descriptor_cosine_least": float(every.min()),
    }


def best_ious(wanted: Regions, found: Regions) -> np.ndarray:
    """(R,) for each wanted region the best IoU, of token masks, with a found one."""
    count = wanted.grid[0] * wanted.grid[1]
    a, b = (
        np.unpackbits(regions.masks, axis=1, count=count, bitorder="little").astype(np.float32)
        for regions in (wanted, found)
    )
    shared = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - shared
    best: np.ndarray = (shared / np.maximum(union, 1)).max(axis=1)
    return best


def _distinct(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray], output: str) -> bool:
    """Whether the pictures that the reference tells apart by their mean features are told apart by the candidate."""
    apart, still = (_cosines_between(features, output) < _SAME for features in (wanted, found))
    return bool(still[apart].all())


def _cosines_between(features: Sequence[np.ndarray], output: str) -> np.ndarray:
    """(P, P) cosines of pictures' mean features, without the part that all share; ones where nothing is left."""
    axis = (0, 1) if output == "tokens" else (0, 2, 3)
    means = np.stack([array.mean(axis=axis, dtype=np.float64) for array in features])
    if len(means) > 2:
        means -= means.mean(axis=0)
    norms = np.linalg.norm(means, axis=1)
    least = 1e-6 * max(float(np.abs(features[0]).max()), 1e-12)
    cosines = means @ means.T / np.maximum(np.outer(norms, norms), 1e-300)
    return np.where(norms.min() > least, cosines, 1.0)


def _boxes(size: tuple[int, int]) -> np.ndarray:
    """(17, 4): the whole picture and a grid of parts."""
    width, height = size
    edges = np.arange(_GRID + 1) / _GRID
    parts = [
        (edges[x] * width, edges[y] * height, edges[x + 1] * width, edges[y + 1] * height)
        for y in range(_GRID)
        for x in range(_GRID)
    ]
    return np.array([(0, 0, width, height), *parts], np.float32)


def _cosines(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    """Cosines of vectors along an axis; 1 where both are zero, 0 where one is."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=axis), np.linalg.norm(b, axis=axis)
    product = norms[0] * norms[1]
    both = (norms[0] == 0) & (norms[1] == 0)
    return np.where(product > 0, (a * b).sum(axis) / np.where(product > 0, product, 1), both.astype(np.float64))


def _failures(report: Report, gate: Gate) -> tuple[str, ...]:
    failures = [] if report.finite else ["some features are not finite"]
    if report.finite and not report.distinct:
        failures.append("different pictures give the same features")
    for name, least in asdict(gate).items():
        value = getattr(report, name)
        if least and value is not None and value < least:
            failures.append(f"{name.replace('_', ' ')} is {value:.4f}, less than {least}")
    return tuple(failures)
