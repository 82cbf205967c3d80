"""UDQ: a head and a code book that improve each other, without labels.

Source: Jiang et al., Unsupervised deep quantization for object instance search, Neurocomputing 362, 2019
(papers/udq.txt), Algorithm 1. Here the head learns from stored descriptors, in place of the whole network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from edge_claid.codes.codebook import CODEWORDS
from edge_claid.codes.opq import train_opq
from edge_claid.codes.projection import Projection, normalised
from edge_claid.codes.space import CodeSpace
from edge_claid.errors import UsageError
from edge_claid.learn.heads import ProjectionHead
from edge_claid.learn.losses.quantisation import quantisation_loss
from edge_claid.learn.refine import refinement_named
from edge_claid.learn.supervision import SubspaceClassifiers, Supervision

MOMENTUM = 0.9
REPORT_EVERY = 50  # steps
# A third of what a code book for keeps gets: pseudo labels are drawn again in the next module.
SUPERVISION_ROTATIONS, SUPERVISION_ROUNDS = 8, 3


@dataclass(frozen=True)
class UdqSettings:
    """How UDQ learns.

    bytes: M, subspaces of 256 codewords. refine: none, bfr, pbr or cbr (§3.4). iterations: of the second module (§4.3.1
    finds two enough; the first module runs once before them). balance: λ of eq. 7 (§4.3.2). learning_rate: of
    stochastic gradient descent with momentum; §4.2 has 0.001 for a whole network, a single layer takes more.
    steps: in each module, batch: regions a step; the paper does not say. A number of steps, not of passes, so that the
    head goes equally far from its start whatever the gallery's size.
    """

    bytes: int
    refine: str = "none"
    iterations: int = 2
    balance: float = 0.01
    learning_rate: float = 1e-2
    steps: int = 50
    batch: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """How far learning is: steps done of all, the module's two losses since the last report, and the quantisation loss.

    The latter is of the head's features in the module's code book.
    """

    done: int
    steps: int
    separability: float
    discriminability: float
    quantisation: float


def learn_udq(
    descriptors: np.ndarray,
    projection: Projection,
    settings: UdqSettings,
    report: Callable[[Progress], None] = lambda progress: None,
) -> CodeSpace:
    """Learn a head over a projection, and the code book of its features (Algorithm 1).

    descriptors: (N, D) float, unit norm, N >= 256. projection: the whitening that the head starts from; it stands for
    the PCA of §4.2. report: told every REPORT_EVERY steps. The same input and seed give the same space on one machine.
    Returns the code space, its projection with the head folded in. Raises UsageError for settings or descriptors that
    cannot work, before anything is learned.
    """
    check_settings(settings, projection.width)
    if len(descriptors) < CODEWORDS:
        raise UsageError(f"UDQ needs at least {CODEWORDS} regions to learn from, there are {len(descriptors)}")
    values = projection.project(descriptors)
    if not np.isfinite(values).all():
        raise UsageError("descriptors hold NaN or infinite values; enrol the pictures again")
    generator = torch.Generator().manual_seed(settings.seed)
    head = ProjectionHead(projection.width)
    refine = refinement_named(settings.refine)
    modules = settings.iterations + 1
    for module in range(modules):  # the first is the initialisation, lines 2 and 3
        refined = normalised(refine(head.features(values), settings.seed)).astype(np.float32)
        supervision = supervised(refined, settings)
        for done, separability, discriminability in optimised(head, values, supervision, settings, generator):
            error = quantisation_loss(head.features(values), supervision.book)
            steps = module * settings.steps + done, modules * settings.steps
            report(Progress(*steps, separability, discriminability, error))
    folded = head.folded_into(projection)
    return CodeSpace(folded, train_opq(folded.project(descriptors), settings.bytes, seed=settings.seed))


def check_settings(settings: UdqSettings, width: int) -> None:
    """Raises UsageError for settings that cannot work with descriptors projected to `width` dimensions."""
    refinement_named(settings.refine)
    if settings.bytes < 1 or width % settings.bytes:
        raise UsageError(f"codes of {settings.bytes} bytes do not divide {width} dimensions: take 4, 8, 16 or 32")
    if settings.iterations < 0 or settings.steps < 1 or settings.batch < 1:
        raise UsageError("UDQ needs iterations >= 0, steps >= 1 and a batch of at least one region")
    if not (settings.learning_rate > 0 and settings.balance >= 0):
        raise UsageError("UDQ needs a learning rate above 0 and a balance of at least 0")


def supervised(refined: np.ndarray, settings: UdqSettings) -> Supervision:
    """Self-supervision: the code book that loses least of the features, and their codes in it (§3.2, eq. 6)."""
    book = train_opq(refined, settings.bytes, SUPERVISION_ROTATIONS, settings.seed, SUPERVISION_ROUNDS)
    return Supervision(book, torch.from_numpy(book.encode(refined).astype(np.int64)))


def optimised(
    head: ProjectionHead,
    values: np.ndarray,
    supervision: Supervision,
    settings: UdqSettings,
    generator: torch.Generator,
) -> Iterator[tuple[int, float, float]]:
    """Train the head on one module's supervision; now and then the steps done and the two mean losses."""
    inputs, classifiers = torch.from_numpy(values), SubspaceClassifiers(supervision)
    learning = [*head.parameters(), *classifiers.parameters]
    optimiser = torch.optim.SGD(learning, lr=settings.learning_rate, momentum=MOMENTUM)
    sums, since = np.zeros(2), 0
    for step, chosen in enumerate(drawn(len(inputs), settings, generator), 1):
        separability, discriminability = classifiers.losses(head(inputs[chosen]), chosen)
        optimiser.zero_grad()
        (separability + settings.balance * discriminability).backward()  # eq. 7
        optimiser.step()
        sums += np.array([separability.item(), discriminability.item()])
        since += 1
        if since == REPORT_EVERY or step == settings.steps:
            yield step, float(sums[0] / since), float(sums[1] / since)
            sums, since = np.zeros(2), 0


def drawn(count: int, settings: UdqSettings, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """The rows of each step: every row once before any comes again."""
    step = 0
    while True:
        for chosen in torch.randperm(count, generator=generator).split(settings.batch):
            if step == settings.steps:
                return
            step += 1
            yield chosen
