"""Code books compared on a dataset: PQ, OPQ and UDQ with every refinement, at several code lengths and seeds.

    python tools/compare_codebooks.py GALLERY DATASET [--part NAME …] [--rows 8000] [--cache FILE.npz] [--minutes 11]
    python tools/compare_codebooks.py --markdown

GALLERY holds the pictures of DATASET (a folder with gt.json) with float descriptors. Each code space is trained twice:
on the gallery itself, and on pictures that show nothing of what is then asked for (see codebook_trial). All methods see
the same whitening, and the same --rows regions of each seed. Results go to benchmarks/results/udq.json after every
case; a run that is out of its minutes ends with 3 and goes on where it was when it is started again (--fresh measures
again what is there). --markdown writes the tables of that file into docs/udq.md instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One core for everything, as the machine may have other work; NumPy reads these when it is loaded.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import results_file
from codebook_trial import HELD_OUT, Trial, open_trial, projected

from edge_claid.codes.opq import train_opq
from edge_claid.codes.pq import train_pq
from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.learn.udq import UdqSettings, learn_udq

OUT = results_file.FOLDER / "udq.json"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "udq.md"
LENGTHS = (4, 8, 16, 32)

Train = Callable[[np.ndarray, int, int], CodeSpace]  # whitened regions, bytes, seed


def unchanged(width: int) -> Projection:
    return Projection(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))


def udq(refine: str, **changed: Any) -> Train:
    def train(values: np.ndarray, length: int, seed: int) -> CodeSpace:
        return learn_udq(values, unchanged(values.shape[1]), UdqSettings(length, refine, seed=seed, **changed))

    return train


def opq(start: str, rotations: int) -> Train:
    def train(values: np.ndarray, length: int, seed: int) -> CodeSpace:
        width = values.shape[1]
        drawn = np.random.default_rng(seed).normal(size=(width, width))
        first = {"parametric": None, "identity": np.eye(width), "random": np.linalg.qr(drawn)[0]}[start]
        return CodeSpace(unchanged(width), train_opq(values, length, rotations, seed, start=first))

    return train


def opq_of_principal_axes(share: float, steeper: float) -> Train:
    """OPQ of the leading ``share`` of the directions, each weighed by its variance ** (``steeper`` / 2)."""

    def train(values: np.ndarray, length: int, seed: int) -> CodeSpace:
        spectrum, axes = np.linalg.eigh(np.cov(values, rowvar=False))
        matrix = (axes * np.maximum(spectrum, 1e-9) ** (steeper / 2))[:, ::-1][:, : round(share * len(axes))]
        projection = Projection(np.zeros(len(axes), np.float32), np.ascontiguousarray(matrix, np.float32))
        return CodeSpace(projection, train_opq(projected(projection, values), length, seed=seed))

    return train


METHODS: dict[str, Train] = {
    "PQ": lambda values, length, seed: CodeSpace(unchanged(values.shape[1]), train_pq(values, length, seed)),
    "OPQ": lambda values, length, seed: CodeSpace(unchanged(values.shape[1]), train_opq(values, length, seed=seed)),
    "UDQ": udq("none"),
    "UDQ + BFR": udq("bfr"),
    "UDQ + PBR": udq("pbr"),
    "UDQ + CBR": udq("cbr"),
}
# Settings that were not taken, so that it is seen why.
VARIANTS: dict[str, Train] = {
    "UDQ + BFR, λ = 10": udq("bfr", balance=10.0),
    "UDQ + BFR, λ = 50": udq("bfr", balance=50.0),
    "UDQ + BFR, 200 steps a module": udq("bfr", steps=200),
}
# What the head does to the spectrum, without learning.
CONTROLS: dict[str, Train] = {
    "OPQ": METHODS["OPQ"],
    "OPQ of half the directions": opq_of_principal_axes(0.5, 0.0),
    "OPQ, variances to the power 1.5": opq_of_principal_axes(1.0, 0.5),
}
STARTS: dict[str, Train] = {
    f"OPQ, {start} start, {rotations} rotations": opq(start, rotations)
    for rotations in (10, 20, 30)
    for start in ("parametric", "identity", "random")
}


@dataclass(frozen=True)
class Part:
    """A part of the results: methods at code lengths. rows: regions trained on, where not as asked for."""

    methods: dict[str, Train]
    lengths: tuple[int, ...]
    seeds: int
    rows: int | None = None


PARTS = {
    "methods": Part(METHODS, LENGTHS, 3),
    "controls": Part(CONTROLS, (16,), 1),
    "variants": Part(VARIANTS, (8,), 1),
    "starts": Part(STARTS, (16,), 2, rows=1 << 30),
    "all regions": Part({name: METHODS[name] for name in ("OPQ", "UDQ + BFR")}, (8, 16), 1, rows=1 << 30),
}


def cases(part: Part) -> Iterator[tuple[int, int, str]]:
    """Seed, bytes and method of every case: all of one seed before the next."""
    for seed in range(part.seeds):
        for length in part.lengths:
            for method in part.methods:
                yield seed, length, method


def measured(trial: Trial, train: Train, length: int, seed: int, rows: int) -> dict[str, dict[str, float]]:
    """One case: figures of a space trained on the gallery itself, and of spaces trained on held-out halves."""
    found = {}
    for name, splits in (("own", ("own",)), ("held out", HELD_OUT)):
        spaces, began = {}, time.process_time()
        for split in splits:
            chosen = np.flatnonzero(trial.training[split])
            chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:rows])
            spaces[split] = train(np.ascontiguousarray(trial.regions[split][chosen]), length, seed)
        figures = {"seconds": time.process_time() - began} | trial.figures(spaces)
        if seed == 0:  # what the head does to features before they are coded differs little between seeds
            floats = trial.figures({split: space.projection for split, space in spaces.items()})
            figures |= {f"float {key}": value for key, value in floats.items()}
        errors = [trial.error(space, split) for split, space in spaces.items()]
        found[name] = {key: round(value, 5) for key, value in {**figures, "error": float(np.mean(errors))}.items()}
    return found


def filled(trial: Trial, name: str, known: dict[str, Any], rows: int, until: float) -> Iterator[dict[str, Any]]:
    """A part of the results after each case that it lacks. Raises TimeoutError where a case begins after ``until``."""
    part = PARTS[name]
    rows = min(part.rows or rows, len(trial.boxes))
    about = {"dataset": trial.dataset.name, "regions": len(trial.boxes), "trained on": rows, "key": trial.key}
    same = all(known.get(key) == value for key, value in about.items())
    table = {(row["method"], row["bytes"]): row for row in known["rows"]} if same else {}
    for seed, length, method in cases(part):
        row = table.setdefault((method, length), {"method": method, "bytes": length, "own": [], "held out": []})
        if len(row["own"]) > seed:
            continue
        if time.monotonic() > until:
            raise TimeoutError
        figures = measured(trial, part.methods[method], length, seed, rows)
        for split, own in figures.items():
            row[split].append(own)
        print(f"{name}: {length} bytes, {method}, seed {seed}: {figures}", file=sys.stderr, flush=True)
        yield {**about, "rows": list(table.values())}


def markdown(stored: dict[str, Any]) -> str:
    """Tables: pictures that were not trained on, the gallery itself, and settings that were not taken."""
    rows = sorted(stored["methods"]["rows"], key=lambda row: row["bytes"])
    seeds = sorted({len(row["own"]) for row in rows})
    lines = [
        f"Seeds: {' or '.join(map(str, seeds))}. Regions trained on: at most {stored['methods']['trained on']:,}.",
        "",
    ]
    lines += table("Trained on other pictures", rows, "held out") + table("Trained on the gallery itself", rows, "own")
    if "controls" in stored:
        lines += table("Controls, trained on other pictures, one seed", stored["controls"]["rows"], "held out")
    for name, title in (
        ("controls", "Controls, trained on the gallery itself, one seed"),
        ("variants", "Other settings of UDQ, trained on the gallery itself, one seed"),
        ("all regions", "All regions of the gallery trained on, one seed"),
        ("starts", "Starts and rotations of OPQ, trained on all regions of the gallery, two seeds"),
    ):
        if name in stored:
            lines += table(title, stored[name]["rows"], "own")
    if "starts" in stored:
        lines += table("Starts and rotations of OPQ, trained on other pictures", stored["starts"]["rows"], "held out")
    return "\n".join(lines)


def table(title: str, rows: list[dict[str, Any]], split: str) -> list[str]:
    lines = [f"{title}:", "", "| bytes | method | mAP | mIoU | error | mAP of the float features |", "| --- " * 6 + "|"]
    for row in rows:
        cells = [spread([seed[key] for seed in row[split]]) for key in ("mAP", "mIoU", "error")]
        cells.append(f"{row[split][0]['float mAP']:.3f}")
        lines.append(f"| {row['bytes']} | {row['method']} | {' | '.join(cells)} |")
    return [*lines, ""]


def spread(values: list[float]) -> str:
    """Mean over seeds, and half the way from the lowest to the highest."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.ptp(values) / 2:.3f}"


