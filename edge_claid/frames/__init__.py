"""Pictures from wherever they are: one source grammar, one bounded decoder."""

from edge_claid.frames.reading import ReadLimits, read_picture
from edge_claid.frames.source import open_source, open_stream
from edge_claid.frames.stream import Stream

__all__ = ["ReadLimits", "Stream", "open_source", "open_stream", "read_picture"]
