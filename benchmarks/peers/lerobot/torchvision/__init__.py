"""Stands in for torchvision, whose wheels want another torch; LeRobot's reader of datasets imports it."""
