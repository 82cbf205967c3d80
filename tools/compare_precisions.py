"""What precision costs: token cosine, region IoU and mAP of fp32, fp16, dynamic int8 and Q/DQ int8, on ONNX Runtime.

    python tools/compare_precisions.py ../shared/data/dev [--precision NAME]… [--limit QUERIES] [--out FILE]

The typed graphs that engines are built from run here on the CPU, in the pipeline's own place, over the whole data set:
one enrolment a precision. What is measured is the graph: ONNX Runtime's CPU computes fp16 operators in float32 and
rounds their results, a GPU rounds more. Every precision is written when it is done, so a run can be cut short.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from results_file import FOLDER, write

from edge_claid.config import Settings
from edge_claid.datasets import Dataset, open_dataset
from edge_claid.engines.acceptance import compare, float32_run
from edge_claid.engines.opening import without_normalisation
from edge_claid.engines.pictures import normalised, own_pictures, planes_of, seen_by
from edge_claid.engines.recipe import recipe
from edge_claid.engines.typed import typed_file
from edge_claid.evaluate.sweep import sweep
from edge_claid.models import NetworkFile, open_network
from edge_claid.pipeline import Pipeline
from edge_claid.runners.onnx_runner import OnnxRunner, usable_cores

PRECISIONS = ("fp32", "fp16", "dynamic int8", "int8")
_LENGTHS = [0, 16]


def network_at(name: str, precision: str) -> NetworkFile:
    """A network whose file is the graph at this precision; dynamic int8 is for tokens, and float32 elsewhere."""
    known = recipe(name)
    plain = open_network(name, layer=known.layer)
    if precision == "fp32":
        return plain
    if precision == "dynamic int8":
        return open_network(name, variant="int8", layer=known.layer) if plain.output == "tokens" else plain
    return replace(without_normalisation(plain), path=typed_file(plain, known, precision))


def features(name: str, precision: str, settings: Settings) -> dict[str, Any]:
    """The acceptance test's figures of a network on the calibration pictures."""
    known, plain = recipe(name), open_network(name)
    changed = network_at(name, precision)
    pictures = seen_by(own_pictures(), plain, known, settings.networks)
    typed = precision in ("fp16", "int8")
    # The network as it is takes normalised planes; a typed graph takes pixels.
    by_planes = {planes_of(seen, known.input).tobytes(): normalised(seen, plain) for seen in pictures}
    with OnnxRunner(plain.path) as reference, OnnxRunner(changed.path) as candidate:
        report = compare(
            plain,
            known,
            settings,
            pictures,
            float32_run(reference, plain, known),
            candidate.run_all if typed else lambda batch: candidate.run_all(by_planes[batch.tobytes()]),
        )
    return report.as_json()


def retrieval(dataset: Dataset, precision: str, settings: Settings) -> list[dict[str, Any]]:
    """Enrolment and search of the data set: figures by float descriptors and by codes of 16 bytes."""
    networks = settings.networks
    files = [network_at(name, precision) for name in (networks.vit, networks.descriptor)]
    with tempfile.TemporaryDirectory() as folder, Pipeline(settings, files[0], files[1], usable_cores()) as pipeline:
        rows = sweep(dataset, pipeline, settings, Path(folder), ["claid"], _LENGTHS)
        return [{"setting": setting.as_json(), **report["all"]} for setting, report in rows]


def main() -> None:
    """Measure and write a part for each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--precision", action="append", choices=PRECISIONS)
    parser.add_argument("--limit", type=int, help="queries; the pictures stay")
    parser.add_argument("--out", type=Path, default=FOLDER / "precision.json")
    chosen = parser.parse_args()
    dataset, settings = open_dataset(chosen.dataset), Settings()
    if chosen.limit:
        dataset = dataset.limited(chosen.limit)
    for precision in chosen.precision or PRECISIONS:
        names = (settings.networks.vit, settings.networks.descriptor)
        part: dict[str, Any] = {"features": {name: features(name, precision, settings) for name in names}}
        part["retrieval"] = retrieval(dataset, precision, settings)
        write(chosen.out, {precision: part})
        print(precision, part["features"], part["retrieval"], flush=True)


if __name__ == "__main__":
    main()
