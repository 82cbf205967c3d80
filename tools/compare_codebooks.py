"""Code books compared on a dataset: PQ, OPQ and UDQ with every refinement, at several code lengths and seeds.

    python tools/compare_codebooks.py GALLERY DATASET [--bytes 4 …] [--seeds 3] [--rows 8000] [--cache FILE.npz]
    python tools/compare_codebooks.py --markdown

GALLERY holds the pictures of DATASET (a folder with gt.json) with float descriptors. Each code space is trained twice:
on the gallery itself, and on pictures that show nothing of what is then asked for (see codebook_trial). All methods see
the same whitening, and the same --rows regions of each seed. Writes benchmarks/results/udq.json after every code
length; --markdown writes its tables into docs/udq.md instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# One core for everything, as the machine may have other work; NumPy reads these when it is loaded.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import results_file
from codebook_trial import HELD_OUT, Trial, open_trial

from edge_claid.codes.opq import train_opq
from edge_claid.codes.pq import train_pq
from edge_claid.codes.projection import Projection
from edge_claid.codes.space import CodeSpace
from edge_claid.learn.udq import UdqSettings, learn_udq

OUT = results_file.FOLDER / "udq.json"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "udq.md"
LENGTHS = (4, 8, 16, 32)

Train = Callable[[np.ndarray, Projection, int, int], CodeSpace]  # descriptors, whitening, bytes, seed


def udq(refine: str, **changed: Any) -> Train:
    def train(descriptors: np.ndarray, projection: Projection, length: int, seed: int) -> CodeSpace:
        return learn_udq(descriptors, projection, UdqSettings(length, refine, seed=seed, **changed))

    return train


METHODS: dict[str, Train] = {
    "PQ": lambda x, whitening, length, seed: CodeSpace(whitening, train_pq(whitening.project(x), length, seed)),
    "OPQ": lambda x, whitening, length, seed: CodeSpace(whitening, train_opq(whitening.project(x), length, seed=seed)),
    "UDQ": udq("none"),
    "UDQ + BFR": udq("bfr"),
    "UDQ + PBR": udq("pbr"),
    "UDQ + CBR": udq("cbr"),
}
# Settings that were not taken, at one code length and seed, so that it is seen why.
VARIANTS: dict[str, Train] = {
    "UDQ + BFR, λ = 10": udq("bfr", balance=10.0),
    "UDQ + BFR, λ = 50": udq("bfr", balance=50.0),
    "UDQ + BFR, 200 steps a module": udq("bfr", steps=200),
}
VARIED_AT = 8  # bytes


def measured(trial: Trial, method: str, length: int, seeds: int, rows: int) -> dict[str, Any]:
    """One method at one code length: its figures by seed, trained on the gallery and on held-out halves."""
    train = (METHODS | VARIANTS)[method]
    found: dict[str, Any] = {"method": method, "bytes": length, "own": [], "held out": [], "seconds": []}
    for seed in range(seeds):
        for name, splits in (("own", ("own",)), ("held out", HELD_OUT)):
            spaces, began = {}, time.process_time()
            for split in splits:
                chosen = np.flatnonzero(trial.training[split])
                chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:rows])
                spaces[split] = train(trial.descriptors[chosen], trial.projections[split], length, seed)
            if name == "own":
                found["seconds"].append(round(time.process_time() - began, 2))
            figures = trial.figures(spaces)
            if seed == 0:  # what the head does to features before they are coded differs little between seeds
                floats = trial.figures({split: space.projection for split, space in spaces.items()})
                figures |= {f"float {key}": value for key, value in floats.items()}
            found[name].append({key: round(value, 5) for key, value in figures.items()})
    return found


def markdown(stored: dict[str, Any]) -> str:
    """Tables: pictures that were not trained on, the gallery itself, and settings that were not taken."""
    parts = [part for name, part in stored.items() if name != "variants"]
    rows = sorted((row for part in parts for row in part["rows"]), key=lambda row: row["bytes"])
    seeds = sorted({len(row["own"]) for row in rows})
    trained = max(part["trained on"] for part in parts)
    lines = [f"Seeds: {' or '.join(map(str, seeds))}. Regions trained on: at most {trained:,}.", ""]
    lines += table("Trained on other pictures", rows, "held out") + table("Trained on the gallery itself", rows, "own")
    if "variants" in stored:
        lines += table("Other settings, trained on the gallery itself, one seed", stored["variants"]["rows"], "own")
    return "\n".join(lines)


def table(title: str, rows: list[dict[str, Any]], split: str) -> list[str]:
    lines = [f"{title}:", "", "| bytes | method | mAP | mIoU | mAP of the float features |", "| --- " * 5 + "|"]
    for row in rows:
        cells = [spread([seed[key] for seed in row[split]]) for key in ("mAP", "mIoU")]
        cells.append(f"{row[split][0]['float mAP']:.3f}")
        lines.append(f"| {row['bytes']} | {row['method']} | {' | '.join(cells)} |")
    return [*lines, ""]


def spread(values: list[float]) -> str:
    """Mean over seeds, and half the way from the lowest to the highest."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.ptp(values) / 2:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path, nargs="?")
    parser.add_argument("dataset", type=Path, nargs="?")
    parser.add_argument("--bytes", type=int, action="append")
    parser.add_argument("--method", choices=METHODS, action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8_000, help="regions each code space is trained on at most")
    parser.add_argument("--cache", type=Path, help="keeps queries and views between runs")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--markdown", action="store_true", help="write the tables of the results into docs/udq.md")
    options = parser.parse_args()
    if options.markdown:
        before, rest = PAGE.read_text().split("<!-- tables -->")
        after = rest.split("<!-- end of tables -->")[1]
        tables = markdown(json.loads(options.out.read_text()))
        PAGE.write_text(f"{before}<!-- tables -->\n{tables}<!-- end of tables -->{after}")
        return
    if options.dataset is None:
        parser.error("name a gallery and a dataset")
    import torch

    torch.set_num_threads(1)
    trial = open_trial(options.gallery, options.dataset, options.cache)
    about = {"dataset": trial.dataset.name, "regions": len(trial.descriptors), "trained on": options.rows}

    def run(methods: Iterable[str], length: int, seeds: int) -> dict[str, Any]:
        rows = []
        for method in methods:
            rows.append(measured(trial, method, length, seeds, options.rows))
            shown = {split: spread([seed["mAP"] for seed in rows[-1][split]]) for split in ("held out", "own")}
            print(f"{length} bytes  {method:10} {shown}  {rows[-1]['seconds']} s", file=sys.stderr, flush=True)
        return {**about, "rows": rows}

    for length in options.bytes or LENGTHS:
        results_file.write(options.out, {f"{length} bytes": run(options.method or METHODS, length, options.seeds)})
    if not options.method:
        results_file.write(options.out, {"variants": run(VARIANTS, VARIED_AT, 1)})


if __name__ == "__main__":
    main()
