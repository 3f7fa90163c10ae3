"""A line for the person at the terminal, who may have closed it: that ends nothing, least of all a braking."""

from __future__ import annotations

import errno
import os
import sys
from typing import TextIO

GONE = (errno.EIO, errno.EPIPE)
"""What writing gives once the terminal was closed, or whoever read the output has left."""


def say(line: str, stream: TextIO | None = None) -> bool:
    """Print a line, by default to standard error; False: nobody hears it any more, nor what is written there later.

    Raises:
        OSError: it could not be written for another reason, such as a disk that is full.
    """
    stream = stream or sys.stderr
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        if error.errno not in GONE:
            raise
        # what it holds still is flushed once more as the process ends, and would change its exit code
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return False
    return True
