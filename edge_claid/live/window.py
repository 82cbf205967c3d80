"""A window with the annotated picture; opened at the first frame, and only where it was asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import cv2

from edge_claid.errors import MachineError
from edge_claid.live.answer import FrameAnswer, LiveEvent
from edge_claid.live.drawn import drawn

TITLE = "edge-claid"


def require_window() -> None:
    """Raises MachineError where no window can be opened here, with what to do about it."""
    if "gui" not in _gui_support():
        raise MachineError(
            "--show needs an OpenCV that has windows, and this one (opencv-python-headless) has none: "
            'pip uninstall opencv-python-headless, then pip install "edge-claid[display]"; or use --save out.mp4'
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise MachineError("--show needs a display, and DISPLAY is not set: use --save out.mp4 or --json instead")


class Window:
    """A sink that shows the newest answer; closing the window, q or Escape calls `stop`."""

    lossless = False

    def __init__(self, stop: Callable[[], None]) -> None:
        require_window()
        self._stop, self._shown = stop, False

    def frame(self, answer: FrameAnswer) -> None:
        if not self._shown:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL)
            self._shown = True
        cv2.imshow(TITLE, cv2.cvtColor(drawn(answer), cv2.COLOR_RGB2BGR))
        pressed = cv2.waitKey(1) & 0xFF
        if pressed in (ord("q"), 27) or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            self._stop()

    def event(self, event: LiveEvent) -> None:
        """Events are told on stderr."""

    def close(self) -> None:
        if self._shown:
            cv2.destroyWindow(TITLE)


def _gui_support() -> str:
    """ "gui" where this OpenCV was built with windows, else nothing."""
    lines = [line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
    return "gui" if lines and lines[0][1].strip() not in ("", "NONE") else ""
