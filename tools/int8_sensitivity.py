"""Which layers of a network lose at int8, and how few must stay at fp16: the list `kept` of its recipe.

    python tools/int8_sensitivity.py dinov2-s14-focus [--goal 0.995] [--out benchmarks/results/precision.json]

Each product with weights is quantised alone, and then all but the worst few, one more kept at a time, until the cosine
of the network's features with float32's reaches the goal on the calibration pictures. Calibrated on all of them,
measured on all of them. One thread; about ten minutes for a ViT-S on two slow cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from results_file import FOLDER, write

from edge_claid.config import NetworkSettings
from edge_claid.engines.pictures import normalised, own_pictures, seen_by
from edge_claid.engines.quantise import METHODS, Product, activation_ranges, products, quantised
from edge_claid.engines.recipe import recipe
from edge_claid.models import NetworkFile, open_network


class Measured:
    """A network's features on some pictures, and how far a changed graph's are from them."""

    def __init__(self, network: NetworkFile, model: onnx.ModelProto, inputs: Sequence[np.ndarray]) -> None:
        self._axis = 2 if network.output == "tokens" else 1
        self._inputs = inputs
        self._wanted = [self._run(_session(model), batch) for batch in inputs]

    def cosine(self, model: onnx.ModelProto) -> tuple[float, float]:
        """Mean and least cosine over all tokens, or cells of all maps."""
        session, cosines = _session(model), []
        for batch, wanted in zip(self._inputs, self._wanted, strict=True):
            for a, b in zip(wanted, self._run(session, batch), strict=True):
                norms = np.linalg.norm(a, axis=self._axis) * np.linalg.norm(b, axis=self._axis)
                cosines.append(((a * b).sum(self._axis) / np.maximum(norms, 1e-12)).ravel())
        every = np.concatenate(cosines)
        return float(every.mean()), float(every.min())

    @staticmethod
    def _run(session: onnxruntime.InferenceSession, batch: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(None, {"image": batch})
        return found


def sensitivity(name: str, goal: float, side: int | None = None) -> dict[str, Any]:
    """Loss of each product alone, of all of them by each way to find ranges, and what to keep for the goal."""
    known = recipe(name)
    network = open_network(name, layer=known.layer)
    settings = NetworkSettings() if side is None else NetworkSettings(vit_side=side, descriptor_side=side)
    inputs = [normalised(seen, network) for seen in seen_by(own_pictures(), network, known, settings)]
    model = onnx.load(network.path)
    every, measured = products(model), Measured(network, model, inputs)
    methods = {method: activation_ranges(model, every, inputs, method=method) for method in METHODS}
    whole = {method: measured.cosine(quantised(model, every, ranges)) for method, ranges in methods.items()}
    ranges = methods[known.int8.method]
    # Half of the pictures put the layers in order; all of them judge.
    few = Measured(network, model, inputs[::2])
    alone = {product.node: few.cosine(quantised(model, [product], ranges)) for product in every}
    order = sorted(alone, key=lambda node: alone[node])
    kept, steps = _kept(model, every, ranges, order, measured, goal)
    return {
        "pictures": len(inputs),
        "products": len(every),
        "all_quantised": {method: _figures(cosine) for method, cosine in whole.items()},
        "alone": {node: _figures(alone[node]) for node in order},
        "kept": kept,
        "keeping": steps,
        "goal": goal,
    }


def _kept(
    model: onnx.ModelProto,
    every: Sequence[Product],
    ranges: dict[str, float],
    order: Sequence[str],
    measured: Measured,
    goal: float,
) -> tuple[list[str], list[dict[str, Any]]]:
    steps = []
    for count in range(len(order) + 1):
        kept = list(order[:count])
        mean, least = measured.cosine(quantised(model, [p for p in every if p.node not in kept], ranges))
        steps.append({"kept": count, **_figures((mean, least))})
        print(f"{count} kept: mean {mean:.5f}, least {least:.4f}", flush=True)
        if mean >= goal:
            break
    return kept, steps


def _figures(cosine: tuple[float, float]) -> dict[str, float]:
    return {"cosine_mean": round(cosine[0], 6), "cosine_least": round(cosine[1], 5)}


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Measure and write the part of this network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--goal", type=float, default=0.995)
    parser.add_argument("--side", type=int, help="of the pictures; default: the pipeline's")
    parser.add_argument("--out", type=Path, default=FOLDER / "precision.json")
    chosen = parser.parse_args()
    write(chosen.out, {f"int8 of {chosen.network}": sensitivity(chosen.network, chosen.goal, chosen.side)})


if __name__ == "__main__":
    main()
