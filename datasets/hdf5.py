"""Reading HDF5 that a stranger, or a failing disk, may have written.

Owns what may be believed of such a file: only arrays of plain numbers or texts that lie in the file itself, stored by
the filters every HDF5 library has, and no larger than what is stored can hold. Links into other files, external
storage, virtual arrays, objects (which libraries unpickle) and filter plug-ins are refused by name before anything is
read. What it cannot promise is that the HDF5 library survives damaged bytes: `seal.py` finds those in our own files
before they are opened, and `quarantine.py` reads other people's in a process of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.errors import DatasetError

MOST_MEMBERS = 1_000_000
"""Names in one group."""
MOST_TEXT = 16 << 20
"""Characters of one text."""
_SLACK = 1 << 20
_DENSEST = 1100
"""DEFLATE packs at most 1032 to 1; an array that claims more than this times its stored bytes is not what it says."""
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_LZF: "lzf",
    h5py.h5z.FILTER_SCALEOFFSET: "scaleoffset",
    h5py.h5z.FILTER_NBIT: "nbit",
}
_WRONG = (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError, OverflowError)
"""What h5py and numpy raise on files that are not what they should be."""


@contextlib.contextmanager
def open_hdf5(path: Path, what: str = "HDF5 file") -> Iterator[h5py.File]:
    """Open `path` for reading; whatever goes wrong with it inside the block becomes one sentence that names it.

    Args:
        path: the file.
        what: what it should be, for the sentence.

    Raises:
        DatasetError: it does not exist, or is not what it should be.
    """
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; expected a {what}.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError as error:
        message = str(error)
        raise DatasetError(message if str(path) in message else f"{path}: {message}") from error
    except _WRONG as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"{path}: not a readable {what} ({reason}).") from error


def members(group: h5py.Group) -> list[str]:
    """Names in a group, sorted.

    Raises:
        DatasetError: too many to be true.
    """
    if len(group) > MOST_MEMBERS:
        raise DatasetError(f"{group.name} claims {len(group)} members; at most {MOST_MEMBERS} are read.")
    return sorted(group)


def subgroup(parent: h5py.Group, name: str) -> h5py.Group:
    """The group `name` (a path of names) below `parent`.

    Raises:
        DatasetError: it is not there, is reached through a link to elsewhere, or is no group.
    """
    found = _inside(parent, name)
    if not isinstance(found, h5py.Group):
        raise DatasetError(f"{_full(parent, name)} is an array; expected a group.")
    return found


def array(
    parent: h5py.Group, name: str, *, ndim: int | None = None, text: bool = False, rows: int | None = None
) -> h5py.Dataset:
    """The array `name` below `parent`, checked and not yet read: slicing it is safe.

    Args:
        parent: the group.
        name: a path of names below it.
        ndim: how many dimensions it must have, or None.
        text: whether it holds texts instead of numbers.
        rows: slicing shall be safe up to this row; None: all. A growing file has rows of which nothing is stored yet.

    Raises:
        DatasetError: it is not there, lies elsewhere, is stored in a way that is not read, has another number of
            dimensions, or claims more than what is stored can hold.
    """
    found = _inside(parent, name)
    full = _full(parent, name)
    if not isinstance(found, h5py.Dataset):
        raise DatasetError(f"{full} is a group; expected an array.")
    _require_type(found, full, text)
    _require_storage(found, full, rows)
    if ndim is not None and found.ndim != ndim:
        raise DatasetError(f"{full} has shape {found.shape}; expected {ndim} dimensions.")
    return found


def read(parent: h5py.Group, name: str, *, ndim: int | None = None) -> NDArray[Any]:
    """All numbers of the array `name` below `parent`; see `array`."""
    return np.asarray(array(parent, name, ndim=ndim)[()])


def read_texts(parent: h5py.Group, name: str) -> list[str]:
    """All texts of the one-dimensional array `name` below `parent`; see `array`.

    Raises:
        DatasetError: as `array`, or a text is not UTF-8.
    """
    stored = array(parent, name, ndim=1, text=True)
    try:
        return [text.decode() if isinstance(text, bytes) else str(text) for text in stored[()]]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{_full(parent, name)} holds a text that is not UTF-8 ({error}).") from error


def attribute(owner: h5py.Group | h5py.Dataset, name: str) -> Any:
    """The attribute `name`: a text, a number, or an array of numbers.

    Raises:
        DatasetError: it is not there, or is anything else.
    """
    if name not in owner.attrs:
        raise DatasetError(f"{owner.name} has no attribute {name!r}.")
    stored = owner.attrs.get_id(name)
    kind = stored.dtype
    if h5py.check_string_dtype(kind) is None and kind.kind not in "biufSU":
        raise DatasetError(f"Attribute {name!r} of {owner.name} holds {kind}; expected a text or numbers.")
    if kind.itemsize * int(np.prod(stored.shape, dtype=np.float64)) > MOST_TEXT:
        raise DatasetError(f"Attribute {name!r} of {owner.name} is too large to be true.")
    value = owner.attrs[name]
    return value.decode() if isinstance(value, bytes) else value


def _inside(parent: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Walk to `name` over names that are really in the file: soft and external links are refused."""
    here: Any = parent
    for part in name.split("/"):
        if not isinstance(here, h5py.Group):
            raise DatasetError(f"{_full(parent, name)} is not in the file.")
        try:
            # Low-level on purpose: a third of the time of `in` and `get(getlink=True)`, and asked for every array.
            link = here.id.links.get_info(part.encode()).type
        except (KeyError, RuntimeError) as error:
            raise DatasetError(f"{_full(parent, name)} is not in the file.") from error
        if link != h5py.h5l.TYPE_HARD:
            kind = "another file" if link == h5py.h5l.TYPE_EXTERNAL else "another place"
            raise DatasetError(f"{_full(parent, name)} is a link to {kind}; links are not followed.")
        here = here[part]
    return here


