"""ROS 2 bags on disk, through `rosbags`: which topics there are, and their messages one after the other.

Owns opening and the clock of a message. Only messages of the common interfaces of ROS 2 Jazzy are read: definitions
that a bag brings along are never turned into code.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import DatasetError

METADATA = "metadata.yaml"
_STORED = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
"""How files with the messages of a bag end."""
_MOST_METADATA = 16 << 20
_MOST_MESSAGES = 100_000_000
_LEFT_BEHIND = 256
"""Bytes that may follow a message."""
_HEADED = 12
"""Bytes before the end of the stamp, in a message that begins with a header: encapsulation, seconds, nanoseconds."""


def _wrong() -> tuple[type[Exception], ...]:
    """What rosbags, sqlite3 and the decoders raise on files that are not what they should be."""
    import sqlite3

    from rosbags.rosbag2 import ReaderError
    from rosbags.serde import SerdeError
    from rosbags.typesys import TypesysError

    plain = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, OverflowError)
    databases: list[type[Exception]] = [sqlite3.Error]
    with contextlib.suppress(ModuleNotFoundError):  # rosbags reads databases by it, older ones by the standard library
        import apsw

        databases.append(apsw.Error)
    return (*plain, *databases, ReaderError, SerdeError, TypesysError, struct.error, AssertionError, EOFError)


@functools.cache
def jazzy() -> Any:
    """The common interfaces of ROS 2 Jazzy; kept, because making their code takes longer than reading a short bag."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


@dataclass(frozen=True)
class Topic:
    """A topic of a bag."""

    name: str
    type: str
    """As in sensor_msgs/msg/JointState."""
    count: int
    """Messages, as the bag says."""
    known: bool
    """Whether its messages can be read."""
    headed: bool
    """Whether its messages carry a stamp of their own."""


@dataclass(frozen=True)
class Message:
    """One message, not decoded yet."""

    topic: str
    receive_ns: int
    """When the recorder received it."""
    header_ns: int
    """When it was made, by its header; 0 where it does not say."""
    raw: bytes

    @property
    def stamp_ns(self) -> int:
        """The header's stamp, or the recorder's where the header has none."""
        return self.header_ns or self.receive_ns


def bag_paths(path: Path) -> tuple[Path, ...]:
    """The bags at `path`: itself, or the folders in it, by name.

    Raises:
        DatasetError: there are none.
    """
    if path.is_file() or (path / METADATA).is_file():
        return (path,)
    if not path.is_dir():
        raise DatasetError(
            f"{path} does not exist; expected a bag: a folder with {METADATA}, or an .mcap or .db3 file."
        )
    found = tuple(sorted(folder.parent for folder in path.glob(f"*/{METADATA}")))
    if not found:
        cut_off = left_out(path)
        name = cut_off[0][0].name if cut_off else path.name
        raise DatasetError(
            f"{path} is no bag: it has no {METADATA}, nor has a folder in it. `ros2 bag reindex {name}` makes one "
            "for a bag whose recording was cut off."
        )
    return found


def left_out(path: Path) -> tuple[tuple[Path, str], ...]:
    """Folders at `path` that `bag_paths` passes over although they hold a recording, or may hold one, and why.

    A killed `ros2 bag record` leaves such a folder: its messages are there, and its metadata was never written.
    """
    if not path.is_dir() or (path / METADATA).is_file():
        return ()
    found = []
    for folder in (path, *sorted(path.iterdir())):
        try:
            if not folder.is_dir():
                continue
            names = [file.name for file in folder.iterdir()]
            if METADATA not in names and any(name.endswith(_STORED) for name in names):
                found.append((folder, f"a recording that was cut off: it has no {METADATA}"))
        except OSError as error:
            found.append((folder, f"a folder that cannot be read ({error.strerror})"))
    return tuple(found)


