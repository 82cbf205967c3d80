"""What a picture's regions are held to be: how well they fit the gallery's items, and how far each fit stands out.

A cosine alone says little in a stream. Leaves, a road or a plain wall fit much of any gallery well, a small printed
thing fits its own picture badly and everything else worse. So a region's score for an item is compared with its scores
for the pictures it resembles most beside the item's own, its cohort: the standing is the distance from their mean in
their standard deviations (adaptive T-normalisation: Sturim and Reynolds, Speaker Adaptive Cohort Selection for Tnorm,
ICASSP 2005). A standing means the same for every item and region, so one curve serves for all.

A labelled picture shows more than the thing its label tells. What surrounds the thing is in one of its pictures only:
an item's score is the mean over the third of its pictures that fit best.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edge_claid.gallery.lookup.region_lookup import Matches, Nearest, looking
from edge_claid.gallery.lookup.search import GallerySearch

AGREEING = 1 / 3  # share of an item's pictures that must fit: about what shows a thing from one side
MOST_PICTURES = 16  # pictures of one item that are compared
MOST_ITEMS = 12  # items that are compared closely in one picture, those whose best picture fits best
COHORT, SKIPPED, SPARE = 100, 5, 20  # pictures of a cohort; the best left out, which may show the item unlabelled; more
# What is added to a cohort as so many pictures of this score and spread: galleries of a few pictures have no tail.
PRIOR_PICTURES, PRIOR_SCORE, PRIOR_SPREAD = 4, 0.15, 0.05
LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class Items:
    """Items that can be named. key_of: the item of each image id; images without one can only be in a cohort."""

    key_of: Mapping[int, str]

    @classmethod
    def of(cls, labels: Mapping[int, str | None]) -> Items:
        """All images of one label are one item. Without any label each image is one; else those without are none."""
        if any(labels.values()):
            return cls({image: label for image, label in labels.items() if label})
        return cls({image: f"image {image}" for image in labels})

    @cached_property
    def images_of(self) -> dict[str, list[int]]:
        """Ids of all images of each item."""
        grouped: dict[str, list[int]] = {}
        for image, key in self.key_of.items():
            grouped.setdefault(key, []).append(image)
        return grouped

    def compared(self, keys: Iterable[str]) -> list[int]:
        """Ids of the images of these items that are compared: spread evenly where there are many."""
        found = []
        for key in keys:
            own = self.images_of.get(key, [])
            places = np.unique(np.linspace(0, len(own) - 1, min(len(own), MOST_PICTURES)).round().astype(int))
            found += [own[place] for place in places]
        return found


@dataclass(frozen=True)
class ItemScores:
    """Fit of Q regions to I items. scores, standings: (Q, I) float64. images: (Q, I) int64, id of the best picture."""

    items: list[str]
    scores: np.ndarray
    standings: np.ndarray
    images: np.ndarray


def item_scores(
    search: GallerySearch, queries: np.ndarray, items: Items, k: int, also: Collection[str] = ()
) -> ItemScores | None:
    """How well regions (Q, D) of one picture fit the items they resemble; None where there is none.

    k: nearest images of items that are taken for each region. also: items that are compared in any case.
    """
    with looking(search, queries) as looked:
        if looked is None:
            return None
        cohort = looked.nearest(COHORT + SKIPPED + SPARE)
        near = looked.matches(k, None if len(items.key_of) >= len(search) else items.key_of)
        matches = looked.scores_of(items.compared(_likeliest(near, items, also)))
    known = np.array([int(image) in items.key_of for image in matches.image_ids], bool)
    images, scores = matches.image_ids[known], matches.scores[:, known]
    if not len(images):
        return None
    owner = np.array([items.key_of[int(image)] for image in images])
    keys = sorted(set(owner.tolist()))
    agreed, best = np.empty((len(queries), len(keys))), np.empty((len(queries), len(keys)), np.int64)
    standings = np.empty_like(agreed)
    for column, key in enumerate(keys):
        own = np.flatnonzero(owner == key)
        agreed[:, column] = _agreed(scores[:, own])
        best[:, column] = images[own[scores[:, own].argmax(axis=1)]]
        standings[:, column] = standing(agreed[:, column], cohort, items.images_of[key])
    return ItemScores(keys, agreed, standings, best)


def standing(scores: np.ndarray, cohort: Nearest, own: Collection[int]) -> np.ndarray:
    """How far scores (Q,) stand out from what their regions score elsewhere, (Q,) float64 standard deviations.

    cohort: the images nearest to each region. own: ids of images that show what is scored, left out.
    """
    others = ~np.isin(cohort.image_ids, np.fromiter(own, np.int64))
    rank = np.cumsum(others, axis=1) - 1
    # A cohort of a few pictures cannot spare so many.
    skipped = np.minimum(SKIPPED, others.sum(axis=1, keepdims=True) // 3)
    counted = others & (rank >= skipped) & (rank < skipped + COHORT)
    count = counted.sum(axis=1) + PRIOR_PICTURES
    mean = (np.where(counted, cohort.scores, 0.0).sum(axis=1) + PRIOR_PICTURES * PRIOR_SCORE) / count
    squares = np.where(counted, (cohort.scores - mean[:, None]) ** 2, 0.0).sum(axis=1)
    spread = np.sqrt((squares + PRIOR_PICTURES * PRIOR_SPREAD**2) / count)
    return (scores - mean) / np.maximum(spread, LEAST_SPREAD)


def _likeliest(near: Matches, items: Items, also: Collection[str]) -> list[str]:
    """The items whose best picture fits any region best, and those that are asked for."""
    best: dict[str, float] = {}
    for image, score in zip(near.image_ids, near.scores.max(axis=0, initial=-np.inf), strict=True):
        key = items.key_of.get(int(image))
        if key is not None:
            best[key] = max(best.get(key, -math.inf), float(score))
    leading = sorted(best, key=lambda key: -best[key])[:MOST_ITEMS]
    return list(dict.fromkeys([*leading, *also]))


def _agreed(scores: np.ndarray) -> np.ndarray:
    """Mean score over the third of an item's pictures that fit best: (Q, n) to (Q,)."""
    count = math.ceil(scores.shape[1] * AGREEING)
    return np.sort(scores, axis=1)[:, -count:].mean(axis=1)