def _require_type(found: h5py.Dataset, full: str, text: bool) -> None:
    is_text = h5py.check_string_dtype(found.dtype) is not None
    if text and not is_text:
        raise DatasetError(f"{full} holds {found.dtype}; expected texts.")
    if not text and found.dtype.kind not in "biuf":
        odd = "objects, which are never unpickled" if found.dtype.hasobject or found.dtype.kind == "V" else found.dtype
        raise DatasetError(f"{full} holds {odd}; expected numbers.")


def _require_storage(found: h5py.Dataset, full: str, rows: int | None = None) -> None:
    if found.shape is None:
        raise DatasetError(f"{full} is empty, without a shape; expected an array.")
    if found.is_virtual or found.external:
        raise DatasetError(f"{full} is stored in another file; expected its numbers in this one.")
    plan = found.id.get_create_plist()
    for index in range(plan.get_nfilters()):
        code = plan.get_filter(index)[0]
        if code not in _FILTERS:
            known = ", ".join(_FILTERS.values())
            raise DatasetError(f"{full} is packed by filter {code}, which is not read; known filters: {known}.")
    claimed = found.dtype.itemsize * int(np.prod(found.shape, dtype=np.float64))
    stored = found.id.get_storage_size()
    asked = (
        claimed if rows is None or not found.shape else claimed * min(rows, found.shape[0]) // max(1, found.shape[0])
    )
    if asked > _DENSEST * stored + _SLACK:
        raise DatasetError(f"{full} claims {asked} bytes and {stored} are stored; the file is damaged or a trap.")
    if found.chunks and found.dtype.itemsize * int(np.prod(found.chunks, dtype=np.float64)) > max(claimed, _SLACK):
        raise DatasetError(f"{full} is cut into chunks {found.chunks} that are larger than it is.")


def _full(parent: h5py.Group, name: str) -> str:
    return f"{str(parent.name).rstrip('/')}/{name}"


GROWING = {"rdcc_nbytes": 1 << 17}
"""Options of `h5py.File` for a file that grows for minutes: so many bytes of each array's chunks stay in memory; HDF5's
own 1 MB would fill up all through a take."""


def put_rows(dataset: h5py.Dataset, start: int, values: NDArray[Any]) -> None:
    """`dataset[start : start + len(values)] = values`, by HDF5's own calls: a row in a third of the time (measured).

    Args:
        dataset: (N, ...), long enough.
        start: the first row.
        values: (K, ...) of the dataset's row shape, which is not checked.
    """
    rows = np.ascontiguousarray(values)
    place = dataset.id.get_space()
    place.select_hyperslab((start, *[0] * (rows.ndim - 1)), rows.shape)
    dataset.id.write(h5py.h5s.create_simple(rows.shape), place, rows)
