"""Taking over on a real graph: a clone drives `understudy sim-arm`, and an operator with a joystick takes over."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pybullet")
pytest.importorskip("torch")

from deploy_support import manifest, write_tiny
from envs_ros_support import PlainNode, SimArmProcess, own_domain, positions, wait_until
from sensor_msgs.msg import Joy
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from understudy.capture.ros_services import PREFIX, STATE_TOPIC
from understudy.cli.main import main
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset
from understudy.envs.arms.actions import make_action_space
from understudy.envs.arms.arm import Command
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_common import LATCHED
from understudy.envs.tasks.task import make_task
from understudy.learners.policies import RunPolicy

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
REACH = make_task("reach")
RIGHT_STICK = 10
"""Pressed, it releases: see the layout `xbox`."""


class Stick:
    """A joystick's node: repeats what its operator does, 50 times a second."""

    def __init__(self, node: PlainNode) -> None:
        self._publisher = node.node.create_publisher(Joy, "/joy", 10)
        self._message = self._joy(0.0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def hold(self, x: float, *pressed: int) -> int:
        """From now on this is what is pushed and pressed; returns when, on the monotonic clock."""
        self._message = self._joy(x, *pressed)
        return time.monotonic_ns()

    def _joy(self, x: float, *pressed: int) -> Joy:
        axes = [0.0, x, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
        return Joy(axes=axes, buttons=[int(button in pressed) for button in range(11)])

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self._publisher.publish(self._message)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


class Session:
    """`understudy record`, called and looked at by its services."""

    def __init__(self, node: PlainNode, task: str, policy: Path, out: Path) -> None:
        self._node = node.node
        self.told: list[Any] = node.listen(String, STATE_TOPIC, LATCHED)
        options = [
            "--device",
            "joy",
            "--reset-service",
            "/sim_arm/reset",
            "--services",
            "--countdown",
            "0",
            "--cameras",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "understudy", "record", task, "--policy", str(policy), "--arm", "ros", *options,
             "--episodes", "1", "--json", "--out", str(out)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
        )  # fmt: skip

    @property
    def view(self) -> dict[str, Any]:
        self.require_alive()
        return json.loads(self.told[-1].data) if self.told else {"state": "", "steps": 0, "intervening": False}

    def require_alive(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        return True

    def call(self, wish: str) -> str:
        client = self._node.create_client(Trigger, f"{PREFIX}/{wish}")
        wait_until(lambda: self.require_alive() and client.service_is_ready(), f"the service {wish}", 40.0)
        future = client.call_async(Trigger.Request())
        wait_until(future.done, f"an answer to {wish}")
        assert future.result().success, future.result().message
        return str(future.result().message)

    def end(self) -> dict[str, Any]:
        out, said = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, said
        return json.loads(out.splitlines()[-1])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@dataclass(frozen=True)
class Take:
    """What was recorded, beside what was done and heard meanwhile."""

    episode: Episode
    pushed_ns: int
    let_go_ns: int
    released_ns: int
    commands: np.ndarray
    """(C, 7) rad: everything that was sent to the arm, in order."""
    widths: np.ndarray
    """(D,) m: everything that was sent to its gripper."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small policy of `reach`, cloned from six simulated demonstrations."""
    folder = tmp_path_factory.mktemp("clone")
    demos, run = str(folder / "demos"), folder / "run"
    assert main(["record", "reach", "--device", "scripted", "--episodes", "6", "--out", demos, "--json"]) == 0
    small = ["--updates", "200", "--hidden", "64", "64", "--spins", "2", "--ema", "0.98"]
    assert main(["train", "bc", demos, "--out", str(run), *small, "--json"]) == 0
    return run


@pytest.fixture(scope="module")
def take(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Take:
    return record("reach", clone, tmp_path_factory.mktemp("take") / "corrected")


def record(task: str, policy: Path, out: Path) -> Take:
    """The policy drives for a third of a second, the operator for one and a bit, and then the policy again."""
    with own_domain():
        arm = SimArmProcess("--task", task, "--seed", "3", "--no-camera")
        node = PlainNode("person")
        stick, session = Stick(node), Session(node, task, policy, out)
        commands: list[JointTrajectory] = node.listen(JointTrajectory, PANDA.ros.command_topic, 100)
        fingers: list[Float64MultiArray] = node.listen(Float64MultiArray, str(PANDA.ros.gripper_topic), 100)
        try:
            session.call("prepare")
            session.call("start")
            wait_until(lambda: session.view["steps"] >= 6, "the policy's first steps")
            pushed_ns = stick.hold(-1.0)  # towards the arm's base
            wait_until(lambda: session.view["intervening"], "taking over")
            time.sleep(0.8)
            let_go_ns = stick.hold(0.0)
            time.sleep(0.3)
            released_ns = stick.hold(0.0, RIGHT_STICK)
            wait_until(lambda: not session.view["intervening"], "handing back")
            stick.hold(0.0)
            steps = session.view["steps"]
            wait_until(lambda: session.view["state"] == "review" or session.view["steps"] > steps + 40, "the policy")
            if session.view["state"] == "recording":
                session.call("stop")
            if not session.view["success"]:  # the gate asks twice of a take that is none
                session.call("success")
            session.call("keep")
            assert session.end()["recorded"] == 1
        finally:
            session.close()
            stick.close()
            node.close()
            arm.close()
    (episode,) = Dataset.open(out).episodes()
    widths = np.array([PANDA.gripper_width(message.data) for message in fingers])
    return Take(episode, pushed_ns, let_go_ns, released_ns, positions(commands), widths)


def driven(take: Take) -> tuple[int, int]:
    """The operator's steps: the first, and the first that is the policy's again."""
    flags = np.concatenate([[False], take.episode.intervention, [False]])
    (begin,), (end,) = np.nonzero(np.diff(flags.astype(int)) == 1), np.nonzero(np.diff(flags.astype(int)) == -1)
    assert (len(begin), len(end)) == (1, 1), "one stretch of steps was the operator's"
    return int(begin[0]), int(end[0])


def test_the_flags_mark_the_steps_from_the_push_to_the_release(take: Take):
    begin, end = driven(take)
    assert 6 <= begin < end <= len(take.episode) - 5
    late_s = (take.episode.tick_ns[[begin, end]] - [take.pushed_ns, take.released_ns]) * 1e-9
    # a message comes within 20 ms, and is read at the next tick, a little after its stamp
    assert np.all(late_s > -0.05)
    assert np.all(late_s < 0.25)
    assert take.episode.info.device == "policy and joy"


def test_what_was_requested_is_the_operators_on_these_steps_and_the_policys_on_all_others(take: Take, clone: Path):
    episode, (begin, end) = take.episode, driven(take)
    policy = RunPolicy(clone)()
    asked = []
    for step in range(len(episode)):
        if step in (0, end):
            policy.reset()  # as at the start, and when it was handed back
        if not begin <= step < end:
            seen = {key: values[step] for key, values in episode.observations.items()}
            action = episode.info.action_spec.denormalise(policy.act(seen))
            assert episode.requested[step] == pytest.approx(action, abs=1e-6)
            asked.append(action)
    assert np.max(np.abs(np.array(asked)[:, 1:])) > 1e-3  # the policy moves in y and z, the operator does not
    theirs = episode.requested[begin:end]
    assert np.all(theirs[:, 1:] == 0.0)
    pushed = (episode.tick_ns[begin:end] - take.let_go_ns) * 1e-9
    assert np.all(theirs[pushed < -0.05, 0] < 0.0)
    assert theirs[-1, 0] == 0.0  # let go: nothing moves, and it is still theirs


def test_what_was_sent_is_what_the_arm_was_told_and_never_jumps(take: Take):
    episode, commands = take.episode, take.commands
    count = len(episode)
    assert len(commands) >= count  # and then those that brake it
    space = make_action_space(REACH.action_space, PANDA, Kinematics(PANDA), REACH.action_labels)
    sent = [space.encode(Command(a), Command(b)) for a, b in itertools.pairwise(commands[:count])]
    assert episode.sent[1:] == pytest.approx(np.array(sent), abs=1e-6)
    for order, limit in enumerate(("velocity", "acceleration", "jerk"), start=1):
        largest = np.abs(np.diff(commands, n=order, axis=0)).max(axis=0) * PANDA.rate_hz**order
        assert np.all(largest <= PANDA.joint_array(limit) * (1 + 1e-6)), (limit, largest)
    stood = episode.observations["joint_position"][0]
    first = np.abs(commands[0] - stood) * PANDA.rate_hz**3
    assert np.all(first <= PANDA.joint_array("jerk") + 1e-3 * PANDA.rate_hz**3)  # and 1 mrad of standing
    assert commands[-1] == pytest.approx(commands[-2], abs=1e-3)  # braked to rest, which it came to between the two


def test_its_stamps_are_a_control_period_apart_and_its_readings_young(take: Take):
    episode = take.episode
    periods_s = np.diff(episode.tick_ns) * 1e-9
    assert np.median(periods_s) == pytest.approx(PANDA.period_s, rel=0.02)
    begin, end = driven(take)
    around = periods_s[[begin - 1, begin, end - 1, end]]  # neither hand-over holds the loop up
    assert np.all(around < 3 * PANDA.period_s)
    joints = episode.streams["joint_position"]
    assert joints.receives_ns is not None
    came = np.searchsorted(joints.receives_ns, episode.tick_ns[[begin, end]], side="right") - 1
    for step, latest in zip((begin, end), came, strict=True):
        near = np.abs(joints.values[latest - 1 : latest + 2] - episode.observations["joint_position"][step]).max(1)
        assert near.min() < 1e-5


@pytest.mark.slow
def test_what_a_skill_grips_stays_gripped_through_both_hand_overs(tmp_path: Path):
    """A skill's file drives instead of a run's folder: it closes the gripper, and goes up."""
    asked = np.array([0.0, 0.05, 0.1, 0.0, 0.0, 0.0, -1.0])
    skill = write_tiny(tmp_path / "grip.skill", asked, made=manifest(space="tool_delta"))
    take = record("lift", skill, tmp_path / "corrected")
    episode, (begin, end) = take.episode, driven(take)
    theirs = np.zeros(len(episode), bool)
    theirs[begin:end] = True
    policys = np.array(episode.info.action_spec.denormalise(asked))
    assert np.allclose(episode.requested[~theirs], policys, atol=1e-6)
    assert np.all(episode.requested[theirs, 1:6] == 0.0)
    assert np.all(episode.requested[:, 6] == 0.0)  # also the operator's steps: nobody pressed the gripper's button
    assert take.widths[0] < 0.08
    assert np.all(np.diff(take.widths) <= 1e-9)  # the gripper is never told to open
    assert np.max(-np.diff(take.widths)) <= PANDA.gripper.speed * PANDA.period_s + 1e-9
    for order, limit in enumerate(("velocity", "acceleration", "jerk"), start=1):
        largest = np.abs(np.diff(take.commands, n=order, axis=0)).max(axis=0) * PANDA.rate_hz**order
        assert np.all(largest <= PANDA.joint_array(limit) * (1 + 1e-6)), (limit, largest)
