"""The devices that CUDA kernels are tested on: the model in three thread orders, and a real one under ``-m gpu``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def model_devices(orders: Sequence[str] = ("ascending", "descending", "shuffled")) -> list[Any]:
    """Parameters of the fixture `device`."""
    return [*orders, pytest.param("gpu", marks=pytest.mark.gpu)]
