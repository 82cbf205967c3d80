"""A fine-tuned network as ONNX, compared with what was trained before it is kept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime
import torch

from edge_claid.errors import AccuracyError
from edge_claid.learn.network import EfficientNetLite
from edge_claid.models.efficientnet import efficientnet_lite_onnx

# Between any two cells: 1e-4 of the range of the maps, which ReLU6 ends at 6. Two implementations of EfficientNet-Lite0
# round apart by up to a fifth of it on pictures of 896 pixels; wrong padding or folding differs by whole units.
LARGEST_DIFFERENCE = 6e-4


@torch.no_grad()
def exported(network: EfficientNetLite, images: Iterable[np.ndarray]) -> onnx.ModelProto:
    """The network's ONNX, with the outputs ``map``, ``inner16`` and ``inner8``.

    images: (3, H, W) float32 each, inputs that the two are compared on, in float32 on the CPU, where the network stays.
    Raises AccuracyError where a map differs by more than LARGEST_DIFFERENCE.
    """
    network = network.cpu()
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    model = efficientnet_lite_onnx(state, width=network.width, depth=network.depth)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for image in images:
        expected = network(torch.from_numpy(image[None]))
        found = session.run(None, {"image": image[None]})
        for name, got, wanted in zip(names, found, expected, strict=True):
            difference = float(np.abs(got - wanted.numpy()).max())
            if not difference <= LARGEST_DIFFERENCE:
                raise AccuracyError(
                    f"the exported network's {name} differs from the trained one's by {difference:.2g}, more than "
                    f"{LARGEST_DIFFERENCE}: its weights may have grown too large. Nothing was changed"
                )
    return model
