"""Least and largest value of each number that a settings file gives; beyond them a stage means nothing."""

from __future__ import annotations

from math import inf

_COUNT = (1, 1_000_000)
_COUNT_OR_NONE = (0, 1_000_000)
_SHARE = (0.0, 1.0)
_COSINE = (-1.0, 1.0)

RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "networks": {
        "vit_side": (28, 2048),
        "descriptor_side": (32, 8192),
        "descriptor_growth": (0.0, 100.0),
    },
    "regions": {
        "alpha": _COSINE,
        "tau1": _COSINE,
        "tau2": (-inf, 1.0),
        "energy_share": _SHARE,
        "smallest": _COUNT,
        "merge_iou": _SHARE,
    },
    "descriptors": {
        "power": (0.01, inf),
        "margin": (0.0, 0.49),
        "smallest_side": (0.0, 1000.0),
        "share_16": (0.0, 1000.0),
        "share_8": (0.0, 1000.0),
    },
    "codes": {
        "bytes": (1, 256),
        "width": (1, 65_536),
        "whitening": _SHARE,
        "views": _COUNT_OR_NONE,
        "views_each": _COUNT,
    },
    "search": {"shortlist": _COUNT, "temperature": (1e-6, 1000.0)},
    "live": {
        "looks": _COUNT,
        "agreement": _SHARE,
        "window": _COUNT,
        "match": _SHARE,
        "expected_odds": (1e-6, 1e6),
        "temperature": (1e-6, 1000.0),
        "least_share": _SHARE,
        "nearest": _COUNT,
        "coast_looks": _COUNT_OR_NONE,
        "forget_seconds": (0.0, 1e6),
        "least_overlap": _SHARE,
        "most_unknown": _COUNT_OR_NONE,
        "workers": (0, 1024),
        "gallery_seconds": (0.0, 1e6),
    },
}
