"""The robot that the benchmark of capture records: a Panda at 50 Hz with two cameras of 640 x 480."""

from __future__ import annotations

from understudy.envs.arms.robot import CameraDescription, RobotDescription, load_robot

CAMERAS = ("left", "right")
WIDTH, HEIGHT = 640, 480
JOINT_HZ, TICK_HZ = 500.0, 50.0


def bench_robot(compressed: bool) -> RobotDescription:
    """The robot; `compressed` gives it cameras of CompressedImage."""
    panda = load_robot("panda")
    ending = "/compressed" if compressed else ""
    cameras = {
        name: CameraDescription(
            topic=f"/{name}/image_raw{ending}", width=WIDTH, height=HEIGHT, max_age_s=2.0, rate_hz=30.0
        )
        for name in CAMERAS
    }
    joints = panda.ros.joint_states.model_copy(update={"rate_hz": JOINT_HZ, "max_age_s": 2.0})
    ros = panda.ros.model_copy(update={"cameras": cameras, "poses": {}, "openings": {}, "joint_states": joints})
    return panda.model_copy(update={"ros": ros, "rate_hz": TICK_HZ})
