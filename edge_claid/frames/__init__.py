"""Pictures from wherever they are: one source grammar, one bounded decoder."""

from edge_claid.frames.address import without_credentials
from edge_claid.frames.file_bytes import ReadLimits
from edge_claid.frames.live_stream import Patience
from edge_claid.frames.reading import read_picture
from edge_claid.frames.source import open_source, open_stream
from edge_claid.frames.stream import Stream

__all__ = ["Patience", "ReadLimits", "Stream", "open_source", "open_stream", "read_picture", "without_credentials"]
