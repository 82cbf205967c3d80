"""Learning from a gallery's own pictures, without labels. Needs torch; nothing at run time imports this package."""

from __future__ import annotations

from edge_claid.errors import MachineError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MachineError("learning needs torch, which is not installed: pip install 'edge-claid[learn]'") from error
