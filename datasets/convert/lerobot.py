"""LeRobot v3.0, both ways: `read` and `write`, with their options.

What we write, LeRobot 0.4.4 opens; what it does not open, under understudy/, makes our own way back exact. The parts:
lerobot_layout (names, places, options); lerobot_plan, lerobot_statistics and lerobot_writer; lerobot_meta,
lerobot_steps, lerobot_own and lerobot_reader; video (MP4) and parquet (tables).
"""

from __future__ import annotations

from understudy.datasets.convert.lerobot_layout import LeRobotExport, LeRobotImport
from understudy.datasets.convert.lerobot_reader import read
from understudy.datasets.convert.lerobot_writer import write

__all__ = ["LeRobotExport", "LeRobotImport", "read", "write"]
