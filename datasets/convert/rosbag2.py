"""ROS 2 bags, both ways: `read` and `write` with their options, and `describe_bag`, which begins a mapping file.

The parts: rosbag2_writer and bag_messages; rosbag2_reader on bag_mapping (the file that says what is what), bag_guess
(what is meant without one), bag_file (bags), bag_fields (messages); bag_samples, bag_clock, bag_episodes (alignment).
"""

from __future__ import annotations

from understudy.datasets.convert.bag_guess import describe_bag
from understudy.datasets.convert.rosbag2_reader import Rosbag2Import, read
from understudy.datasets.convert.rosbag2_writer import Rosbag2Export, write

__all__ = ["Rosbag2Export", "Rosbag2Import", "describe_bag", "read", "write"]