class Bag:
    """A bag open for reading; `open_bag` gives one."""

    def __init__(self, path: Path, reader: Any, typestore: Any) -> None:
        """Use `open_bag`."""
        self.path = path
        self._reader, self._typestore = reader, typestore
        self.start_ns, self.duration_s = int(reader.start_time), int(reader.duration) * 1e-9
        self.topics: Mapping[str, Topic] = {name: self._topic(name, info) for name, info in reader.topics.items()}
        if reader.message_count > _MOST_MESSAGES:
            raise DatasetError(f"{path} claims {reader.message_count} messages; at most {_MOST_MESSAGES} are read.")

    def _topic(self, name: str, info: Any) -> Topic:
        kind = str(info.msgtype or "several types")
        known = kind in self._typestore.types and self._is_same(kind, {link.digest for link in info.connections})
        fields = self._typestore.fielddefs[kind][1] if known else []
        headed = bool(fields) and fields[0][0] == "header"
        return Topic(name, kind, int(info.msgcount), known, headed)

    def _is_same(self, kind: str, digests: set[str]) -> bool:
        """Whether the bag's definition of a type is the one we read it by, where the bag says."""
        told = {digest for digest in digests if digest.startswith("RIHS01_")}
        return not told or told == {self._typestore.hash_rihs01(kind)}

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """Messages of some topics in the order they were received, between two receive stamps."""
        links = [link for link in self._reader.connections if link.topic in topics]
        if not links:
            return
        for link, receive_ns, raw in self._reader.messages(links, start=start_ns, stop=stop_ns):
            header_ns = _header_ns(raw) if self.topics[link.topic].headed else 0
            yield Message(link.topic, int(receive_ns), header_ns, raw)

    def decode(self, message: Message) -> Any:
        """The message as an object with its fields."""
        kind, raw = self.topics[message.topic].type, message.raw
        from rosbags.serde import SerdeError

        try:
            return self._typestore.deserialize_cdr(raw, kind)
        except SerdeError as error:
            if "size mismatch" not in str(error):
                raise
            # rclpy's serialize_message leaves some bytes behind the message, and bags written with it have them.
            definition = self._typestore.get_msgdef(kind)
            read = definition.deserialize_cdr_le if raw[1] else definition.deserialize_cdr_be
            decoded, end = read(raw[4:], 0, definition.cls, self._typestore)
            if len(raw) - 4 - end > max(_LEFT_BEHIND, end):
                raise
            return decoded


@contextlib.contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag; whatever goes wrong with it inside the block becomes one sentence that names it.

    Raises:
        DatasetError: missing, unreadable, compressed as a whole, or claiming what cannot be.
        MissingExtra: rosbags is not installed.
    """
    from rosbags.rosbag2 import Reader

    _require_plain(path)
    try:
        with Reader(path) as reader:
            yield Bag(path, reader, jazzy())
    except DatasetError as error:
        message = str(error)
        raise DatasetError(message if str(path) in message else f"{path}: {message}") from error
    except _wrong() as error:
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise DatasetError(f"{path}: not a readable bag ({reason}).") from error


def _require_plain(path: Path) -> None:
    """Refuse links, and what would be unpacked to disk without a limit."""
    files = [path] if path.is_file() else list(path.iterdir()) if path.is_dir() else []
    if not files:
        raise DatasetError(f"{path} does not exist or is empty; expected a bag.")
    for file in files:
        if file.is_symlink():
            raise DatasetError(f"{file} is a link; expected the file itself.")
    metadata = path / METADATA
    if metadata.is_file():
        if metadata.stat().st_size > _MOST_METADATA:
            raise DatasetError(f"{metadata} has {metadata.stat().st_size} bytes; at most {_MOST_METADATA} are read.")
        if any(file.suffix == ".zstd" for file in files):
            raise DatasetError(
                f"{path} is compressed file by file; unpack it first, for example with `ros2 bag convert`."
            )


def _header_ns(raw: bytes) -> int:
    if len(raw) < _HEADED:
        raise DatasetError(f"a message of {len(raw)} bytes, too short for its header.")
    seconds, nanoseconds = struct.unpack_from("<iI" if raw[1] & 1 else ">iI", raw, 4)
    return max(0, int(seconds) * 1_000_000_000 + int(nanoseconds))
