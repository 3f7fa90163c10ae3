"""The console as a web application: its files, pictures, episodes and the WebSocket, behind the checks of `Access`.

Everything that changes something goes over the WebSocket. Files of the page are read once, at the start: no path of a
request reaches the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from numpy.typing import NDArray

from understudy.capture.console.access import HEADERS, Access, RateLimit
from understudy.capture.console.config import ConsoleConfig
from understudy.capture.console.connection import REPLACED, TOO_MUCH, Connection
from understudy.capture.console.desk import Desk
from understudy.capture.console.front import Front
from understudy.capture.console.library import Library
from understudy.capture.console.worker import jpeg
from understudy.capture.devices.browser import BrowserDevice
from understudy.envs.arms.clock import MonotonicClock
from understudy.errors import InputError, UnderstudyError

STATIC = Path(__file__).parent / "static"
KINDS: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
REQUESTS_PER_S, REQUEST_BURST = 200.0, 400
"""Of all pages together, WebSocket messages aside."""
PICTURE_WAIT_S, PICTURE_LOOK_S = 1.0, 0.02
"""How long a request waits for a picture that is newer than its last one, and how often it looks, s."""
THREADS = 32
HOLD_THREADS = 8
"""That nothing but holding the arm is done in."""
OWN_SITE = ("same-origin", "none")
"""What a browser says of a request of this page, or of one that was typed; those of other sites would keep us busy."""


class Console:
    """The application and what its connections share. Lives on one event loop."""

    def __init__(
        self, front: Front, device: BrowserDevice | None, library: Library, access: Access, config: ConsoleConfig
    ) -> None:
        """Args:
        front: the session.
        device: what the page moves; None where another device drives.
        library: the session's dataset.
        access: who may talk to us.
        config: how it is served.
        """
        self._front = front
        self._device = device
        self._library = library
        self._access = access
        self._config = config
        self._clock = MonotonicClock()
        self._desk = Desk(self._clock)
        self._requests = RateLimit(self._clock, REQUESTS_PER_S, REQUEST_BURST)
        self._open: dict[str, Connection] = {}
        self._sockets = 0
        self._files = {file.name: file.read_bytes() for file in sorted(STATIC.iterdir()) if file.suffix in KINDS}
        self._hold_threads = ThreadPoolExecutor(HOLD_THREADS, "hold")
        self._pictures: dict[str, tuple[NDArray[np.uint8], int, bytes]] = {}
        """Camera -> the latest picture, its number, and its JPEG."""

    def app(self) -> FastAPI:
        """The application, for a server."""
        app = FastAPI(lifespan=self._lifespan, openapi_url=None, docs_url=None, redoc_url=None)
        app.middleware("http")(self._guard)
        app.get("/")(self._index)
        app.get("/static/{name}")(self._static)
        app.get("/api/picture/{camera}")(self._picture)
        app.get("/api/episodes")(self._episodes)
        app.get("/api/episodes/{id}/film")(self._film)
        app.get("/api/episodes/{id}/plot")(self._plot)
        app.get("/api/check")(self._check)
        app.websocket("/ws")(self._talk)
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        # Many wait at once: wishes for the session's loop, pictures and films for their processes.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "console"))
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self._hold_threads.shutdown(wait=False, cancel_futures=True)

    async def _watch(self) -> None:
        """Tell every page when the session has changed."""
        revision = -1
        while True:
            if not self._open:  # a session that nobody looks at must know that
                await asyncio.sleep(0.05)
                continue
            view = await asyncio.to_thread(self._front.wait_view, revision, 0.5)
            if view.revision != revision:
                revision = view.revision
                for connection in self._open.values():
                    connection.changed()
            await asyncio.sleep(0.5 / self._config.view_hz)

    async def _guard(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """What every request has to pass, and the headers of every answer."""
        response = self._refusal(request) or await self._answered(request, call_next)
        for name, value in HEADERS.items():
            response.headers[name] = value
        return response

    async def _answered(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            return await call_next(request)
        except InputError as error:
            return PlainTextResponse(str(error), 404)
        except (UnderstudyError, OSError) as error:
            return PlainTextResponse(str(error), 503)

    def _refusal(self, request: Request) -> Response | None:
        access, token = self._access, request.cookies.get(self._access.cookie, "")
        if reason := access.refuse_host(request.headers):
            return PlainTextResponse(reason, 421)
        if request.method not in ("GET", "HEAD") and (reason := access.refuse_origin(request.headers)):
            return PlainTextResponse(reason, 403)
        if request.url.path.startswith("/api/") and request.headers.get("sec-fetch-site", "none") not in OWN_SITE:
            return PlainTextResponse("Only the console's own page may ask for this.", 403)
        if request.url.path == "/" and "token" in request.query_params:
            token = request.query_params["token"]
        if reason := access.refuse_token(token):
            return PlainTextResponse(reason, 403)
        if not self._requests.allows():  # shared by our own pages: who is refused anyway takes nothing from them
            return PlainTextResponse("Too many requests at once; wait a moment.", 429)
        return None

    async def _index(self, request: Request) -> Response:
        """The page; a token in its address moves into a cookie, so that it does not stay in the browser's history."""
        if "token" not in request.query_params:
            return Response(self._files["index.html"], media_type=KINDS[".html"])
        response = RedirectResponse("/", 303)
        if self._access.token:
            response.set_cookie(self._access.cookie, self._access.token, httponly=True, samesite="strict")
        return response

    async def _static(self, name: str) -> Response:
        if name not in self._files:
            return PlainTextResponse("There is no such file.", 404)
        return Response(self._files[name], media_type=KINDS[Path(name).suffix])

    async def _picture(self, camera: str, after: int = -1) -> Response:
        """The latest picture of a camera as JPEG, once it is another than number `after`; 204 when none comes."""
        if camera not in self._front.view().cameras:
            return PlainTextResponse("There is no such camera.", 404)
        for _ in range(round(PICTURE_WAIT_S / PICTURE_LOOK_S)):
            picture = self._front.picture(camera)
            known = self._pictures.get(camera)
            if picture is not None and (known is None or known[0] is not picture):
                number = 0 if known is None else known[1] + 1
                encoded = await asyncio.to_thread(jpeg, picture, self._config.jpeg_quality)
                known = self._pictures[camera] = (picture, number, encoded)
            if known is not None and known[1] != after:
                return Response(known[2], media_type="image/jpeg", headers={"X-Picture": str(known[1])})
            await asyncio.sleep(PICTURE_LOOK_S)
        return Response(status_code=204)

    async def _episodes(self, offset: int = 0) -> Response:
        return JSONResponse(await asyncio.to_thread(self._library.rows, offset))

    async def _film(self, id: str) -> Response:
        return Response(await asyncio.to_thread(self._library.film, id), media_type="image/jpeg")

    async def _plot(self, id: str) -> Response:
        return JSONResponse(await asyncio.to_thread(self._library.plot, id))

    async def _check(self) -> Response:
        report: dict[str, Any] = await asyncio.to_thread(self._library.check)
        return JSONResponse(report)

    async def _talk(self, socket: WebSocket) -> None:
        """One page's WebSocket, from its first word to its last."""
        access = self._access
        token = socket.cookies.get(access.cookie, "")
        reason = access.refuse_host(socket.headers) or access.refuse_origin(socket.headers)
        reason = reason or access.refuse_token(token)
        if reason or self._sockets >= self._config.max_pages:
            await socket.close(TOO_MUCH, (reason or "Too many pages are open.")[:120])
            return
        await socket.accept()
        self._sockets += 1
        connection = Connection(
            socket,
            self._front,
            self._device,
            self._library,
            self._desk,
            self._clock,
            self._config.view_hz,
            self._hold_threads,
        )
        replaced: list[asyncio.Task[None]] = []

        def arrived(new: Connection) -> None:
            before, self._open[new.key] = self._open.get(new.key), new
            if before is not None:
                replaced.append(asyncio.create_task(before.close(REPLACED, "This page was opened again elsewhere.")))
            self._tell_all()

        try:
            await connection.serve(arrived)
        finally:
            self._sockets -= 1
            self._left(connection)
            await asyncio.gather(*replaced, return_exceptions=True)

    def _left(self, connection: Connection) -> None:
        """A page is gone: what it pressed is pressed no more."""
        if self._open.get(connection.key) is not connection:
            return
        del self._open[connection.key]
        if self._device is not None and self._desk.controls(connection.key):
            self._device.let_go()
        self._desk.leave(connection.key)
        self._tell_all()

    def _tell_all(self) -> None:
        for connection in self._open.values():
            connection.changed()
