"""A small dataset of coloured pictures, and a pipeline that knows colours."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from edge_claid.datasets import Dataset, open_dataset
from edge_claid.frames import read_picture
from edge_claid.records import Descriptors, Frame


class ColourPipeline:
    """Describes a box by its mean colour, its spread and its place in the range of brightness."""

    id = "colours"
    describe_settings = {"regions": "none"}  # noqa: RUF012
    descriptor_dim = 6

    def describe(self, image, box=None, *, boxes=None) -> Descriptors:
        pixels = (image if isinstance(image, Frame) else read_picture(image)).pixels
        if boxes is None:
            boxes = [(0, 0, pixels.shape[1], pixels.shape[0])] if box is None else [box]
        whole = np.array(boxes).astype(int)
        parts = [pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].reshape(-1, 3) for x0, y0, x1, y1 in whole]
        values = np.array([[*(p.mean(0) - 128), *p.std(0)] for p in parts], np.float32)
        return Descriptors(values / np.linalg.norm(values, axis=1, keepdims=True))


def colour_dataset(folder: Path) -> Dataset:
    """Two red, two blue pictures and a grey one; a red one has a copy of the same content."""
    random = np.random.default_rng(0)
    colours = {
        "red": (220, 20, 20),
        "red2": (200, 40, 30),
        "blue": (20, 20, 220),
        "blue2": (40, 30, 200),
        "grey": (120, 120, 120),
    }
    (folder / "images").mkdir()
    for name, colour in colours.items():
        pixels = np.clip(random.normal(colour, 8, (20, 20, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), pixels[:, :, ::-1])
    copied = (folder / "images" / "red2.png").read_bytes()
    (folder / "images" / "red_copy.png").write_bytes(copied)
    images = [{"id": f"i-{n}", "file": f"images/{n}.png"} for n in [*colours, "red_copy"]]
    whole = [0, 0, 20, 20]
    content = {
        "images": images,
        "queries": [{"id": "q-red", "image": "i-red", "box": [2, 2, 18, 18]}, {"id": "q-blue", "image": "i-blue"}],
        "truth": {
            "q-red": [{"image": "i-red2", "box": whole}, {"image": "i-red_copy", "box": whole}],
            "q-blue": [{"image": "i-blue2", "box": [0, 0, 20, 10]}],
        },
    }
    (folder / "gt.json").write_text(json.dumps(content))
    return open_dataset(folder)
