"""Serves the console beside a session: one thread, which begins and ends with a `with` statement.

with serve(loop, device, ConsoleConfig()) as address:
    print(f"open {address}")
    loop.run()
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from understudy.capture.console.config import ConsoleConfig
from understudy.capture.console.front import Front
from understudy.capture.devices.device import Device
from understudy.errors import InputError, MissingExtra, UnderstudyError

START_S, STOP_S = 10.0, 5.0


@contextlib.contextmanager
def serve(front: Front, device: Device | None, config: ConsoleConfig | None = None) -> Iterator[str]:
    """Serve the page of a session; yields the address to open, with the token where one is needed.

    Args:
        front: the session's loop; whoever calls runs it, here or in another thread.
        device: the session's device. A `BrowserDevice` is moved by the page; with any other, or None, the page shows
            and presses the session's buttons.
        config: where to listen.

    Raises:
        InputError: the address or the port cannot be had; the session has no dataset; `MissingExtra` for a package.
        UnderstudyError: the server does not start.
    """
    config = config or ConsoleConfig()
    require_packages()
    import uvicorn

    from understudy.capture.console.access import Access
    from understudy.capture.console.app import Console
    from understudy.capture.console.library import Library
    from understudy.capture.devices.browser import BrowserDevice

    library = Library(Path(front.view().dataset), config.robot, config.jpeg_quality)
    listening = _listen(config)
    port = int(listening.getsockname()[1])
    access = Access(config, port, config.chosen_token())
    moved = device if isinstance(device, BrowserDevice) else None
    settings: dict[str, Any] = {
        "log_level": "error", "access_log": False, "lifespan": "on", "server_header": False, "date_header": False,
        "ws": "auto", "ws_max_size": _most_bytes(), "ws_ping_interval": 5.0, "ws_ping_timeout": 5.0,
        "timeout_keep_alive": 30, "timeout_graceful_shutdown": 3, "limit_concurrency": 8 * config.max_pages,
        "h11_max_incomplete_event_size": 16384, "proxy_headers": False,
    }  # fmt: skip
    server = uvicorn.Server(uvicorn.Config(Console(front, moved, library, access, config).app(), **settings))
    thread = threading.Thread(target=server.run, args=([listening],), name="console", daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield _address(config, port, access.token)
    finally:
        server.should_exit = True
        library.close()
        thread.join(STOP_S)
        listening.close()


def require_packages() -> None:
    """Refuse to serve where a package is missing.

    Raises:
        MissingExtra: names it, and the extra that brings it.
    """
    for name in ("fastapi", "uvicorn", "websockets", "PIL"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(name, "console")


def _most_bytes() -> int:
    from understudy.capture.console.messages import MOST_BYTES

    return MOST_BYTES


def _listen(config: ConsoleConfig) -> socket.socket:
    """A socket that listens, so that an address which cannot be had is told before anything begins."""
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise InputError(f"The console cannot listen on {config.host!r}: {error.strerror}.") from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(64)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"Port {config.port} of {config.host} is taken, perhaps by another console; choose another with "
                "--port, or --port 0 for any that is free."
            ) from error
        raise InputError(f"The console cannot listen on {config.host}:{config.port}: {error.strerror}.") from error
    return listening


def _wait_until_started(server: Any, thread: threading.Thread) -> None:
    until_s = time.monotonic() + START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until_s:
            raise UnderstudyError("The console's server did not start; set UNDERSTUDY_DEBUG=1 to see why.")
        time.sleep(0.01)


def _address(config: ConsoleConfig, port: int, token: str) -> str:
    """What to open: a wildcard address is told as this machine's name."""
    host = socket.gethostname() if config.host in ("0.0.0.0", "::") else config.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={token}" if token else "")
