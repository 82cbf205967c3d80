"""The made-up V4L2 camera of fake_v4l2.c, plugged in and out."""

from __future__ import annotations

from pathlib import Path


class FakeCamera:
    """uri: to open it by. devices: the folder that stands for /dev. state: file through which it is told to behave."""

    def __init__(self, devices: Path, state: Path):
        self.devices, self._state = devices, state
        self.node = devices / "video3"
        self.uri = f"v4l2://{self.node}"
        self.behave("o")
        self.plug()

    def plug(self) -> None:
        self.node.touch()

    def unplug(self) -> None:
        self.node.unlink()

    def behave(self, letter: str) -> None:
        """o: it works; b: another program has it; h: it gives no frame and lets no call return."""
        self._state.write_text(letter)
