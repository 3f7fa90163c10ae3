"""Joint states from the bytes they come as, for whoever reads hundreds a second.

rclpy makes Python objects of every field, names included, which takes several times as long (measured). Here the names,
which a driver says the same way every time, are compared as bytes and only read when they change. The layout is CDR's
(OMG's Common Data Representation, as DDS uses it): little-endian, numbers aligned to their size behind the four bytes
of the encapsulation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.errors import InputError

HEAD = 12
"""Encapsulation and stamp; behind them lie the frame's and the joints' names."""
LITTLE_ENDIAN = b"\x00\x01"


@dataclass(frozen=True)
class JointBytes:
    """What a sensor_msgs/JointState said."""

    stamp_ns: int
    """0 when unset."""
    name: list[str]
    position: list[float]
    velocity: list[float]
    effort: list[float]


class JointStateBytes:
    """Reads messages of one topic."""

    def __init__(self) -> None:
        self._words = b""
        self._names: list[str] = []

    def read(self, data: bytes) -> JointBytes:
        """The joint state in `data`.

        Raises:
            InputError: it is not one.
        """
        try:
            if data[:2] != LITTLE_ENDIAN:
                raise ValueError("another encapsulation than little-endian CDR")
            if not self._words or not data.startswith(self._words, HEAD):
                self._words, self._names = _read_words(data)
            place, columns = HEAD + len(self._words), []
            for _ in range(3):
                column, place = _read_numbers(data, place)
                columns.append(column.tolist())
        except (ValueError, struct.error) as error:
            self._words = b""
            raise InputError(f"{len(data)} bytes that are no joint state ({error})") from error
        seconds, nanoseconds = struct.unpack_from("<iI", data, 4)
        return JointBytes(seconds * 1_000_000_000 + nanoseconds, self._names, *columns)


def _aligned(place: int, size: int) -> int:
    return 4 + -(-(place - 4) // size) * size


def _read_words(data: bytes) -> tuple[bytes, list[str]]:
    """The bytes of the frame's and the joints' names, and the latter."""
    _, place = _read_word(data, HEAD)
    place = _aligned(place, 4)
    (count,) = struct.unpack_from("<I", data, place)
    if count > len(data):
        raise ValueError(f"{count} names")
    place, names = place + 4, []
    for _ in range(count):
        name, place = _read_word(data, _aligned(place, 4))
        names.append(name)
    return data[HEAD:place], names


def _read_word(data: bytes, place: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, place)
    end = place + 4 + length
    if length == 0 or end > len(data):
        raise ValueError(f"a name of {length} bytes")
    return data[place + 4 : end - 1].decode(), end


def _read_numbers(data: bytes, place: int) -> tuple[NDArray[Any], int]:
    place = _aligned(place, 4)
    (count,) = struct.unpack_from("<I", data, place)
    place += 4
    if count == 0:
        return np.zeros(0), place
    place = _aligned(place, 8)
    return np.frombuffer(data, "<f8", count, place), place + 8 * count
