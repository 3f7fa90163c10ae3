"""A window that shows an environment's pictures to a person, by pygame.

Without a display it says so at once. Owns nothing but the window: what is shown is drawn elsewhere.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.errors import InputError

SCALE = 2
"""Screen pixels a pixel of the picture."""
_INSTEAD = 'Use render_mode="rgb_array" (pictures as arrays), or record a video.'


class Window:
    """Opened by the first picture; closing it by hand leaves the program running."""

    def __init__(self, title: str) -> None:
        """Raises:
        InputError: there is no display, or pygame is not installed.
        """
        self._title = title
        self._pygame = _pygame()
        self._surface: Any = None
        self._closed = False

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture (height, width, 3).

        Raises:
            InputError: the window cannot be opened.
        """
        if self._closed:
            return
        pygame = self._pygame
        height, width = picture.shape[:2]
        if self._surface is None:
            try:
                pygame.display.init()
                self._surface = pygame.display.set_mode((SCALE * width, SCALE * height))
            except pygame.error as error:
                raise InputError(f'A window for render_mode="human" cannot be opened: {error}. {_INSTEAD}') from error
            pygame.display.set_caption(self._title)
        drawn = pygame.surfarray.make_surface(picture.swapaxes(0, 1))
        pygame.transform.scale(drawn, self._surface.get_size(), self._surface)
        pygame.display.flip()
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            self.close()

    def close(self) -> None:
        """Close the window; safe to call twice."""
        self._closed = True
        if self._surface is not None:
            self._surface = None
            self._pygame.display.quit()


def _pygame() -> Any:
    """pygame, after a look whether a window can be opened at all: SDL would say `x11 not available`."""
    if sys.platform == "linux" and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    ):
        raise InputError(f'render_mode="human" opens a window, and there is no display here. {_INSTEAD}')
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError as error:
        raise InputError(
            'render_mode="human" shows its window by pygame, which is not installed: '
            "pip install 'understudy[sim]' brings it."
        ) from error
    return pygame
