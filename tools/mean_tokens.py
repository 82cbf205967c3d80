"""Measures the mean token of every layer of a ViT over a folder of pictures, for edge_claid/models/mean_tokens/.

    python tools/mean_tokens.py dinov2-s14-focus PICTURES OUT.npy [--side 518]

OUT.npy: (blocks + 1, feature_dim) float32; row i is block i, the last row the end of the network. Each picture counts
the same, whatever its number of tokens. The pictures are scaled to the longer side given, sides to multiples of 14.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edge_claid.models.fetch import fetch_weights
from edge_claid.models.zoo import ZooEntry, entry


def all_layers(known: ZooEntry) -> onnxruntime.InferenceSession:
    """The uncut network with the tokens of every block and of the end as outputs, in that order."""
    names = known.build["tensors"]
    blocks = [layer for layer in known.layers if layer >= 0]
    model = onnx.load(fetch_weights(known))
    del model.graph.output[:]
    for tensor in (*(names["block"].format(layer=layer) for layer in blocks), names["end"]):
        model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def network_input(path: Path, known: ZooEntry, side: int) -> np.ndarray:
    """(1, 3, H, W) float32, the picture normalised for this network."""
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    scale = side / max(pixels.shape[:2])
    height, width = (max(1, round(n * scale / known.stride)) * known.stride for n in pixels.shape[:2])
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    values = (pixels / np.float32(255) - np.array(known.mean, np.float32)) / np.array(known.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=518)
    arguments = parser.parse_args()
    known = entry(arguments.name)
    session = all_layers(known)
    paths = sorted(p for p in arguments.pictures.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    total = np.zeros((len(session.get_outputs()), known.feature_dim))
    for path in paths:
        batch = network_input(path, known, arguments.side)
        tokens = session.run(None, {session.get_inputs()[0].name: batch})
        total += [layer[0, 1:].mean(0, dtype=np.float64) for layer in tokens]  # without the class token
    np.save(arguments.out, (total / len(paths)).astype(np.float32))
    print(f"{len(paths)} pictures, {total.shape[0]} layers -> {arguments.out}")


if __name__ == "__main__":
    main()
