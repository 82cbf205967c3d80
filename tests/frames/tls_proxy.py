"""TLS before a server that speaks none, with a certificate that nobody knows: what cameras have."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path


class TlsProxy:
    """Passes bytes between TLS clients and a port of this machine until closed."""

    def __init__(self, target: int, folder: Path):
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                threading.Thread(target=self._pass, args=(plain,), daemon=True).start()

    def _pass(self, plain: socket.socket) -> None:
        # One thread serves both ways, since a TLS connection of Python bears but one at a time.
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            client.settimeout(0.01)
            server.settimeout(0.01)
            while _moved(client, server) and _moved(server, client):
                pass


def _moved(source: socket.socket, target: socket.socket) -> bool:
    try:
        content = source.recv(1 << 16)
    except TimeoutError:
        return True
    target.settimeout(10.0)
    target.sendall(content)
    target.settimeout(0.01)
    return bool(content)
