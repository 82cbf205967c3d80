"""Any GStreamer pipeline, CSI cameras among them, by the system's own GStreamer 1.x.

The libraries are called directly: pip's OpenCV is built without GStreamer, its Python binding is seldom in a virtual
environment, and a pipeline handed to ``gst-launch-1.0`` would show its passwords in the list of processes. Frames are
taken as BGRx, whose rows need no padding and which a Jetson's converter gives without the CPU.
"""

from __future__ import annotations

import ctypes
import re
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

import numpy as np

from edge_claid.capture.grabber import CaptureError

_SINK = "edge_claid_sink"
_TAIL = f" ! videoconvert ! video/x-raw,format=BGRx ! appsink name={_SINK} max-buffers=1 drop=true sync=false"
_TAIL_ELEMENTS = ("videoconvert", "appsink")
_NULL, _PAUSED, _PLAYING = 1, 3, 4  # GstState
_FAILURE, _NO_PREROLL = 0, 3  # GstStateChangeReturn; live sources give NO_PREROLL
_ERROR_MESSAGE = 1 << 1  # GstMessageType
_NO_SUCH_ELEMENT = 1  # GstParseError
_SECOND = 1_000_000_000
_INSTALL = "install GStreamer 1.x (apt install gstreamer1.0-plugins-base gstreamer1.0-plugins-good)"


class _Error(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


# name, result, arguments; the library is found by the order in ``_library``.
_FUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("gst_init_check", c_int, (c_void_p, c_void_p, c_void_p)),
    ("gst_element_factory_find", c_void_p, (c_char_p,)),
    ("gst_parse_launch", c_void_p, (c_char_p, POINTER(POINTER(_Error)))),
    ("gst_bin_get_by_name", c_void_p, (c_void_p, c_char_p)),
    ("gst_util_set_object_arg", None, (c_void_p, c_char_p, c_char_p)),
    ("gst_element_set_state", c_int, (c_void_p, c_int)),
    ("gst_element_get_state", c_int, (c_void_p, c_void_p, c_void_p, c_uint64)),
    ("gst_element_get_bus", c_void_p, (c_void_p,)),
    ("gst_bus_pop_filtered", c_void_p, (c_void_p, c_uint)),
    ("gst_message_parse_error", None, (c_void_p, POINTER(POINTER(_Error)), c_void_p)),
    ("gst_app_sink_try_pull_sample", c_void_p, (c_void_p, c_uint64)),
    ("gst_app_sink_is_eos", c_int, (c_void_p,)),
    ("gst_sample_get_caps", c_void_p, (c_void_p,)),
    ("gst_sample_get_buffer", c_void_p, (c_void_p,)),
    ("gst_caps_get_structure", c_void_p, (c_void_p, c_uint)),
    ("gst_structure_get_int", c_int, (c_void_p, c_char_p, POINTER(c_int))),
    ("gst_buffer_get_size", c_size_t, (c_void_p,)),
    ("gst_buffer_extract", c_size_t, (c_void_p, c_size_t, c_void_p, c_size_t)),
    ("gst_mini_object_unref", None, (c_void_p,)),
)


def has_element(name: str) -> bool:
    """Whether this machine's GStreamer knows an element; False where there is no GStreamer."""
    try:
        return bool(_library().gst_element_factory_find(name.encode()))
    except CaptureError:
        return False


