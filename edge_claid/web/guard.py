"""What stands before every route: host, token and origin are checked, and every answer gets its security headers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response

from edge_claid.web.access import Access, is_own_origin

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = ("/login", "/static/style.css", "/static/icon.svg")  # what may be seen without a token
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": browsers then send the log-in form with "Origin: null", as a foreign page's would be.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """An ASGI application around another one. answered: told the status of every answer."""

    def __init__(self, app: Any, access: Access, answered: Callable[[int], None]) -> None:
        self._app, self._access, self._answered = app, access, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                self._answered(message["status"])
            await send(message)

        answer = self._refusal(scope) or self._app
        try:
            await answer(scope, receive, with_headers)
        except Exception as error:
            # It was answered already; one line in the log, with its traceback where all is to be told.
            log.error("unexpected %s: %s (run with --debug to see where)", type(error).__name__, error)
            log.debug("%s %s", scope["method"], scope["path"], exc_info=True)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        if not self._access.knows_host(headers.get("host", "")):
            return problem(421, "this server answers to localhost and 127.0.0.1 only; open it by one of these names")
        if scope["method"] not in ("GET", "HEAD") and not is_own_origin(headers):
            return problem(403, "another site asked for this change; it was not made")
        if path in OPEN or self._access.admits(headers):
            return None
        if path == "/" and scope["method"] == "GET":
            return RedirectResponse("/login", 303)
        refused = problem(401, "a token is needed: log in at /login, or send Authorization: Bearer TOKEN")
        refused.headers["WWW-Authenticate"] = "Bearer"
        return refused


def problem(status: int, message: str) -> JSONResponse:
    """An error as the page and programs read it."""
    return JSONResponse({"error": message}, status)
