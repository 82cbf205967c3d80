"""The socket the server listens on."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from edge_claid.errors import UsageError

BACKLOG = 128
STALLED_SECONDS = 30  # a client that takes no byte for so long is dropped


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that may listen there, closed at the end. Raises UsageError: a port in use, an address that is not ours.

    It does not listen yet: until the server is ready, clients are refused and do not wait.
    """
    with contextlib.closing(_bound(host, port)) as listener:
        yield listener


def listen(listener: socket.socket) -> None:
    """From now on clients may come. Raises UsageError where another program took the port meanwhile."""
    host, port = listener.getsockname()[:2]
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise _refused(host, port, error) from error


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"--host {host}: no address of that name ({error.strerror})") from error
    listener = socket.socket(family, kind, protocol)
    if os.name != "nt":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Connections inherit it: the system ends one whose other side has stopped reading, and frees what it holds.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def _refused(host: str, port: int, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"port {port} is in use by another program: choose one with --port, or --port 0 for any free")
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} may not be used by this user: choose one above 1023 with --port")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"--host {host} is no address of this machine")
    return UsageError(f"--host {host} --port {port} cannot be listened on ({error.strerror})")
