"""UDQ through the whole descriptor network: its convolutions learn along with the head (Algorithm 1, §4.2).

Source: papers/udq.txt. Nothing here asks what it runs on; edge_claid/learn/machine.py says what users may run it on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from edge_claid.codes.codebook import CODEWORDS
from edge_claid.codes.projection import Projection, normalised
from edge_claid.config import DescriptorSettings
from edge_claid.errors import BuildError, UsageError
from edge_claid.learn.heads import ProjectionHead
from edge_claid.learn.losses.quantisation import quantisation_loss
from edge_claid.learn.network import EfficientNetLite
from edge_claid.learn.pooling import pooled_descriptors
from edge_claid.learn.refine import refinement_named
from edge_claid.learn.supervision import SubspaceClassifiers, Supervision
from edge_claid.learn.udq import MOMENTUM, Progress, UdqSettings, check_settings, drawn, supervised

REPORT_EVERY = 10  # steps
_READERS, _AHEAD = 4, 2  # threads that read pictures, and batches they are ahead


@dataclass(frozen=True)
class TrainingPicture:
    """image: (3, h, w) float32, the network's input. boxes: (R, 4) float32, pixels of the original.

    size: width and height of the original.
    """

    image: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int]


class TrainingPictures(Protocol):
    """Pictures to learn from; regions: how many each has."""

    @property
    def regions(self) -> Sequence[int]: ...

    def __getitem__(self, index: int) -> TrainingPicture: ...


class RegionFeatures(nn.Module):
    """Pictures to features of their regions: network, pooling, whitening (fixed), head."""

    def __init__(self, network: EfficientNetLite, pooling: DescriptorSettings) -> None:
        super().__init__()
        self.network, self.pooling = network, pooling

    def start_from(self, projection: Projection) -> None:
        """The whitening, and a head over it that changes nothing yet."""
        device = next(self.parameters()).device
        self.register_buffer("mean", torch.from_numpy(projection.mean).to(device))
        self.register_buffer("matrix", torch.from_numpy(projection.matrix).to(device))
        self.head = ProjectionHead(projection.width).to(device)

    def descriptors(self, pictures: Sequence[TrainingPicture]) -> torch.Tensor:
        """(R, D) descriptors of all regions, in order. Pictures of one size pass the network together."""
        device = next(self.parameters()).device
        alike: dict[tuple[int, ...], list[int]] = {}
        for index, picture in enumerate(pictures):
            alike.setdefault(picture.image.shape, []).append(index)
        found: dict[int, torch.Tensor] = {}
        for indices in alike.values():
            maps = self.network(torch.from_numpy(np.stack([pictures[i].image for i in indices])).to(device))
            for row, i in enumerate(indices):
                own = [values[row] for values in maps]
                found[i] = pooled_descriptors(own, pictures[i].boxes, pictures[i].size, self.pooling)
        return torch.cat([found[index] for index in range(len(pictures))])

    def forward(self, pictures: Sequence[TrainingPicture]) -> torch.Tensor:
        """(R, d) features of unit norm."""
        return self.head((self.descriptors(pictures) - self.mean) @ self.matrix)


def finetuned(
    pictures: TrainingPictures,
    model: RegionFeatures,
    whitening: Callable[[np.ndarray], Projection],
    settings: UdqSettings,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Projection:
    """Train a network and a head over it (Algorithm 1); the network learns in place.

    model: on the device that it is to learn on. whitening: descriptors (N, D) float32 to the projection that the head
    starts from. settings: its batch is one of pictures. Returns the projection with the head folded in, for the
    network's new descriptors. Raises UsageError for settings or pictures that cannot work, BadImageError for one that
    cannot be read, BuildError where the losses do not stay finite.
    """
    counts = list(pictures.regions)
    if sum(counts) < CODEWORDS:
        raise UsageError(f"UDQ needs at least {CODEWORDS} regions to learn from, there are {sum(counts)}")
    projection = whitening(described(pictures, model, settings))
    check_settings(settings, projection.width)
    model.start_from(projection)
    refine = refinement_named(settings.refine)
    generator = torch.Generator().manual_seed(settings.seed)
    modules = settings.iterations + 1
    for module in range(modules):  # the first is the initialisation, lines 2 and 3
        values = projection.project(described(pictures, model, settings))
        refined = normalised(refine(model.head.features(values), settings.seed)).astype(np.float32)
        supervision = supervised(refined, settings)
        for done, *losses in optimised(pictures, model, supervision, settings, generator):
            report(Progress(module * settings.steps + done, modules * settings.steps, *losses))
    return model.head.folded_into(projection)


@torch.no_grad()
def described(pictures: TrainingPictures, model: RegionFeatures, settings: UdqSettings) -> np.ndarray:
    """(N, D) float32 descriptors of all regions of all pictures, as the network is now."""
    order = torch.arange(len(pictures.regions)).split(settings.batch)
    return np.concatenate([model.descriptors(batch).cpu().numpy() for _, batch in loaded(pictures, order)])


def optimised(
    pictures: TrainingPictures,
    model: RegionFeatures,
    supervision: Supervision,
    settings: UdqSettings,
    generator: torch.Generator,
) -> Iterator[tuple[int, float, float, float]]:
    """Train on one module's supervision; now and then the steps done and means of the steps since.

    The means are of separability, discriminability, and the quantisation loss of the batch's features.
    """
    device = next(model.parameters()).device
    classifiers = SubspaceClassifiers(supervision, device)
    learning = [one for one in model.parameters() if one.requires_grad] + classifiers.parameters
    optimiser = torch.optim.SGD(learning, lr=settings.learning_rate, momentum=MOMENTUM)
    ends = np.cumsum(pictures.regions)
    since: list[tuple[float, float, float]] = []
    batches = drawn(len(pictures.regions), settings, generator)
    for step, (chosen, batch) in enumerate(loaded(pictures, batches), 1):
        rows = [torch.arange(int(ends[i]) - pictures.regions[i], int(ends[i])) for i in chosen.tolist()]
        features = model(batch)
        separability, discriminability = classifiers.losses(features, torch.cat(rows).to(device))
        loss = separability + settings.balance * discriminability  # eq. 7
        if not math.isfinite(loss.item()):
            raise BuildError(f"fine-tuning went astray at step {step}: its loss is not finite. Nothing was changed")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        error = quantisation_loss(features.detach().cpu().numpy(), supervision.book)
        since.append((separability.item(), discriminability.item(), error))
        if len(since) == REPORT_EVERY or step == settings.steps:
            means = np.mean(since, axis=0).tolist()
            yield step, means[0], means[1], means[2]
            since = []


def loaded(
    pictures: TrainingPictures, batches: Iterable[torch.Tensor]
) -> Iterator[tuple[torch.Tensor, list[TrainingPicture]]]:
    """Batches of indices with their pictures, read a little ahead of use."""
    waiting: deque[tuple[torch.Tensor, list[Future[TrainingPicture]]]] = deque()
    with ThreadPoolExecutor(_READERS, "pictures") as readers:
        try:
            for chosen in batches:
                waiting.append((chosen, [readers.submit(pictures.__getitem__, i) for i in chosen.tolist()]))
                if len(waiting) > _AHEAD:
                    yield _read(*waiting.popleft())
            while waiting:
                yield _read(*waiting.popleft())
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def _read(chosen: torch.Tensor, futures: list[Future[TrainingPicture]]) -> tuple[torch.Tensor, list[TrainingPicture]]:
    return chosen, [future.result() for future in futures]
