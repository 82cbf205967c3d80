"""Collect what tools/gpu_check.sh needs on a machine without a network: at most 60 MB.

    python tools/gpu_check_data.py FOLDER [--data ../shared] [--pictures 40]

Wheels of PyCUDA, the golden tokens, and tokens of pictures of the development set by the default ViT, as float16.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from edge_claid.frames.reading import read_picture
from edge_claid.pipeline import Pipeline

MOST_BYTES = 60_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--pictures", type=int, default=40)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in ("gpu/wheels", "golden"):
        target = arguments.folder / Path(name).name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(arguments.data / name, target)
    pictures = sorted((arguments.data / "data" / "dev" / "images").glob("*"))
    chosen = pictures[:: max(1, len(pictures) // arguments.pictures)][: arguments.pictures]
    arrays = {}
    with Pipeline.open() as pipeline:
        for path in chosen:
            tokens = pipeline.tokens(read_picture(str(path)))
            arrays[f"{path.stem}_{tokens.grid[0]}x{tokens.grid[1]}"] = tokens.features.astype(np.float16)
    np.savez_compressed(arguments.folder / "tokens.npz", **arrays)
    size = sum(path.stat().st_size for path in arguments.folder.rglob("*") if path.is_file())
    print(f"{arguments.folder}: {len(arrays)} pictures, {size / 1e6:.1f} MB")
    if size > MOST_BYTES:
        raise SystemExit(f"that is more than {MOST_BYTES / 1e6:.0f} MB: take fewer --pictures")


if __name__ == "__main__":
    main()
