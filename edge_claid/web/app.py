"""The server's routes: each reads its request, hands the work to a thread, and answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.exceptions import HTTPException

from edge_claid import __version__
from edge_claid.errors import BadImageError, EdgeClaidError, GalleryError, StorageError, UsageError
from edge_claid.web.access import COOKIE, Access
from edge_claid.web.guard import Guard, problem
from edge_claid.web.jobs import BusyError, Jobs
from edge_claid.web.live_view import LiveView
from edge_claid.web.metrics import WebMetrics
from edge_claid.web.seeking import Seeking
from edge_claid.web.service import GalleryService, NotThereError, checked_label
from edge_claid.web.session import LiveSession
from edge_claid.web.uploads import TooLargeError, body_of, box_of, frame_of

STATIC = Path(__file__).parent / "static"
MOST_WATCHERS = 200
SCRIPTS = ("app.js", "page.js", "stage.js", "answers.js", "cards.js", "gallery.js", "live.js")
PAGES = {"style.css": "text/css", "icon.svg": "image/svg+xml", **dict.fromkeys(SCRIPTS, "text/javascript")}
LARGEST_ID = 2**63 - 1  # SQLite's
ImageId = Annotated[int, InPath(ge=0, le=LARGEST_ID)]
GUESS_SECONDS = 1.0  # a wrong token waits so long

STATUS_OF: list[tuple[type[Exception], int]] = [
    (NotThereError, 404),
    (TooLargeError, 413),
    (BadImageError, 400),
    (UsageError, 400),
    (GalleryError, 409),
    (StorageError, 507),
    (EdgeClaidError, 500),
]


class Server:
    """What the routes share. notice: what is wrong with the gallery at the moment, for people; "" where nothing is."""

    def __init__(
        self, service: GalleryService, view: LiveView, session: LiveSession | None, access: Access, seeking: Seeking
    ) -> None:
        self.service, self.view, self.session, self.access, self.seeking = service, view, session, access, seeking
        self.metrics = WebMetrics()
        self.describing = Jobs("describe", workers=2, most=8)
        self.reading = Jobs("read", workers=4, most=64)
        self.notice = ""

    def close(self) -> None:
        self.describing.close()
        self.reading.close()


def create_app(server: Server) -> Any:
    """The ASGI application."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.view.attach()
        yield

    app = FastAPI(
        title="edge-claid", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    _add_pages(app)
    _add_login(app, server)
    _add_state(app, server)
    _add_live_picture(app, server)
    _add_seeking(app, server)
    _add_gallery(app, server)
    _add_problems(app)
    return Guard(app, server.access, server.metrics.answered)


def _add_pages(app: FastAPI) -> None:
    @app.get("/")
    def page() -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in PAGES:
            raise HTTPException(404)
        return FileResponse(STATIC / name, media_type=PAGES[name], headers={"Cache-Control": "no-cache"})


def _add_login(app: FastAPI, server: Server) -> None:
    @app.get("/login")
    def login_page() -> Response:
        return RedirectResponse("/", 303) if server.access.token is None else FileResponse(STATIC / "login.html")

    @app.post("/login")
    async def login(request: Request) -> Response:
        if server.access.token is None:
            return RedirectResponse("/", 303)
        given = parse_qs((await body_of(request, 4096)).decode("utf-8", "replace")).get("token", [""])[0]
        if not server.access.is_token(given.strip()):
            await asyncio.sleep(GUESS_SECONDS)
            again = (STATIC / "login.html").read_text(encoding="utf-8").replace('role="alert" hidden', 'role="alert"')
            return HTMLResponse(again, 401)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, server.access.session, 30 * 86400, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.post("/logout")
    def logout() -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


def _add_state(app: FastAPI, server: Server) -> None:
    @app.get("/metrics")
    def metrics() -> Response:
        images = len(server.service.watched.holdings.items)
        text = server.metrics.prometheus(images, server.view.metrics)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.get("/api/state")
    async def state() -> Any:
        return {
            "version": __version__,
            "gallery": await server.reading.run(server.service.info),
            "source": server.session.shown if server.session else None,
            "state": server.view.state,
            "seeking": server.seeking.name,
            "notice": server.notice,
            "token": server.access.token is not None,
        }


def _add_live_picture(app: FastAPI, server: Server) -> None:
    def streamed(parts: Callable[[], AsyncIterator[bytes]], kind: str) -> Response:
        if server.session is None:
            return problem(404, "there is no live picture: start the server with --source")
        if server.metrics.watchers >= MOST_WATCHERS:
            return _busy(f"{MOST_WATCHERS} clients watch already")

        async def counted() -> AsyncIterator[bytes]:
            server.metrics.watchers += 1
            try:
                async for part in parts():
                    yield part
            finally:
                server.metrics.watchers -= 1

        return StreamingResponse(counted(), media_type=kind)

    @app.get("/api/live")
    async def live() -> Response:
        return streamed(server.view.messages, "application/octet-stream")

    @app.get("/api/live.mjpg")
    async def live_mjpeg() -> Response:
        return streamed(server.view.pictures, "multipart/x-mixed-replace; boundary=frame")

    @app.post("/api/live/start")
    async def start() -> Any:
        if server.session is None:
            raise UsageError("there is no source: start the server with --source")
        server.session.start()
        return {"state": "starting"}


def _add_seeking(app: FastAPI, server: Server) -> None:
    @app.post("/api/live/seek")
    async def seek(request: Request, name: str = "", box: str | None = None) -> Any:
        if server.session is None:
            raise UsageError("there is no live picture to seek in: start the server with --source")
        content, wanted = await body_of(request), checked_label(name) if name.strip() else ""
        await server.describing.run(lambda: server.seeking.seek(frame_of(content), box_of(box), wanted))
        return {"seeking": server.seeking.name}

    @app.delete("/api/live/seek")
    async def seek_no_more() -> Any:
        server.seeking.stop()
        return {"seeking": None}


def _add_gallery(app: FastAPI, server: Server) -> None:
    service = server.service

    async def described(what: str, work: Callable[..., Any], request: Request, *args: object) -> Any:
        content = await body_of(request)
        start = time.monotonic()
        answer = await server.describing.run(lambda: work(frame_of(content), *args))
        server.metrics.worked(what, time.monotonic() - start)
        return answer

    @app.post("/api/search")
    async def search(request: Request, box: str | None = None, k: int = 12) -> Any:
        return await described("search", service.search, request, box_of(box), k)

    @app.post("/api/images", status_code=201)
    async def enroll(request: Request, label: str, box: str | None = None) -> Any:
        return await described("enroll", service.enroll, request, box_of(box), label)

    @app.get("/api/images")
    async def images(
        before: Annotated[int | None, Query(ge=0, le=LARGEST_ID)] = None, limit: int = 48, text: str = ""
    ) -> Any:
        return await server.reading.run(service.page, before, limit, text)

    @app.get("/api/images/{image_id}/picture")
    async def picture(request: Request, image_id: ImageId, side: int = Query(320, ge=1)) -> Response:
        content, name = await server.reading.run(service.picture, image_id, side)
        headers = {"ETag": f'"{name}"', "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="image/jpeg", headers=headers)

    @app.patch("/api/images/{image_id}")
    async def rename(image_id: ImageId, label: str) -> Any:
        return await server.reading.run(service.rename, image_id, label)

    @app.delete("/api/images/{image_id}")
    async def remove(image_id: ImageId) -> Any:
        return await server.reading.run(service.remove, image_id)


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(EdgeClaidError)
    async def ours(_: Request, error: Exception) -> JSONResponse:
        status = next(status for kind, status in STATUS_OF if isinstance(error, kind))
        return problem(status, str(error))

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: Exception) -> JSONResponse:
        return _busy("too much is being asked at once")

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        faults = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        return problem(400, f"wrong request: {faults}")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return problem(500, f"unexpected {type(error).__name__}; the server's log says more")


def _busy(message: str) -> JSONResponse:
    answer = problem(503, f"{message}; try again in a moment")
    answer.headers["Retry-After"] = "2"
    return answer
