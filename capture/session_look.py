"""How a session's view is made from what its thread knows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.capture.loop_config import LoopConfig
from understudy.capture.movers import when_gone
from understudy.capture.session import Session
from understudy.capture.session_prompt import prompt
from understudy.capture.session_view import SessionView, StreamLight
from understudy.capture.session_wishes import SessionWishes


def look(
    session: Session, wishes: SessionWishes, config: LoopConfig, *, now_ns: int, revision: int,
    lights: Sequence[StreamLight], cameras: tuple[str, ...], device_lost: bool, device_says: str, hardware: bool,
    finished: bool,
) -> SessionView:  # fmt: skip
    """The view of a session now.

    Args:
        session: what is looked at.
        wishes: what was last wished of it, and what came of that.
        config: how it is driven.
        now_ns: on the clock that counts down.
        revision: of the view.
        lights: how its sources are doing.
        cameras: whose picture can be had.
        device_lost: the device is gone.
        device_says: what the device would like the operator to know.
        hardware: a person brings arm and scene to the start.
        finished: nothing is left to be done.
    """
    robot, info = session.stage.control.robot, session.take_info
    seen = {} if session.stage.aligned is None else session.stage.aligned.values
    left_s = 0.0 if wishes.countdown_ns is None else max(0.0, (wishes.countdown_ns - now_ns) * 1e-9)
    tool = _numbers(seen.get("tool_position"))
    return SessionView(
        revision=revision,
        state=session.state,
        possible=wishes.possible(),
        task=session.stage.task.name,
        robot=robot.name,
        device=session.device.name,
        operator=session.config.operator,
        device_lost=device_lost,
        moved_by=session.moved_by,
        holding=session.moved_by == "session" and session.state != "recording",
        when_gone=when_gone(session.moved_by, session.device.name),
        dataset=str(session.dataset.path),
        episodes=wishes.episodes,
        aim=config.aim,
        kept=session.kept,
        waiting=tuple(session.unfinished),
        steps=session.steps,
        elapsed_s=round(session.steps * robot.period_s, 3),
        max_s=session.config.max_s,
        countdown_s=math.ceil(left_s * 10) / 10,
        success=session.success,
        marked=session.marked,
        intervening=session.intervening,
        note="" if info is None else info.note,
        prompt=prompt(
            session.state,
            countdown_s=left_s,
            placing=session.wanted if hardware else None,
            success=session.success,
            failing=bool(wishes.why_failing),
            device_lost=device_lost,
            device_says=device_says,
            finished=finished,
            steps=session.steps,
        ),
        message=wishes.message,
        lights=tuple(lights),
        findings=wishes.findings,
        cameras=cameras,
        joint_position=_numbers(seen.get("joint_position")),
        joint_names=robot.joint_names,
        joint_lower=_numbers(robot.joint_array("lower")),
        joint_upper=_numbers(robot.joint_array("upper")),
        gripper_m=next(iter(_numbers(seen.get("gripper_position"))), None),
        gripper_max_m=None if robot.gripper is None else robot.gripper.width,
        gripper_asked_m=session.gripper_asked_m,
        tool_position=(tool[0], tool[1], tool[2]) if len(tool) == 3 else None,
        finished=finished,
        error=wishes.error or wishes.unreadable,
    )


def _numbers(values: Any) -> tuple[float, ...]:
    """An array as plain numbers, as exact as a person cares for; empty for None."""
    return () if values is None else tuple(round(float(value), 5) for value in np.ravel(values))
