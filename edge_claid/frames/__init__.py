"""Pictures from wherever they are: one source grammar, one bounded decoder."""

from edge_claid.frames.reading import ReadLimits, read_picture
from edge_claid.frames.source import open_source

__all__ = ["ReadLimits", "open_source", "read_picture"]
