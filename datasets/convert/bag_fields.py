"""From a ROS message to numbers or a frame: a path of field names, joints by name, units, and image encodings.

Owns what the fields of the common messages mean. It knows neither bags nor clocks.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.errors import DatasetError, InputError, unknown_name

UNITS: Mapping[str, float] = {
    "rad": 1.0,
    "deg": math.pi / 180.0,
    "rad/s": 1.0,
    "deg/s": math.pi / 180.0,
    "m": 1.0,
    "cm": 0.01,
    "mm": 0.001,
    "m/s": 1.0,
    "mm/s": 0.001,
    "N": 1.0,
    "N m": 1.0,
    "s": 1.0,
    "1": 1.0,
}
"""Unit that a bag's numbers are in -> how many of ours it is."""

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
DEFAULT_FIELDS: Mapping[str, str] = {
    "sensor_msgs/msg/JointState": "position",
    "trajectory_msgs/msg/JointTrajectory": "points[0].positions",
    "geometry_msgs/msg/PoseStamped": "pose",
    "geometry_msgs/msg/TwistStamped": "twist",
    "geometry_msgs/msg/PointStamped": "point",
    "geometry_msgs/msg/QuaternionStamped": "quaternion",
    "geometry_msgs/msg/Vector3Stamped": "vector",
    "geometry_msgs/msg/WrenchStamped": "wrench",
    "sensor_msgs/msg/Joy": "axes",
}
"""What is taken of a message when the mapping does not say; of others `data`."""
_STEP = re.compile(r"([a-z][A-Za-z0-9_]*)((?:\[\d{1,6}\])*)")
_JOINT_NAMES = ("name", "joint_names")
_CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "rgba8": 4, "bgra8": 4}
_MOST_PIXELS = 1 << 26
_DEEPEST = 6


def default_field(kind: str, key: str) -> str:
    """What is taken of a message of a type for an observation key, when the mapping does not say."""
    if kind == "sensor_msgs/msg/JointState":
        return {"joint_velocity": "velocity", "joint_effort": "effort"}.get(key, "position")
    if kind == "geometry_msgs/msg/PoseStamped":
        if key.endswith("_position"):
            return "pose.position"
        if key.endswith("_quaternion"):
            return "pose.orientation"
    return DEFAULT_FIELDS.get(kind, "data")


def unit_factor(unit: str) -> float:
    """How many of our units one of `unit` is.

    Raises:
        InputError: a unit that is not known.
    """
    if unit and unit not in UNITS:
        raise unknown_name("unit", unit, UNITS)
    return UNITS.get(unit, 1.0)


def require_path(path: str) -> None:
    """Refuse what is no path of field names, as in `points[0].positions`.

    Raises:
        InputError: it is not.
    """
    if not all(_STEP.fullmatch(step) for step in path.split(".")):
        raise InputError(f"Field {path!r} is no path of names; write it like pose.position.x or points[0].positions.")


def joint_names(message: Any) -> tuple[str, ...]:
    """The joints that a message names, or none."""
    for field in _JOINT_NAMES:
        names = getattr(message, field, None)
        if isinstance(names, list):
            return tuple(map(str, names))
    return ()


def numbers_at(message: Any, paths: Sequence[str], joints: Sequence[str]) -> NDArray[np.float64] | None:
    """The numbers at some paths of a message, one after the other; None where it has none of that.

    Args:
        message: as rosbags decodes it.
        paths: see `require_path`.
        joints: those to take, in this order, if the message names its joints; empty: all.

    Raises:
        DatasetError: no such field, or no numbers there.
    """
    values = [number for path in paths for number in _flat(_walk(message, path), path, 0)]
    if not values:
        return None
    found = np.asarray(values, np.float64)
    names = joint_names(message)
    if joints and names:
        if len(names) != len(found):
            raise DatasetError(f"{len(names)} joints are named and {', '.join(paths)} has {len(found)} numbers.")
        if not set(joints) <= set(names):
            return None  # joints may come in several messages, the gripper's in one of its own
        found = found[[names.index(joint) for joint in joints]]
    return found


def _walk(message: Any, path: str) -> Any:
    here = message
    for step in path.split("."):
        match = _STEP.fullmatch(step)
        if match is None:
            raise InputError(f"Field {path!r} is no path of names.")
        name, indices = match[1], re.findall(r"\d+", match[2])
        if not dataclasses.is_dataclass(here):
            raise DatasetError(f"field {path!r}: there is nothing below the step before {name!r}.")
        names = [field.name for field in dataclasses.fields(here) if not field.name.startswith("_")]
        if name not in names:
            raise DatasetError(f"field {path!r}: {unknown_name('field', name, names)}")
        here = getattr(here, name)
        for index in map(int, indices):
            if not isinstance(here, (list, np.ndarray)):
                raise DatasetError(f"field {path!r}: {name!r} is no list.")
            if index >= len(here):
                return []
            here = here[index]
    return here


def _flat(value: Any, path: str, depth: int) -> list[float]:
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return [float(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return [float(number) for number in value.reshape(-1)]
    if isinstance(value, list) and depth < _DEEPEST:
        return [number for part in value for number in _flat(part, path, depth + 1)]
    if dataclasses.is_dataclass(value) and depth < _DEEPEST:
        fields = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return [number for name in fields for number in _flat(getattr(value, name), f"{path}.{name}", depth + 1)]
    raise DatasetError(f"field {path!r} holds {type(value).__name__}; expected numbers.")


def frame_of(message: Any, kind: str) -> NDArray[np.uint8]:
    """The frame (height, width, 3) of an Image or CompressedImage.

    Raises:
        DatasetError: an encoding that is not read, or sizes that do not fit.
        MissingExtra: a compressed image, and Pillow is not installed.
    """
    return _unpacked(message) if kind.endswith("/CompressedImage") else _raw_frame(message)


def _raw_frame(message: Any) -> NDArray[np.uint8]:
    encoding = str(message.encoding)
    if encoding not in _CHANNELS:
        raise DatasetError(f"image encoding {encoding!r} is not read; known encodings: {', '.join(_CHANNELS)}.")
    channels = _CHANNELS[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.asarray(message.data, np.uint8)
    if not 0 < height * width <= _MOST_PIXELS or step < width * channels or len(data) < height * step:
        raise DatasetError(
            f"an image of {height}x{width} {encoding} with step {step} and {len(data)} bytes; these do not fit."
        )
    # Rows may be padded: the step says where each begins.
    frame = data[: height * step].reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(frame, 3, axis=2)
    colours = frame[:, :, :3]
    return np.ascontiguousarray(colours[:, :, ::-1] if encoding.startswith("bgr") else colours)


def _unpacked(message: Any) -> NDArray[np.uint8]:
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(bytes(message.data)), formats=("PNG", "JPEG")) as picture:
            if not 0 < picture.width * picture.height <= _MOST_PIXELS:
                raise DatasetError(f"a compressed image of {picture.height}x{picture.width}, too large to be true.")
            # ROS packs as bgr8 what OpenCV gave it, but the file inside has its colours in order.
            return np.asarray(picture.convert("RGB"), np.uint8)
    except DatasetError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError) as error:
        raise DatasetError(
            f"a compressed image ({str(message.format)[:40]!r}) that is no readable JPEG or PNG ({error})."
        ) from error
