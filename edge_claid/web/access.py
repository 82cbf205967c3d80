"""Who may talk to the server: a token, the names it answers to, and where a change may come from."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from edge_claid.errors import UsageError

COOKIE = "edge_claid_session"
SHORTEST_TOKEN = 12  # characters, beyond loopback
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Access:
    """token: what a client must show, or None for everybody on this machine. host: address the server is bound to."""

    host: str
    token: str | None = None

    @classmethod
    def for_host(cls, host: str, token: str | None) -> Access:
        """A token is made where one is needed and none given. Raises UsageError for one that is easily guessed."""
        if token is not None and not token.strip():
            raise UsageError("--token is empty; leave it out to have one made")
        if is_loopback(host):
            return cls(host, token)
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise UsageError(f"--token has {len(token)} characters; beyond loopback give at least {SHORTEST_TOKEN}")
        return cls(host, token or secrets.token_urlsafe(24))

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the token, as ``Authorization: Bearer`` or in the cookie of the log-in page."""
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip())
        return _equal(_cookie(headers.get("cookie", "")), self.session)

    def is_token(self, given: str) -> bool:
        return self.token is not None and _equal(given, self.token)

    @property
    def session(self) -> str:
        """What the cookie holds: proof of the token, not the token itself."""
        assert self.token is not None
        return hmac.new(self.token.encode(), b"edge-claid session", hashlib.sha256).hexdigest()

    def knows_host(self, host: str) -> bool:
        """Whether the Host header is a name of this server.

        Checked on loopback, where a foreign page could make its own name point here (DNS rebinding) and read answers.
        """
        if not is_loopback(self.host):
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in (*_LOOPBACK_NAMES, self.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server bound there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_own_origin(headers: Mapping[str, str]) -> bool:
    """Whether a change was asked for by our own page, or by a program that is no browser."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
    except ValueError:
        return False


def _cookie(header: str) -> str:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(header)
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())
