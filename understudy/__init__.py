"""Understudy: capture demonstrations on a robot arm, learn from them, and put the result back on the arm.

This module owns the version and the one packaging rule: the rooms (`datasets/`, `envs/`, `capture/`,
`learners/`, `deploy/`) stand at the top of the repository and are subpackages of `understudy` once installed.
It imports nothing else, so that `import understudy` stays cheap on the robot.
"""

from pathlib import Path

__version__ = "0.1.0"

_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file():
    # A checkout or an editable install: `understudy.datasets` is ./datasets, a namespace portion (no
    # `__init__.py`, which would shadow Hugging Face's `datasets` for everything run from the repository's
    # root).
    __path__.append(str(_checkout))
del _checkout, Path

__all__ = ["__version__"]
