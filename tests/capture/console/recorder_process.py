"""A recorder with a console, to be killed: `python -m capture.console.recorder_process FOLDER` prints its address."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from console_support import console

if __name__ == "__main__":
    with console(Path(sys.argv[1])) as stand:
        print(stand.url, flush=True)
        while True:
            time.sleep(1.0)
