"""The seal of a file: what it holds, and the digest of its bytes, in front of them and readable without HDF5.

A finished episode and the index begin with an HDF5 user block, bytes that HDF5 skips. There we put

    understudy-seal 1 <SHA-256 of the facts> <length of the facts>\\n
    <facts: one JSON object>

and the facts hold the SHA-256 and the size of everything behind the block, so that a flipped bit, a cut or a swapped
file is found by reading bytes, before the HDF5 library (which a damaged file can crash, or keep busy for ever) sees
any. Facts that a listing needs (length, metadata) are read without opening HDF5: one small read a file.

A seal finds damage. It is no signature: whoever can write the file can seal it again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from understudy.errors import DatasetError

SMALLEST_BLOCK = 4096
"""HDF5 wants a power of two of at least 512; most facts fit into this."""
LARGEST_BLOCK = 1 << 24
EPISODE_REMEDY = "Restore it from a copy, or drop it (understudy dataset drop DIR ID)."
_MAGIC = b"understudy-seal 1 "
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 256
"""The first line is shorter than this."""
_READ = 1 << 20


@dataclass(frozen=True)
class Seal:
    """What a file says of itself."""

    facts: Mapping[str, Any]
    block: int
    """Bytes in front of the HDF5 part."""
    body_bytes: int
    body_sha256: str


def block_for(facts: Mapping[str, Any]) -> int:
    """Size of the user block that holds `facts` with the digests (bytes, a power of two).

    Raises:
        DatasetError: they are too large.
    """
    needed = _HEAD + len(json.dumps(facts)) + 256
    block = SMALLEST_BLOCK
    while block < needed:
        block *= 2
    if block > LARGEST_BLOCK:
        raise DatasetError(f"The metadata take {needed} bytes; at most {LARGEST_BLOCK} are kept. Shorten the note.")
    return block


def write_seal(path: Path, facts: Mapping[str, Any], block: int) -> None:
    """Seal a closed HDF5 file that was made with a user block of `block` bytes.

    Raises:
        DatasetError: the facts do not fit.
        OSError: the disk fails.
    """
    with path.open("r+b") as file:
        file.seek(block)
        digest, size = _digest(file)
        body = json.dumps({**facts, "body_bytes": size, "body_sha256": digest, "block": block}).encode()
        text = _MAGIC + f"{hashlib.sha256(body).hexdigest()} {len(body)}\n".encode() + body
        if len(text) > block:
            raise DatasetError(f"{path}: the metadata take {len(text)} bytes, and {block} were set aside.")
        file.seek(0)
        file.write(text.ljust(block, b"\0"))


def read_seal(path: Path, remedy: str = EPISODE_REMEDY) -> Seal:
    """The facts of a sealed file, checked against their own digest; the body is not read.

    `remedy` is the sentence that says what to do about a damaged one.

    Raises:
        DatasetError: the file does not exist, has no seal, or its seal is damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(SMALLEST_BLOCK)
            return _parse(path, head, file, remedy)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error


def verify_seal(path: Path, remedy: str = EPISODE_REMEDY) -> Seal:
    """The facts of a sealed file whose every byte is as it was when it was sealed; `remedy` as in `read_seal`.

    Raises:
        DatasetError: the file does not exist, has no seal, was cut, or was altered; names it.
    """
    try:
        # Opened once: another process may put a new version in its place meanwhile.
        with path.open("rb") as file:
            seal = _parse(path, file.read(SMALLEST_BLOCK), file, remedy)
            size = os.fstat(file.fileno()).st_size - seal.block
            if size != seal.body_bytes:
                what = "cut short" if size < seal.body_bytes else "longer than it was"
                raise DatasetError(
                    f"{path} is damaged: {what}, {size} bytes of {seal.body_bytes} behind its seal. {remedy}"
                )
            file.seek(seal.block)
            digest, _ = _digest(file)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error
    if digest != seal.body_sha256:
        raise DatasetError(f"{path} is damaged: its bytes are not the ones that were sealed. {remedy}")
    return seal


def _parse(path: Path, head: bytes, file: IO[bytes], remedy: str) -> Seal:
    if not head.startswith(_MAGIC):
        raise DatasetError(f"{path} {_unsealed(head, remedy)}")
    try:
        digest, length = head[len(_MAGIC) : head.index(b"\n")].decode("ascii").split(" ")
        start, size = head.index(b"\n") + 1, int(length)
        if not 0 < size <= LARGEST_BLOCK:
            raise ValueError(f"{size} bytes of facts")
        body = head[start : start + size]
        body += file.read(size - len(body))
        if hashlib.sha256(body).hexdigest() != digest:
            raise ValueError("its digest does not match")
        facts = json.loads(body)
        return Seal(facts, int(facts["block"]), int(facts["body_bytes"]), str(facts["body_sha256"]))
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise DatasetError(f"{path} is damaged: its seal cannot be read ({error}). {remedy}") from error


def _unsealed(head: bytes, remedy: str) -> str:
    if head.startswith(_HDF5):
        return (
            "has no seal: it was written by an older version, by another program, or is a recording in progress. "
            "`understudy dataset import` reads other programs' files."
        )
    if head.startswith(b"understudy-seal "):
        version = head[len(b"understudy-seal ") :].split(b" ")[0][:20].decode("ascii", "replace")
        return f"has a seal of version {version}, and this software reads version 1; update Understudy."
    return f"is damaged: it does not begin with a seal. {remedy}"


def _digest(file: IO[bytes]) -> tuple[str, int]:
    """SHA-256 and length of the rest of an open file."""
    digest, size = hashlib.sha256(), 0
    while part := file.read(_READ):
        digest.update(part)
        size += len(part)
    return digest.hexdigest(), size
