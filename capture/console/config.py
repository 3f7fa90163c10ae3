"""How the console is served: where it listens, who may come, how much it sends."""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass

from understudy.errors import InputError

LOOPBACK = "127.0.0.1"
PORT = 8420
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class ConsoleConfig:
    """Where the console listens and how it looks."""

    host: str = LOOPBACK
    """Address to listen on. Any but this machine's own (127.0.0.1, ::1, localhost) asks every page for the token."""
    port: int = PORT
    """0 takes any that is free."""
    token: str = ""
    """What a page must know; empty makes one up where one is needed."""
    view_hz: float = 20.0
    """How often a page is told what has changed, at most."""
    jpeg_quality: int = 80
    """Of live pictures and filmstrips, 30 to 95."""
    max_pages: int = 16
    """Pages that may be open at once."""
    robot: str = ""
    """The robot's YAML file, where it is not a shipped one: for filmstrips and the dataset's check."""

    def __post_init__(self) -> None:
        if not self.host or self.host != self.host.strip() or "/" in self.host:
            raise InputError(
                f"The console listens on an address such as 127.0.0.1 or 0.0.0.0, got {self.host!r}; give no scheme "
                "and no path."
            )
        if not 0 <= self.port <= 65535:
            raise InputError(f"The console's port must lie between 0 and 65535, got {self.port}.")
        if self.token and not re.fullmatch(r"[A-Za-z0-9_-]+", self.token):
            raise InputError("The console's token may hold letters, digits, '-' and '_' only.")
        if self.token and len(self.token) < SHORTEST_TOKEN:
            raise InputError(
                f"The console's token has {len(self.token)} characters; expected at least {SHORTEST_TOKEN}, or none: "
                "then one is made up."
            )
        if not 1.0 <= self.view_hz <= 60.0:
            raise InputError(f"Pages are told 1 to 60 times a second, got {self.view_hz}.")
        if not 30 <= self.jpeg_quality <= 95:
            raise InputError(f"JPEG quality must lie between 30 and 95, got {self.jpeg_quality}.")
        if not 1 <= self.max_pages <= 256:
            raise InputError(f"Between 1 and 256 pages may be open, got {self.max_pages}.")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def chosen_token(self) -> str:
        """The token that pages must know; empty where none is needed."""
        if self.token or self.local:
            return self.token
        return secrets.token_urlsafe(24)
