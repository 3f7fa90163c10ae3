"""What every import owes: other people's names marked as such, and bounds and stamps whose origin is said.

Owns how a foreign name becomes an observation key, which number type observations get, and what stands in for a rate,
an action's bounds or a last observation that another format does not have. It knows no format.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.schema import OTHER, ActionSpec, is_image, key_unit
from understudy.errors import DatasetError, InputError

Array = NDArray[Any]
MOST_JSON = 256 << 20
"""Characters of a JSON text: Minari spells out the bounds of every pixel."""
SLOWEST_HZ, FASTEST_HZ = 0.01, 10_000.0
_NEVER_MOVED = 1.0
"""Half the width of the bounds of an action number that has one value throughout."""
_EXACT_IN_FLOAT32 = frozenset(["?", "b", "B", "h", "H", "e", "f"])


def parse_json(text: str, where: str) -> dict[str, Any]:
    """A JSON object from a stranger's text; `where` says whose it is.

    Raises:
        DatasetError: it is too long, too deep, or no JSON object.
    """
    if len(text) > MOST_JSON:
        raise DatasetError(f"{where} has {len(text)} characters; at most {MOST_JSON} are read.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is not readable JSON ({error}).") from error
    if not isinstance(value, dict):
        raise DatasetError(f"{where} is a JSON {type(value).__name__}; expected an object.")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        DatasetError: it is missing, a link to elsewhere, or not what `parse_json` reads; names the file.
    """
    require_plain_file(path)
    try:
        if path.stat().st_size > MOST_JSON:
            raise DatasetError(f"{path} has {path.stat().st_size} bytes; at most {MOST_JSON} are read.")
        return parse_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a readable text ({error}).") from error


def require_plain_file(path: Path) -> None:
    """Refuse what a folder from a stranger must not lead to.

    Raises:
        DatasetError: there is no file, or it is a link, which could point anywhere.
    """
    if path.is_symlink():
        raise DatasetError(f"{path} is a link; expected the file itself.")
    if path.is_dir():
        raise DatasetError(f"{path} is a folder; expected a file.")
    if not path.is_file():
        what = "is no plain file" if path.exists() else "does not exist"
        raise DatasetError(f"{path} {what}; expected a file.")


def plain_text(value: object, where: str) -> str:
    """A text that can be stored and printed.

    Raises:
        DatasetError: it is no text, or holds bytes that are no UTF-8.
    """
    if not isinstance(value, str):
        raise DatasetError(f"{where} is {type(value).__name__}; expected a text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where} is no UTF-8 text ({error.reason}).") from error
    return value


@contextlib.contextmanager
def inside(where: str) -> Iterator[None]:
    """Let errors in the block say which part of the file they are about."""
    try:
        yield
    except InputError as error:
        message = str(error)
        raise DatasetError(message if where in message else f"{where}: {message}") from error


def require_rate(rate_hz: float | None, renames: Mapping[str, str]) -> None:
    """Check the options that all imports have.

    Raises:
        InputError: no possible rate, or a name that is none of our words.
    """
    if rate_hz is not None and not SLOWEST_HZ <= rate_hz <= FASTEST_HZ:
        raise InputError(f"rate_hz is {rate_hz}; expected {SLOWEST_HZ} to {FASTEST_HZ:g} Hz.")
    for ours in renames.values():
        key_unit(ours)


