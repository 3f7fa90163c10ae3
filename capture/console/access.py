"""Who may talk to the console: the address that was asked for, the origin of the page, the token, and how often.

A page of another site can make a browser send requests here. It cannot read the answers, nor set `Origin`: whatever
changes something, and the WebSocket, must come from the page that this server gave out. The `Host` check keeps a name
that was pointed at this machine (DNS rebinding) from counting as that page.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from understudy.capture.console.config import ConsoleConfig
from understudy.envs.arms.clock import Clock

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: nothing is kept, nothing is loaded from elsewhere, nobody frames it."""


class Access:
    """Says no, with a reason; None means yes."""

    def __init__(self, config: ConsoleConfig, port: int, token: str) -> None:
        """Args:
        config: where the console listens.
        port: the port it really got.
        token: what pages must know; empty for none.
        """
        self.token = token
        self.cookie = f"understudy_{port}"
        """Cookies are shared by all ports of a machine, so the port is part of the name."""
        names = {"127.0.0.1", "localhost", "[::1]", f"[{config.host}]" if ":" in config.host else config.host}
        self._hosts = {f"{name}:{port}" for name in names} if config.local else None

    def refuse_host(self, headers: Mapping[str, str]) -> str | None:
        """Why the address that was asked for is not ours."""
        host = headers.get("host", "")
        if self._hosts is None or host.lower() in self._hosts:
            return None
        return f"This console answers to {', '.join(sorted(self._hosts))}, and was asked for as {host!r}."

    def refuse_origin(self, headers: Mapping[str, str]) -> str | None:
        """Why a WebSocket, or a request that may change something, does not come from our own page."""
        origin, host = headers.get("origin", ""), headers.get("host", "")
        if host and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return None
        return f"This came from {origin or 'nowhere'}, and only the console's own page may ask for it."

    def refuse_token(self, given: str) -> str | None:
        """Why the token is not the right one."""
        if not self.token or hmac.compare_digest(given.encode(), self.token.encode()):
            return None
        return "This console needs its token: open the address that was printed where it was started."


class RateLimit:
    """Lets `per_s` through in the long run, and `burst` at once."""

    def __init__(self, clock: Clock, per_s: float, burst: int) -> None:
        self._clock = clock
        self._per_s = per_s
        self._burst = float(burst)
        self._left = float(burst)
        self._at_ns = clock.now_ns()

    def allows(self) -> bool:
        """Whether one more may pass now; counts it if so."""
        now_ns = self._clock.now_ns()
        self._left = min(self._burst, self._left + (now_ns - self._at_ns) * 1e-9 * self._per_s)
        self._at_ns = now_ns
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
