"""Making camera frames vary while training: small shifts, and light of another brightness, contrast and colour.

Works on a whole batch, in numpy. All frames that a window shows of one camera are changed alike, because a camera does
not jump within half a second.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.batching.windows import Windows
from understudy.datasets.schema import is_image
from understudy.errors import InputError

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Share of red, green and blue in what the eye sees as brightness (ITU-R BT.601)."""
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageAugmentation:
    """How far frames are changed; called with windows and a generator, as a `Batches` transform. 0 changes nothing."""

    shift_px: int = 4
    """Largest shift in each direction; the border is repeated."""
    brightness: float = 0.2
    """All colours times a factor of 1 +- this."""
    contrast: float = 0.2
    """Distance from the mean grey times a factor of 1 +- this."""
    saturation: float = 0.2
    """Distance from a pixel's own grey times a factor of 1 +- this."""

    def __post_init__(self) -> None:
        if self.shift_px < 0:
            raise InputError(f"Augmentation: shift_px must not be negative, got {self.shift_px}.")
        for name in ("brightness", "contrast", "saturation"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"Augmentation: {name} must lie in [0, 1], got {getattr(self, name)}.")

    def __call__(self, windows: Windows, rng: np.random.Generator) -> Windows:
        """The windows with changed images; everything else is passed on."""
        changed = dict(windows.observations)
        for key in sorted(filter(is_image, changed)):
            changed[key] = self._recolour(shift(changed[key], self.shift_px, rng), rng)
        return dataclasses.replace(windows, observations=changed)

    def _recolour(self, frames: Frames, rng: np.random.Generator) -> Frames:
        spans = (self.brightness, self.contrast, self.saturation)
        factors = [rng.uniform(1.0 - span, 1.0 + span, len(frames)).astype(np.float32) for span in spans]
        return recolour(frames, *factors) if any(spans) else frames


def shift(frames: Frames, most_px: int, rng: np.random.Generator) -> Frames:
    """Frames (M, S, H, W, 3), each window moved by up to `most_px` in both directions, its border repeated."""
    if not most_px:
        return frames
    height, width = frames.shape[2:4]
    moved = np.empty_like(frames)
    by = rng.integers(-most_px, most_px, (len(frames), 2), endpoint=True)
    for window, (down, right) in enumerate(by.tolist()):
        rows = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        moved[window] = frames[window][:, rows][:, :, columns]
    return moved


def recolour(frames: Frames, brightness: NDArray[Any], contrast: NDArray[Any], saturation: NDArray[Any]) -> Frames:
    """Frames (M, S, H, W, 3) with their colours changed by factors (M,), 1 being as it was.

    With the grey g(x) of a colour x and the mean grey m of a window, in this order and rounded only at the end:

        x1 = brightness x;  x2 = m(x1) + contrast (x1 - m(x1));  x3 = g(x2) + saturation (x2 - g(x2))

    which is one matrix and one offset a window.
    """
    changed = np.empty_like(frames)
    for window, (light, span, colour) in enumerate(zip(brightness, contrast, saturation, strict=True)):
        pixels = frames[window].reshape(-1, 3).astype(np.float32)
        matrix = span * light * (colour * np.eye(3, dtype=np.float32) + (1 - colour) * GREY[:, None])
        offset = (1 - span) * light * float(pixels.mean(axis=0) @ GREY)
        values = np.rint(pixels @ matrix + np.float32(offset))
        changed[window] = np.clip(values, 0, 255).astype(np.uint8).reshape(frames.shape[1:])
    return changed
