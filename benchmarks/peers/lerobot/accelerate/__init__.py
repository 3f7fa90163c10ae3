"""Stands in for accelerate: LeRobot's reader of datasets imports the name and never uses it."""


class Accelerator:
    """A name."""
