"""`understudy console`: the web page at which an operator records, looks through what was recorded, and judges it.

Everything but the page is `record`'s: this is the same command with a page, which drives the arm unless another device
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from understudy.capture.devices.make import AUTOMATIC, DEVICES
from understudy.cli.record import Record
from understudy.errors import InputError

__all__ = ["Console"]


@dataclass(frozen=True)
class Console(Record):
    """Record demonstrations from a web page, look through them, and judge them.

    Keys, mouse, touch or a gamepad at the page move the arm; its buttons prepare, start, stop, keep and drop takes. One
    page is in control, others watch. The same as `record --device browser`, with which it shares every option; with
    another --device that drives, the page shows and presses the buttons.

    Example:
        understudy console lift --episodes 10 --out demos/lift
        understudy console lift --out demos/lift --host 0.0.0.0
        understudy console lift --device gamepad --arm ros --robot franka.yaml --out demos/real
    """

    device: Annotated[str, tyro.conf.arg(metavar="|".join(DEVICES))] = "browser"
    """Who drives the arm."""
    console: bool = True
    """Serve the web page."""

    def run(self) -> int:
        if self.watch:
            raise InputError("--watch records by itself and has no page; use --arm watched to say when takes begin.")
        if self.device in AUTOMATIC and self.arm != "watched":
            raise InputError(
                f"--device {self.device} records without a person, and needs no page: understudy record {self.task} "
                f"--device {self.device}."
            )
        return super().run()
