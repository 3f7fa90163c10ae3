"""Under which addresses other machines reach a page that listens on all of them: a name may mean nothing to a tablet.

Asks the system only; nothing is sent.
"""

from __future__ import annotations

import array
import ipaddress
import socket
import struct
import sys
from urllib.parse import urlsplit, urlunsplit

WILDCARDS = ("0.0.0.0", "::")
_SIOCGIFADDR = 0x8915
"""Linux's request for the IPv4 address of an interface (netdevice(7))."""
_NAME, _ANSWER = 16, 40
"""Bytes of an interface's name, and of `struct ifreq`."""


def other_addresses(address: str, host: str) -> tuple[str, ...]:
    """The same page at each of this machine's own IPv4 addresses; none where it listens on one address only.

    Args:
        address: of the page, by this machine's name.
        host: where it listens, as it was asked for.
    """
    if host not in WILDCARDS:
        return ()
    parts = urlsplit(address)
    return tuple(urlunsplit(parts._replace(netloc=f"{own}:{parts.port}")) for own in own_addresses())


def own_addresses() -> tuple[str, ...]:
    """IPv4 addresses under which other machines may reach this one, in the order of its interfaces."""
    told = _of_interfaces() if sys.platform == "linux" else _of_name()
    return tuple(dict.fromkeys(one for one in told if not ipaddress.ip_address(one).is_loopback))


def _of_interfaces() -> list[str]:
    import fcntl  # not on every system

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            answer = array.array("B", struct.pack(f"{_ANSWER}s", name.encode()))
            try:
                fcntl.ioctl(asking, _SIOCGIFADDR, answer)
            except OSError:  # an interface without an IPv4 address
                continue
            start = _NAME + 4  # past the family and the port of a sockaddr_in
            found.append(socket.inet_ntoa(answer.tobytes()[start : start + 4]))
    return found


def _of_name() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    except socket.gaierror:  # a name that nobody knows
        return []
    return [str(address[0]) for *_, address in found]