def foreign_keys(names: Sequence[str], renames: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Their name -> our observation key: renamed by the user, known with certainty, or `other_<name>`.

    Args:
        names: their names.
        renames: their name -> ours, as the user says.
        known: their name -> ours, as the format says.

    Raises:
        DatasetError: two names become one key, or a rename names nothing.
    """
    if missing := sorted(set(renames) - set(names)):
        raise DatasetError(f"--keys renames {missing}, which the file does not have; it has {sorted(names)}.")
    keys: dict[str, str] = {}
    for name in names:
        key = renames.get(name) or known.get(name) or OTHER + (re.sub(r"[^0-9A-Za-z_]+", "_", name) or "_")
        if key in keys.values():
            raise DatasetError(f"{name!r} and another observation would both become {key!r}; rename one with --keys.")
        keys[name] = key
    return keys


def frames_key(name: str) -> str:
    """Key of a camera's frames."""
    return "image_" + (re.sub(r"[^0-9A-Za-z_]+", "_", name) or "_")


def are_frames(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether an array (N, ...) holds what our camera keys hold."""
    return dtype == np.uint8 and len(shape) == 4 and shape[-1] == 3 and 0 not in shape


def as_observation(key: str, values: Array) -> Array:
    """Observations as they are kept: float32, camera frames uint8."""
    if is_image(key):
        return values
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        return np.asarray(values, np.float32)


def is_rounded(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of this type do not all survive as float32."""
    return dtype.char not in _EXACT_IN_FLOAT32


ROUNDED = "Observations are kept as float32; numbers that came with more digits are rounded."
MEASURED = "What the arm really did was not recorded: the measured and the sent channel repeat the requested action."
NO_OUTCOME = "Whether an episode succeeded is not said in a way that is read: success is left unjudged."


def made_ticks(steps: int, rate_hz: float) -> NDArray[np.int64]:
    """(N,) stamps in ns of an episode whose own were not recorded, from 0 on."""
    return np.asarray(np.rint(np.arange(steps, dtype=np.float64) * (1e9 / rate_hz)), np.int64)


def made_stamps(rate_hz: float, origin: str) -> str:
    """The sentence that goes with `made_ticks`."""
    return (
        f"Times were not recorded: stamps are made at {rate_hz:g} Hz, {origin}; how old observations were is not known."
    )


class Bounds:
    """Between which bounds actions lie: those that the format declares, widened by what the data holds."""

    def __init__(self, size: int, low: Array | None = None, high: Array | None = None) -> None:
        """Declared bounds (A,), or None; those that are not finite count as not declared."""
        self._low = np.full(size, np.inf) if low is None else np.where(np.isfinite(low), low, np.inf).astype(float)
        self._high = (
            np.full(size, -np.inf) if high is None else np.where(np.isfinite(high), high, -np.inf).astype(float)
        )
        self._declared = np.isfinite(self._low) & np.isfinite(self._high)
        self.widened = False
        """Whether the data went beyond what was declared."""

    @property
    def size(self) -> int:
        """How many numbers an action has."""
        return len(self._low)

    def include(self, actions: Array) -> None:
        """Widen to hold actions (N, A).

        Raises:
            DatasetError: another width, no rows, or a value that is not finite.
        """
        if actions.ndim != 2 or actions.shape[1] != len(self._low) or len(actions) == 0:
            raise DatasetError(f"actions have shape {actions.shape}; expected (steps, {len(self._low)}).")
        if not np.all(np.isfinite(actions)):
            row = int(np.argmin(np.all(np.isfinite(actions), axis=1)))
            raise DatasetError(f"actions have a value that is not finite at row {row}.")
        low, high = np.min(actions, axis=0), np.max(actions, axis=0)
        self.widened |= bool(np.any(self._declared & ((low < self._low) | (high > self._high))))
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def spec(self, name: str, labels: Sequence[str], units: Sequence[str]) -> ActionSpec:
        """The action spec with these bounds; a number that has one value throughout gets room around it.

        Raises:
            DatasetError: the bounds are too far apart to be told apart.
        """
        low, high = self._low.copy(), self._high.copy()
        still = ~(low < high)
        room = np.maximum(_NEVER_MOVED, np.abs(low) * 1e-6)
        low, high = np.where(still, low - room, low), np.where(still, high + room, high)
        if not np.all(np.isfinite(high - low)):
            raise DatasetError(f"actions lie between {low.tolist()} and {high.tolist()}, which no arm means.")
        return ActionSpec(name, tuple(labels), tuple(units), tuple(low.tolist()), tuple(high.tolist()))
