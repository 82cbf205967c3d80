"""Live look-up: a stream of frames against a gallery, frame after frame."""

from edge_claid.live.answer import FrameAnswer, LiveEvent, TrackAnswer
from edge_claid.live.find import Finder, Target
from edge_claid.live.holdings import WatchedGallery
from edge_claid.live.look import PipelineLooker
from edge_claid.live.lookup import Lookup
from edge_claid.live.recognise import Recogniser
from edge_claid.live.sinks import Sink
from edge_claid.live.threshold import Threshold

__all__ = [
    "Finder",
    "FrameAnswer",
    "LiveEvent",
    "Lookup",
    "PipelineLooker",
    "Recogniser",
    "Sink",
    "Target",
    "Threshold",
    "TrackAnswer",
    "WatchedGallery",
]
