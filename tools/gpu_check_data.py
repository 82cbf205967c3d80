"""Collect what tools/gpu_check.sh needs on a machine without a network: at most 57 MB.

    python tools/gpu_check_data.py FOLDER [--data ../shared] [--pictures 18]

Wheels of PyCUDA, the golden tokens, and tokens of pictures of the development set by the default ViT, as float16. One
picture's pixels, and both networks in a form that torch alone runs, at that picture's size. The kernels compiled for
--arch, where nvcc is here. Needs torch.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from bench_frames import FILES
from torch_network import StaticNetwork, static_network

from edge_claid.config import Settings
from edge_claid.errors import MachineError
from edge_claid.frames.letterbox import size_by_area, size_by_longer_side
from edge_claid.frames.reading import read_picture
from edge_claid.models import NetworkFile, open_network
from edge_claid.network_input import network_input
from edge_claid.ops.cuda.compile import FAMILIES, machine_code
from edge_claid.pipeline import Pipeline
from edge_claid.records import Frame
from edge_claid.runners.onnx_runner import OnnxRunner

# Where a machine is lent over a copy of the working tree, both together may be 64 MiB.
MOST_BYTES = 57_000_000
# Mean over tokens or cells; weights in 8 bits cost the ViT about 0.0003 of it, halves less.
LEAST_COSINE = 0.999


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--pictures", type=int, default=18)
    parser.add_argument("--arch", default="sm_90", help="of the GPU there")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in ("gpu/wheels", "golden"):
        target = arguments.folder / Path(name).name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(arguments.data / name, target)
    write_kernels(arguments.folder, arguments.arch)
    pictures = sorted((arguments.data / "data" / "dev" / "images").glob("*"))
    chosen = pictures[:: max(1, len(pictures) // arguments.pictures)][: arguments.pictures]
    write_frame_and_networks(arguments.folder, read_picture(str(chosen[0])), Settings())
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


def write_kernels(folder: Path, arch: str) -> None:
    """All families, known by their sources: the machine need not compile them."""
    shutil.rmtree(folder / "kernels", ignore_errors=True)
    try:
        for family in FAMILIES:
            machine_code(family, arch, folder)
    except MachineError as error:
        print(f"no kernels: {error}")


def write_frame_and_networks(folder: Path, frame: Frame, settings: Settings) -> dict[str, list[float]]:
    """FILES of tools/bench_frames.py. The cosine of every output with the float32 ONNX's on this picture, by file.

    Exits where one is less than LEAST_COSINE.
    """
    chosen = settings.networks
    vit = open_network(chosen.vit, variant="fp32", layer=chosen.token_layer)
    convolutional = open_network(chosen.descriptor)
    longer = chosen.descriptor_side
    if chosen.descriptor_growth:
        longer = min(longer, round(max(frame.size) * chosen.descriptor_growth))
    sizes = (
        size_by_area(frame.size, chosen.vit_side, vit.input_multiple),
        size_by_longer_side(frame.size, longer, convolutional.input_multiple),
    )
    np.save(folder / FILES[2], np.ascontiguousarray(frame.pixels))
    cosines = {}
    for name, file, (wide, high) in zip(FILES[:2], (vit, convolutional), sizes, strict=True):
        static_network(file, (1, 3, high, wide), folder / name)
        cosines[name] = cosines_with_onnx(folder / name, file, network_input(frame.pixels, (wide, high), file))
        print(f"{name}: {wide}x{high}, cosine with ONNX Runtime {', '.join(f'{c:.5f}' for c in cosines[name])}")
        if min(cosines[name]) < LEAST_COSINE:
            raise SystemExit(f"{name} is not the network: a cosine is less than {LEAST_COSINE}")
    return cosines


def cosines_with_onnx(written: Path, file: NetworkFile, planes: np.ndarray) -> list[float]:
    """Of each output, the mean over tokens or cells; torch computes in float32 on the weights as they are kept."""
    with OnnxRunner(file.path, threads=1) as runner:
        wanted = runner.run_all(planes)
    found = StaticNetwork(written, "cpu", torch.float32)(torch.from_numpy(planes))
    axis = 2 if file.output == "tokens" else 1
    means = []
    for a, b in zip(wanted, (one.numpy() for one in found), strict=True):
        norms = np.linalg.norm(a, axis=axis) * np.linalg.norm(b, axis=axis)
        means.append(float(np.mean((a * b).sum(axis=axis)[norms > 0] / norms[norms > 0])))
    return means


if __name__ == "__main__":
    main()
