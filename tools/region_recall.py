"""Recall of objects by regions on COCO-style boxes: CLAID, a grid, and normalised cuts of the same tokens.

    python tools/region_recall.py ../shared/data/coco_dev [--out benchmarks/results/region_recall.json] [--limit 20]

Writes recall at IoU 0.2 … 0.9, the mean best IoU and the mean number of regions an image, for every method; the seconds
are of the method alone, without the network. All methods see the tokens of one run of the network.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from normalised_cut import normalised_cuts

from edge_claid import ops
from edge_claid.config import NetworkSettings, RegionSettings
from edge_claid.datasets import BoxDataset, open_boxes
from edge_claid.evaluate import region_recall
from edge_claid.frames import read_picture
from edge_claid.frames.letterbox import resize, size_by_area
from edge_claid.models import NetworkFile, open_network
from edge_claid.records import Tokens
from edge_claid.regions.claid import ClaidDetector
from edge_claid.regions.proposals import grid_of_rectangles, whole_image
from edge_claid.runners import OnnxRunner

Method = Callable[[Tokens], np.ndarray]


def boxes_of_masks(masks: list[np.ndarray], image_size: tuple[int, int]) -> np.ndarray:
    """(rows, columns) bool masks to their (R, 4) boxes in pixels."""
    boxes = np.empty((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        box *= np.tile(np.divide(image_size, mask.shape[::-1]), 2)
    return boxes


def cuts_method(cuts: int, tau: float, center: np.ndarray | None) -> Method:
    """Boxes of normalised cuts."""

    def boxes(tokens: Tokens) -> np.ndarray:
        features = tokens.features if center is None else tokens.features - center
        return boxes_of_masks(normalised_cuts(features, tokens.grid, cuts, tau), tokens.image_size)

    return boxes


def methods(settings: RegionSettings, mean_token: np.ndarray | None, backend: str) -> dict[str, Method]:
    """What is compared. Cuts are tried on tokens as they are and centred like CLAID's."""
    claid = ClaidDetector(settings, ops.load(backend).decompose, mean_token)
    compared: dict[str, Method] = {
        "claid": lambda tokens: claid.detect(tokens).boxes,
        "whole image": lambda tokens: whole_image(tokens.image_size).boxes,
        "grid, 30 rectangles": lambda tokens: grid_of_rectangles(tokens.image_size).boxes,
    }
    for name, center in (("", None), (", centred tokens", mean_token)):
        if name and center is None:
            continue
        compared[f"normalised cut, 1 cut{name}"] = cuts_method(1, 0.2, center)
        compared[f"normalised cut, 3 cuts{name}"] = cuts_method(3, 0.15, center)
    return compared


def all_tokens(dataset: BoxDataset, network: NetworkFile, side: int) -> Iterator[tuple[str, Tokens]]:
    """Each picture's id and tokens."""
    with OnnxRunner(network.path) as runner:
        for image in dataset.images:
            frame = read_picture(image.path)
            size = size_by_area(frame.size, side, network.input_multiple)
            values = (resize(frame.pixels, size) / np.float32(255) - network.mean) / network.std
            features = runner.run(np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32))[0]
            yield image.id, Tokens(features, (size[1] // network.stride, size[0] // network.stride), frame.size)


def compare(
    dataset: BoxDataset, networks: NetworkSettings, settings: RegionSettings, backend: str = "cpu"
) -> dict[str, dict]:
    """Each method's figures."""
    network = open_network(networks.vit, variant=networks.vit_variant, layer=networks.token_layer)
    compared = methods(settings, network.mean_token if settings.center else None, backend)
    boxes: dict[str, dict[str, np.ndarray]] = {name: {} for name in compared}
    seconds = dict.fromkeys(compared, 0.0)
    for image, tokens in all_tokens(dataset, network, networks.vit_side):
        for name, method in compared.items():
            started = time.perf_counter()
            boxes[name][image] = method(tokens)
            seconds[name] += time.perf_counter() - started
    return {
        name: region_recall(found, dataset.boxes, dataset.crowd).as_json()
        | {"seconds_per_image": seconds[name] / max(len(found), 1)}
        for name, found in boxes.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder with gt.json of boxes, or a COCO instances JSON")
    parser.add_argument("--images", type=Path, help="folder of a COCO file's pictures")
    parser.add_argument("--out", type=Path, help="where to write the JSON")
    parser.add_argument("--backend", default="cpu", help="cpu or reference; both give the same regions")
    parser.add_argument("--limit", type=int, help="only so many pictures")
    arguments = parser.parse_args()
    dataset = open_boxes(arguments.dataset, arguments.images)
    if arguments.limit:
        dataset = dataset.limited(arguments.limit)
    networks, settings = NetworkSettings(), RegionSettings()
    figures = compare(dataset, networks, settings, arguments.backend)
    result = {
        "command": f"python tools/region_recall.py {arguments.dataset.name}",
        "date": datetime.date.today().isoformat(),
        "machine": platform.machine(),
        "backend": arguments.backend,
        "dataset": dataset.name,
        "network": vars(networks) | vars(settings),
        "methods": figures,
    }
    for name, figure in figures.items():
        recall = " ".join(f"{share:.3f}" for share in figure["recall"].values())
        print(f"{name:42} {figure['regions_per_image']:6.1f} regions  best IoU {figure['best_iou']:.3f}  {recall}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
