"""Minari's description of observations and actions: gymnasium spaces as JSON, and arrays that are stored as they say.

Owns which spaces are read and written. Boxes, whole numbers and flags are, also nested in Dicts; texts, tuples,
sequences and graphs are refused by name.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.incoming import parse_json
from understudy.datasets.frames import read_frames
from understudy.datasets.hdf5 import array, subgroup
from understudy.datasets.schema import is_image
from understudy.errors import DatasetError

Array = NDArray[Any]
WHOLE = "observation"
"""Name of an observation that is one array and no Dict."""
_DEEPEST = 16
_SMALLEST_JPEG = 32
"""Minari packs frames of at least this many pixels a side."""
_DENSEST_JPEG = 2000
_SLACK = 1 << 20
_MOST_FLAGS = 1_000_000


@dataclass(frozen=True)
class Leaf:
    """One array of a space."""

    kind: str
    """Box, Discrete, MultiDiscrete or MultiBinary."""
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    shape: tuple[int, ...] | None = None
    """Of one sample; None takes what is stored."""
    low: Array | None = None
    high: Array | None = None
    """(size,) bounds, or None."""
    is_whole: bool = False
    """Whether it is the whole observation rather than a part of a Dict."""

    @property
    def size(self) -> int:
        """How many numbers a sample has."""
        return int(np.prod(self.shape or (), dtype=np.int64))

    @property
    def holds_frames(self) -> bool:
        """Whether a sample is a camera frame as ours."""
        return self.dtype == np.uint8 and self.shape is not None and len(self.shape) == 3 and self.shape[-1] == 3

    @property
    def is_jpeg(self) -> bool:
        """Whether Minari packs it, where it packs frames at all: its own rule."""
        return (
            self.kind == "Box"
            and self.dtype == np.uint8
            and self.shape is not None
            and len(self.shape) in (2, 3)
            and min(self.shape[:2]) >= _SMALLEST_JPEG
            and self.low is not None
            and self.high is not None
            and bool(np.all(self.low == 0) and np.all(self.high == 255))
        )


# --- writing -----------------------------------------------------------------------------------------------------


def space_of(keys: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    """The Dict space of observations: key -> (type, shape of one)."""
    return {
        "type": "Dict",
        "subspaces": {key: _box(key, np.dtype(dtype), shape) for key, (dtype, shape) in keys.items()},
    }


def space_of_actions(size: int) -> dict[str, Any]:
    """The space of normalised actions (A,)."""
    return {"type": "Box", "dtype": "float32", "shape": [size], "low": [-1.0] * size, "high": [1.0] * size}


def _box(key: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    if dtype.kind == "f":
        low, high = -np.inf, np.inf
    elif dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        raise DatasetError(f"{key} holds {dtype}, which Minari's spaces do not have.")
    if is_image(key):
        low, high = 0, 255
    bounds = {name: np.full(shape, value, dtype).tolist() for name, value in (("low", low), ("high", high))}
    return {"type": "Box", "dtype": dtype.name, "shape": list(shape), **bounds}


# --- reading -----------------------------------------------------------------------------------------------------


def leaves(text: object, where: str) -> dict[str, Leaf]:
    """The arrays of an observation space: name (a path of names) -> array.

    Raises:
        DatasetError: the text is no space, or one that is not read.
    """
    space = _space(text, where)
    if space.get("type") != "Dict":
        leaf = _leaf(space, where)
        return {WHOLE: Leaf(leaf.kind, leaf.dtype, leaf.shape, leaf.low, leaf.high, is_whole=True)}
    found: dict[str, Leaf] = {}
    _collect(space, where, "", 0, found)
    if not found:
        raise DatasetError(f"{where} is empty.")
    return found


def action_leaf(text: object) -> Leaf:
    """The array of an action space.

    Raises:
        DatasetError: it is no single array of numbers.
    """
    leaf = _leaf(_space(text, "action_space"), "action_space")
    if not 0 < leaf.size <= 10_000:
        raise DatasetError(f"action_space has shape {leaf.shape}; expected 1 to 10000 numbers.")
    return leaf


def read_leaf(parent: h5py.Group, name: str, leaf: Leaf, *, jpeg: bool) -> Array:
    """All samples of an array (N, ...).

    Args:
        parent: the group that holds it.
        name: a path of names below it.
        leaf: what the space says of it.
        jpeg: whether the dataset packs frames.

    Raises:
        DatasetError: it is not stored as the space says.
    """
    if jpeg and leaf.is_jpeg:
        return _unpacked(parent, name, leaf)
    stored = array(parent, name)
    if stored.ndim == 0 or (leaf.shape is not None and stored.shape[1:] != leaf.shape):
        raise DatasetError(f"{parent.name}/{name} has shape {stored.shape}; its space says (steps, *{leaf.shape}).")
    return np.asarray(read_frames(stored) if stored.dtype == np.uint8 and stored.ndim == 4 else stored[()])


def _space(text: object, where: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise DatasetError(f"{where} is {type(text).__name__}; expected a space as JSON text.")
    return parse_json(text, where)


def _collect(space: Mapping[str, Any], where: str, prefix: str, depth: int, found: dict[str, Leaf]) -> None:
    parts = space.get("subspaces")
    if depth > _DEEPEST or not isinstance(parts, dict):
        raise DatasetError(f"{where} has no readable subspaces; expected a Dict of at most {_DEEPEST} levels.")
    for name, part in parts.items():
        place = f"{where}: {prefix}{name}"
        if not isinstance(part, dict) or "/" in name or name in ("", ".", ".."):
            raise DatasetError(f"{place} is no readable space.")
        if part.get("type") == "Dict":
            _collect(part, where, f"{prefix}{name}/", depth + 1, found)
        else:
            found[prefix + name] = _leaf(part, place)


def _leaf(space: Mapping[str, Any], where: str) -> Leaf:
    kind = space.get("type")
    try:
        if kind == "Box":
            return _box_leaf(space)
        if kind == "Discrete":
            start, count = int(space.get("start", 0)), int(space["n"])
            return Leaf(kind, np.dtype(np.int64), (), np.array([start]), np.array([start + max(count, 1) - 1]))
        if kind == "MultiDiscrete":
            counts = np.asarray(space["nvec"], np.int64)
            first = np.asarray(space.get("start", np.zeros(counts.shape)), np.int64).ravel()
            return Leaf(kind, np.dtype(np.int64), counts.shape, first, first + counts.ravel() - 1)
        if kind == "MultiBinary":
            shape = tuple(map(int, np.atleast_1d(space["n"])))
            size = int(np.prod(shape))
            if not 0 < size <= _MOST_FLAGS:
                raise ValueError(f"it has {size} flags; expected 1 to {_MOST_FLAGS}")
            return Leaf(kind, np.dtype(np.int8), shape, np.zeros(size), np.ones(size))
    except (LookupError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise DatasetError(f"{where} is no readable {kind} ({error}).") from error
    raise DatasetError(
        f"{where} is a space {kind!r}, which is not read; those that are: Box, Discrete, MultiBinary, "
        "MultiDiscrete, and Dicts of them for observations."
    )


def _box_leaf(space: Mapping[str, Any]) -> Leaf:
    dtype = np.dtype(str(space["dtype"]))
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds {dtype}; expected numbers")
    shape = tuple(map(int, space["shape"]))
    low, high = (np.asarray(space[name], np.float64) for name in ("low", "high"))
    for bound in (low, high):
        if bound.shape != shape:
            raise ValueError(f"bounds have shape {bound.shape} and the space {shape}")
    return Leaf("Box", dtype, shape, low.ravel(), high.ravel())


def _unpacked(parent: h5py.Group, name: str, leaf: Leaf) -> NDArray[np.uint8]:
    """Frames that Minari packed as JPEG, each a row of bytes."""
    shape = leaf.shape or ()
    where = f"{parent.name}/{name}"
    chunks = _packed_rows(parent, name)
    claimed, stored = len(chunks) * leaf.size, sum(len(chunk) for chunk in chunks)
    if claimed > _DENSEST_JPEG * stored + _SLACK:
        raise DatasetError(f"{where} claims {claimed} bytes of frames in {stored} of JPEG; it is damaged or a trap.")
    frames = np.empty((len(chunks), *shape), np.uint8)
    for row, chunk in enumerate(chunks):
        frames[row] = _decode(chunk, shape, f"{where}, frame {row}")
    return frames


def _packed_rows(parent: h5py.Group, name: str) -> list[Array]:
    """Rows of bytes, of one length or of several."""
    *groups, last = name.split("/")
    holder = subgroup(parent, "/".join(groups)) if groups else parent
    found = holder.get(last) if isinstance(holder.get(last, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or h5py.check_vlen_dtype(found.dtype) != np.uint8:
        return list(np.asarray(array(parent, name, ndim=2)[()], np.uint8))
    if found.is_virtual or found.external or found.ndim != 1 or found.id.get_create_plist().get_nfilters():
        raise DatasetError(f"{parent.name}/{name} is stored in a way that is not read.")
    return [np.asarray(row, np.uint8) for row in found[()]]


def _decode(chunk: Array, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(np.ascontiguousarray(chunk).tobytes()), formats=["JPEG"]) as image:
                if (image.height, image.width, *((len(image.getbands()),) if len(shape) == 3 else ())) != shape:
                    raise DatasetError(f"{where} is {image.size} {image.mode}; its space says {shape}.")
                return np.asarray(image, np.uint8).reshape(shape)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, Warning) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{where} is no readable JPEG ({error}).") from error
