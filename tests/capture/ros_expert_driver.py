"""A process that drives a panda over ROS 2 with the scripted expert and announces its episodes, as a skill does.

Arguments: robot file, how many episodes, a file for its own record (JSON) of what it asked for and saw.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from std_msgs.msg import Float64MultiArray, String

from understudy.envs.arms.arm import Start
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_arm import RosArm
from understudy.envs.arms.ros_common import LATCHED, Graph
from understudy.envs.control import Control
from understudy.envs.experts.expert import make_expert
from understudy.envs.tasks.task import Verdict, make_task


def main(robot_file: str, episodes: int, record_file: str) -> None:
    robot, task = load_robot(robot_file), make_task("lift")
    arm = RosArm(robot, cameras=(), reset_service="/sim_arm/reset", node_name="expert")
    control = Control(Guard(arm), task.action_space, task.observation_keys, action_labels=task.action_labels)
    graph = Graph("expert_voice")
    requests = graph.node.create_publisher(Float64MultiArray, "/understudy/requested_action", 10)
    voice = graph.node.create_publisher(String, "/understudy/episode", LATCHED)
    graph.start()
    wait_for_watcher(voice)
    sensed = tuple(key for key in task.observation_keys if not key.startswith("tool_"))
    arm.wait_until_ready(sensed)
    record = []
    for number in range(episodes):
        expert, verdict = make_expert("lift", robot), Verdict(task, robot.rate_hz)
        aligned = control.reset(Start(robot.home))
        expert.reset(aligned.values)
        say(voice, "running", number, None, control)
        asked, seen = [], [np.asarray(aligned.values["tool_position"]).tolist()]
        while not verdict.success and len(asked) < task.horizon:
            action = np.clip(expert.act(aligned.values), control.actions.spec.low, control.actions.spec.high)
            requests.publish(Float64MultiArray(data=action.tolist()))
            control.apply(action)
            aligned = control.wait()
            verdict.judge(aligned.values)
            asked.append(action.tolist())
            seen.append(np.asarray(aligned.values["tool_position"]).tolist())
        say(voice, "ended", number, verdict.success, control)
        control.arm.hold()
        record.append({"asked": asked, "seen": seen, "success": verdict.success})
        time.sleep(0.3)
    Path(record_file).write_text(json.dumps(record))
    graph.close()
    control.arm.close()


def wait_for_watcher(voice: object) -> None:
    deadline = time.monotonic() + 30
    while voice.get_subscription_count() == 0 and time.monotonic() < deadline:
        time.sleep(0.05)


def say(voice: object, state: str, number: int, success: bool | None, control: Control) -> None:
    details = {
        "state": state,
        "episode": number,
        "success": success,
        "seed": None,
        "task": "lift",
        "operator": "expert",
    }
    voice.publish(String(data=json.dumps({**details, "action_spec": control.actions.spec.as_dict()})))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
