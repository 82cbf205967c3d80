"""Find this very thing again: instance search in a local gallery, on the device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime 1.29 and later keep a number of this machine and report models and runs to Microsoft unless this is set
# before they are imported. Nothing here talks to a cloud; who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edge_claid.api import Gallery as Gallery
    from edge_claid.pipeline import Pipeline as Pipeline

__version__ = "0.1.0"
__all__ = ["Gallery", "Pipeline", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the two big names when they are first asked for, so that importing the package costs nothing."""
    if name == "Pipeline":
        from edge_claid.pipeline import Pipeline

        return Pipeline
    if name == "Gallery":
        from edge_claid.api import Gallery

        return Gallery
    raise AttributeError(f"module 'edge_claid' has no attribute {name!r}")
