"""A network camera with a made-up picture: GStreamer's own RTSP server, for tests and for trying things out.

    python3 tools/rtsp_server.py [--port 8554] [--user U --password P] [--pipeline TEXT]

Serves rtsp://127.0.0.1:PORT/cam until it is killed; prints the port. It wants the system's Python, which has
GStreamer's bindings (Debian: python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,bad,ugly});
``RtspServer`` starts it there from any other.
"""

from __future__ import annotations

import argparse
import os
import select
import subprocess
from typing import Any

SYSTEM_PYTHON = "/usr/bin/python3"
ENCODED = " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 config-interval=1"
PICTURE = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=25/1"


class RtspServer:
    """The server as a child process that can be killed and started again on the same port."""

    def __init__(self, *options: str, login: str = ""):
        self._options = options
        self._login = f"{login}@" if login else ""
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://{self._login}127.0.0.1:{self.port}/cam"

    def start(self, timeout: float = 30.0) -> RtspServer:
        """Start it and wait until it listens."""
        command = [SYSTEM_PYTHON, os.path.abspath(__file__), "--port", str(self.port), *self._options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            self.kill()
            raise RuntimeError(f"the RTSP server did not start within {timeout:g} s")
        line = self.process.stdout.readline()
        if not line:
            self.kill()
            raise RuntimeError("the RTSP server ended at its start")
        self.port = int(line)
        return self

    def kill(self) -> None:
        """SIGKILL, as a cut cable or a power failure: no farewell to its clients."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


def missing() -> str | None:
    """Why the server cannot run on this machine, or None."""
    probe = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0');"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        "assert all(Gst.ElementFactory.find(e) for e in ('x264enc', 'rtph264pay', 'videotestsrc'))"
    )
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", probe], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "no GStreamer RTSP server: python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly are missing"
    return None


def serve(arguments: argparse.Namespace) -> None:
    """Run the server in this process."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(str(arguments.port))
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(f"( {arguments.pipeline} )")
    factory.set_shared(True)
    if arguments.udp:
        gi.require_version("GstRtsp", "1.0")
        from gi.repository import GstRtsp

        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    server.get_mount_points().add_factory("/cam", factory)
    if arguments.user is not None:
        _require_login(GstRtspServer, server, factory, arguments.user, arguments.password)
    if not server.attach(None):
        raise SystemExit(f"port {arguments.port} is in use")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


def _require_login(rtsp: Any, server: Any, factory: Any, user: str, password: str) -> None:
    token = rtsp.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    permissions = rtsp.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)
    authentication = rtsp.RTSPAuth()
    authentication.add_basic(rtsp.RTSPAuth.make_basic(user, password), token)
    server.set_auth(authentication)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", default=8554, type=int)
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--udp", action="store_true", help="know no other transport than UDP")
    parser.add_argument("--pipeline", default=PICTURE + ENCODED)
    serve(parser.parse_args())
