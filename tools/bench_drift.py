"""What the drift of the quantisation error says, and what training anew gains: sets the limit in gallery/drift.py.

    python tools/bench_drift.py GALLERY.claid [--rounds 3]

GALLERY keeps its float descriptors. A code space is trained on some of its images and measures others: images drawn
alike (``alike``), and images that the first are least like (``unlike``: the gallery is halved along the first principal
axis of the images' mean descriptors). ``told`` is the ratio that ``gallery info`` would tell, ``found`` the error of
all images beside that in a code book trained on all of them. Figures go to benchmarks/results/drift.json.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import results_file

from edge_claid.codes.opq import train_opq
from edge_claid.codes.space import CodeSpace, train_space
from edge_claid.config import CodeSettings
from edge_claid.gallery.drift import LIMIT, error_factor
from edge_claid.gallery.store import Gallery

SHARES = (0.1, 0.25, 0.5)  # of the images that the first code space is trained on


def error(space: CodeSpace, values: np.ndarray) -> float:
    """Mean squared quantisation error of descriptors (N, D)."""
    lost = space.project(values) - space.book.decode(space.encode(values))
    return float(np.square(lost).sum(axis=1).mean())


def halves(parts: list[np.ndarray], alike: bool, share: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Descriptors of ``share`` of the images, and of as many others at most as are left."""
    order = rng.permutation(len(parts))
    if not alike:
        means = np.array([part.mean(axis=0) for part in parts])
        means -= means.mean(axis=0)
        axis = np.linalg.svd(means, full_matrices=False)[2][0]
        order = np.argsort(means @ axis, kind="stable")
    first = round(share * len(parts))
    return np.concatenate([parts[i] for i in order[:first]]), np.concatenate([parts[i] for i in order[first:]])


def measured(parts: list[np.ndarray], alike: bool, share: float, seed: int, code_bytes: int) -> dict[str, float]:
    """One code space on the first images, one on all, both on the others."""
    first, others = halves(parts, alike, share, np.random.default_rng(seed))
    settings = CodeSettings(bytes=code_bytes)
    before = train_space(first, settings)
    # Errors of two code books compare within one projection only.
    values = before.project(np.concatenate([first, others]))
    after = CodeSpace(before.projection, train_opq(values, settings.bytes, seed=0))
    expected = error(before, first) * error_factor(len(first) + len(others)) / error_factor(len(first))
    everything = np.concatenate([first, others])
    present = error(before, everything)
    return {
        "trained_on": len(first),
        "new": len(others),
        "error_at_training": error(before, first),
        "error_of_new": error(before, others),
        "told": present / expected,
        "found": present / error(after, everything),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bytes", type=int, nargs="+", default=[16])
    arguments = parser.parse_args()
    with Gallery.open(arguments.gallery) as gallery:
        index = gallery.load_index(exact=True)
    assert index.descriptors is not None
    values = index.descriptors.astype(np.float32)
    parts = [values[index.starts[i] : index.starts[i + 1]] for i in range(len(index.image_ids))]
    rows: list[dict[str, Any]] = []
    for code_bytes, alike, share in itertools.product(arguments.bytes, (True, False), SHARES):
        seeds = range(arguments.rounds if alike else 1)
        rounds = [measured(parts, alike, share, seed, code_bytes) for seed in seeds]
        mean = {name: round(float(np.mean([one[name] for one in rounds])), 4) for name in rounds[0]}
        rows.append({"bytes": code_bytes, "others": "alike" if alike else "unlike", "share": share} | mean)
        print(rows[-1], flush=True)
    found = {"images": len(parts), "regions": len(values), "limit": LIMIT, "splits": rows}
    results_file.write(results_file.FOLDER / "drift.json", {"drift": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