class GStreamerGrabber:
    """Frames of a pipeline without its sink.

    settings: pipeline (in the notation of gst-launch), most_pixels (largest width * height), open_seconds.
    """

    def __init__(self, settings: dict[str, Any]):
        # An own sink at the end, as OpenCV wants it, is taken off.
        self._text = re.sub(r"!\s*appsink\b[^!]*$", "", settings["pipeline"]).strip()
        self._most_pixels: int = settings["most_pixels"]
        self._open_seconds: float = settings["open_seconds"]
        self._pipeline = self._sink = self._bus = None
        self._live = True

    def open(self) -> None:
        gst = _library()
        for name in _TAIL_ELEMENTS:
            if not gst.gst_element_factory_find(name.encode()):
                raise CaptureError(f"GStreamer has no element {name}: {_INSTALL}", "machine")
        error = POINTER(_Error)()
        self._pipeline = gst.gst_parse_launch((self._text + _TAIL).encode(), byref(error))
        if error or not self._pipeline:
            missing = bool(error) and error.contents.code == _NO_SUCH_ELEMENT
            reason = f"GStreamer: {_text(error)}" + (" (is its plug-in installed?)" if missing else "")
            raise CaptureError(reason, "machine" if missing else "usage")
        self._sink = gst.gst_bin_get_by_name(self._pipeline, _SINK.encode())
        self._bus = gst.gst_element_get_bus(self._pipeline)
        paused = gst.gst_element_set_state(self._pipeline, _PAUSED)
        if paused not in (_FAILURE, _NO_PREROLL):
            paused = gst.gst_element_get_state(self._pipeline, None, None, int(self._open_seconds * _SECOND))
        self._live = paused == _NO_PREROLL
        if not self._live:
            # A file in the pipeline plays at its own pace instead of rushing past.
            gst.gst_util_set_object_arg(self._sink, b"sync", b"true")
        if paused == _FAILURE or gst.gst_element_set_state(self._pipeline, _PLAYING) == _FAILURE:
            raise CaptureError(self._message() or "GStreamer: the pipeline does not start")

    def grab(self) -> _Sample | None:
        gst = _library()
        while True:
            sample = gst.gst_app_sink_try_pull_sample(self._sink, _SECOND // 5)
            if sample:
                return _Sample(sample)
            message = self._message()
            if message:
                raise CaptureError(message)
            if gst.gst_app_sink_is_eos(self._sink):
                if self._live:
                    raise CaptureError("the stream was closed by the other side")
                return None

    def rgb(self, picture: _Sample) -> np.ndarray:
        width, height = picture.size()
        if not 0 < width * height <= self._most_pixels:
            raise CaptureError(f"frames of {width}x{height} pixels are beyond what is read")
        content = picture.content()
        stride = len(content) // height
        if stride < 4 * width:
            raise CaptureError(f"GStreamer gave {len(content)} bytes for {width}x{height} pixels")
        rows = content[: stride * height].reshape(height, stride)[:, : 4 * width].reshape(height, width, 4)
        pixels = np.empty((height, width, 3), np.uint8)
        for channel in range(3):
            pixels[..., channel] = rows[..., 2 - channel]
        return pixels

    def close(self) -> None:
        if self._pipeline:
            _library().gst_element_set_state(self._pipeline, _NULL)

    def _message(self) -> str:
        """The pipeline's first complaint, or nothing."""
        gst = _library()
        message = gst.gst_bus_pop_filtered(self._bus, _ERROR_MESSAGE)
        if not message:
            return ""
        error = POINTER(_Error)()
        gst.gst_message_parse_error(message, byref(error), None)
        gst.gst_mini_object_unref(message)
        return f"GStreamer: {_text(error)}"


class _Sample:
    """One sample of the sink; its buffer is held until this is let go of."""

    def __init__(self, pointer: int):
        self._pointer = pointer

    def __del__(self) -> None:
        _library().gst_mini_object_unref(self._pointer)

    def size(self) -> tuple[int, int]:
        gst = _library()
        structure = gst.gst_caps_get_structure(gst.gst_sample_get_caps(self._pointer), 0)
        width, height = c_int(), c_int()
        gst.gst_structure_get_int(structure, b"width", byref(width))
        gst.gst_structure_get_int(structure, b"height", byref(height))
        return width.value, height.value

    def content(self) -> np.ndarray:
        gst = _library()
        buffer = gst.gst_sample_get_buffer(self._pointer)
        content = np.empty(gst.gst_buffer_get_size(buffer), np.uint8)
        taken = gst.gst_buffer_extract(buffer, 0, content.ctypes.data_as(c_void_p), len(content))
        return content[:taken]


def _text(error: Any) -> str:
    return error.contents.message.decode(errors="replace") if error else "unknown error"


class _Library:
    """The functions of GStreamer that are used here, typed."""

    def __init__(self) -> None:
        try:
            libraries = [ctypes.CDLL(f"lib{name}-1.0.so.0") for name in ("gstreamer", "gstapp")]
            for name, result, arguments in _FUNCTIONS:
                function = next(getattr(library, name) for library in libraries if hasattr(library, name))
                function.restype, function.argtypes = result, arguments
                setattr(self, name, function)
        except (OSError, StopIteration) as error:
            raise CaptureError(f"GStreamer is not on this machine: {_INSTALL}", "machine") from error
        if not self.gst_init_check(None, None, None):
            raise CaptureError("GStreamer cannot be initialised", "machine")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


@cache
def _library() -> _Library:
    return _Library()