def write_page(results: Path) -> None:
    before, rest = PAGE.read_text().split("<!-- tables -->")
    after = rest.split("<!-- end of tables -->")[1]
    tables = markdown(json.loads(results.read_text()))
    PAGE.write_text(f"{before}<!-- tables -->\n{tables}<!-- end of tables -->{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path, nargs="?")
    parser.add_argument("dataset", type=Path, nargs="?")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--rows", type=int, default=8_000, help="regions each code space is trained on at most")
    parser.add_argument("--cache", type=Path, help="keeps whitened regions and queries between runs")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no case begins after so many")
    parser.add_argument("--fresh", action="store_true", help="measure again what the results hold")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--markdown", action="store_true", help="write the tables of the results into docs/udq.md")
    options = parser.parse_args()
    if options.markdown:
        write_page(options.out)
        return
    if options.dataset is None:
        parser.error("name a gallery and a dataset")
    import torch

    torch.set_num_threads(1)
    until = time.monotonic() + 60 * options.minutes
    trial = open_trial(options.gallery, options.dataset, options.cache)
    known = json.loads(options.out.read_text()) if options.out.exists() and not options.fresh else {}
    try:
        for name in options.part or PARTS:
            for part in filled(trial, name, known.get(name, {}), options.rows, until):
                results_file.write(options.out, {name: part})
    except TimeoutError:
        sys.exit(3)


if __name__ == "__main__":
    main()
