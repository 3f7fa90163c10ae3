"""A simulated arm behind the topics of a real driver: what a commander of the real one sees, on the same names.

One thread: physics paced to real time, callbacks between two physics steps, pictures drawn in another process. Like
ros2_control, it keeps following the last target when its commander dies; nothing here limits or watches (that is
the commander's Guard and watchdog).

Beside the robot's own topics there are `/sim_arm/reset` (std_srvs/Trigger: the next seed's scene; answers JSON with
the seed) and `/sim_arm/success` (std_msgs/Bool, latched: the task has been done since the last reset).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.ros_common import LATCHED, Graph, array_to_image, finite_array, sensors, time_ns, to_time
from understudy.envs.arms.ros_sensors import Refuser
from understudy.envs.control import Control
from understudy.envs.tasks.task import Task, Verdict
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.envs.arms.sim_arm import SimArm
    from understudy.envs.arms.sim_camera import CameraProcess

Vector = NDArray[np.float64]

RESET_SERVICE = "/sim_arm/reset"
SUCCESS_TOPIC = "/sim_arm/success"
FRAME = "base"
STEP_NS = 4_000_000
"""Time given to physics between two callbacks: one step."""


@dataclass(frozen=True)
class SimDriverConfig:
    """How the simulated driver behaves."""

    seed: int = 0
    """Of the scene at start-up and of the first reset; each further reset counts up."""
    rate_hz: float = 100.0
    """Of joint states."""
    pose_rate_hz: float = 50.0
    camera_rate_hz: float = 10.0

    def __post_init__(self) -> None:
        for name in ("rate_hz", "pose_rate_hz", "camera_rate_hz"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= 240):
                raise InputError(f"sim-arm: {name} must be above 0 and at most 240 Hz (the physics), got {value}.")


@dataclass(frozen=True)
class WayPoint:
    """A point of a commanded path."""

    after_s: float
    """Seconds from now."""
    position: Vector
    """(J,) rad."""
    velocity: Vector | None
    """(J,) rad/s."""


class SimDriver:
    """Serves one simulated arm on the graph."""

    def __init__(
        self,
        arm: SimArm,
        task: Task,
        start_of: Callable[[int], Start],
        config: SimDriverConfig,
        camera: CameraProcess | None = None,
    ) -> None:
        """Args:
        arm: paced to real time.
        task: what success means.
        start_of: the scene of a seed.
        config: rates, first seed.
        camera: draws the pictures that are published; None for none.
        """
        self._arm = arm
        self._robot = arm.describe()
        self._start_of = start_of
        self._next_seed = config.seed
        self.resets = 0
        self._camera = camera
        self._control = Control(arm, task.action_space, (), action_labels=task.action_labels)
        self._verdict = Verdict(task, self._robot.rate_hz)
        self._succeeded = False
        self._follower = Follower(arm)
        self._width: tuple[int, float] | None = None
        self._fingers_before: tuple[int, Vector] | None = None
        self._graph = Graph("sim_arm", spin=False)
        self._refuser = Refuser(self._graph)
        self._advertise(task)
        self._listen()
        clock = arm.clock
        self._joints_due = Due(clock.now_ns(), config.rate_hz)
        self._poses_due = Due(clock.now_ns(), config.pose_rate_hz)
        self._camera_due = Due(clock.now_ns(), config.camera_rate_hz)
        self._judge_due = Due(clock.now_ns(), self._robot.rate_hz)
        self._put(start_of(config.seed))

    def _advertise(self, task: Task) -> None:
        node, ros = self._graph.node, self._robot.ros
        # ros2_control's own: reliable and transient local
        self._joint_states = node.create_publisher(JointState, ros.joint_states.topic, LATCHED)
        names = [*task.objects, *(key.removesuffix("_position") for key in _goal_keys(task))]
        topics = {name: ros.poses[name].topic if name in ros.poses else f"/{name}_pose" for name in names}
        self._poses = {name: node.create_publisher(PoseStamped, topic, sensors(5)) for name, topic in topics.items()}
        slides = [name for name, thing in task.objects.items() if thing.slide is not None]
        topics = {name: ros.openings[name].topic if name in ros.openings else f"/{name}_opening" for name in slides}
        self._openings = {name: node.create_publisher(JointState, topic, sensors(5)) for name, topic in topics.items()}
        self._images = None
        if self._camera is not None:
            self._images = node.create_publisher(Image, ros.cameras[self._camera.cameras[0]].topic, sensors(5))
        self._success = node.create_publisher(Bool, SUCCESS_TOPIC, LATCHED)

    def _listen(self) -> None:
        node, ros = self._graph.node, self._robot.ros
        if self._robot.gripper and ros.gripper_topic:
            node.create_subscription(Float64MultiArray, ros.gripper_topic, self._hear_gripper, sensors(10))
        if ros.command == "joint_trajectory":
            node.create_subscription(JointTrajectory, ros.command_topic, self._hear_trajectory, sensors(10))
        else:
            node.create_subscription(Float64MultiArray, ros.command_topic, self._hear_position, sensors(10))
        node.create_service(Trigger, RESET_SERVICE, self._serve_reset)

    # running

    def run(self, stop: Callable[[], bool]) -> None:
        """Serve until `stop()`; asked between any two physics steps."""
        while not stop():
            self._arm.clock.sleep_until(self._arm.clock.now_ns() + STEP_NS)
            self._graph.executor.spin_once(timeout_sec=0)
            self._tick(self._arm.clock.now_ns())

    def _tick(self, now_ns: int) -> None:
        self._send_waiting_width(now_ns)
        self._follower.advance(now_ns)
        joints, poses = self._joints_due.at(now_ns), self._poses_due.at(now_ns)
        camera, judge = self._camera_due.at(now_ns), self._judge_due.at(now_ns)
        if joints or poses or camera or judge:
            seen = self._arm.observe()
            stamp_ns = time.time_ns()
            if joints:
                self._publish_joints(seen, stamp_ns)
            if poses:
                self._publish_poses(seen, stamp_ns)
            if judge:
                self._judge(seen)
            if camera and self._camera is not None and not self._camera.busy:
                self._camera.ask(seen, stamp_ns)
        self._publish_picture()

    def close(self) -> None:
        """Leave the graph and end the camera; the arm is the caller's."""
        if self._camera is not None:
            self._camera.close()
        self._graph.close()

    @property
    def refused(self) -> int:
        """Commands that were not followed."""
        return sum(refusals.count for refusals in self._refuser.refused.values())

    # what it publishes

    def _publish_joints(self, seen: Observation, stamp_ns: int) -> None:
        message = JointState(name=list(self._robot.joint_names))
        message.header.stamp = to_time(stamp_ns)
        message.header.frame_id = FRAME
        position, velocity = list(seen["joint_position"]), list(seen["joint_velocity"])
        effort = list(seen["joint_effort"])
        if self._robot.gripper is not None:
            fingers = self._robot.finger_positions(float(seen["gripper_position"][0]))
            message.name = [*message.name, *self._robot.gripper.joints]
            position += list(fingers)
            velocity += list(self._finger_velocity(fingers, stamp_ns))
            effort += [math.nan] * len(fingers)  # as ros2_control writes what nobody measures
        message.position, message.velocity, message.effort = position, velocity, effort
        self._joint_states.publish(message)

    def _finger_velocity(self, fingers: Vector, stamp_ns: int) -> Vector:
        before, self._fingers_before = self._fingers_before, (stamp_ns, fingers)
        if before is None or stamp_ns <= before[0]:
            return np.zeros_like(fingers)
        return (fingers - before[1]) / ((stamp_ns - before[0]) * 1e-9)

    def _publish_poses(self, seen: Observation, stamp_ns: int) -> None:
        for name, publisher in self._poses.items():
            if f"{name}_position" in seen:
                turn = seen.values.get(f"{name}_quaternion", np.array([0.0, 0.0, 0.0, 1.0]))
                publisher.publish(_pose(seen[f"{name}_position"], turn, stamp_ns))
        for name, told in self._openings.items():
            message = JointState(name=[name], position=[float(seen[f"{name}_opening"][0])])
            message.header.stamp = to_time(stamp_ns)
            message.header.frame_id = FRAME
            told.publish(message)

    def _publish_picture(self) -> None:
        if self._camera is None or self._images is None:
            return
        drawn = self._camera.picture()
        if drawn is not None:
            self._images.publish(array_to_image(drawn.pixels, drawn.stamp_ns, f"{drawn.camera}_camera"))

    def _judge(self, seen: Observation) -> None:
        """Score the scene as training does; success stays said until the next reset."""
        self._verdict.judge(self._control.with_tool_pose(seen).values)
        if self._verdict.success and not self._succeeded:
            self._succeeded = True
            self._success.publish(Bool(data=True))

    # what it is told

    def _serve_reset(self, request: Trigger.Request, answer: Trigger.Response) -> Trigger.Response:
        seed = self._next_seed
        self._next_seed += 1
        self.resets += 1
        self._put(self._start_of(seed))
        answer.success, answer.message = True, json.dumps({"seed": seed})
        return answer

    def _put(self, start: Start) -> None:
        """Put arm and objects to a start, and forget what was commanded before."""
        self._arm.reset(start)
        self._follower.rest_at(np.asarray(start.joint_position, np.float64))
        self._width = self._fingers_before = None
        self._verdict.reset()
        self._succeeded = False
        self._success.publish(Bool(data=False))

    def _hear_trajectory(self, message: JointTrajectory) -> None:
        try:
            way = read_trajectory(message, self._robot, time.time_ns())
        except InputError as error:
            self._refuser.refuse(self._robot.ros.command_topic, str(error))
            return
        self._follow(way)

    def _hear_position(self, message: Float64MultiArray) -> None:
        try:
            position = finite_array(message.data, len(self._robot.joints), "command")
        except InputError as error:
            self._refuser.refuse(self._robot.ros.command_topic, str(error))
            return
        self._follow([WayPoint(self._robot.period_s, position, None)])

    def _hear_gripper(self, message: Float64MultiArray) -> None:
        """Keep the width for the joint command that follows; one that comes alone is sent a period later."""
        gripper = self._robot.require_gripper()
        try:
            fingers = finite_array(message.data, len(gripper.joints), "gripper command")
        except InputError as error:
            self._refuser.refuse(str(self._robot.ros.gripper_topic), str(error))
            return
        due_ns = self._arm.clock.now_ns() + round(self._robot.period_s * 1e9)
        self._width = (due_ns, float(np.clip(self._robot.gripper_width(fingers), 0.0, gripper.width)))

    def _follow(self, way: Sequence[WayPoint]) -> None:
        width, self._width = self._width, None
        self._follower.take(self._arm.clock.now_ns(), way, None if width is None else width[1])

    def _send_waiting_width(self, now_ns: int) -> None:
        if self._width is not None and now_ns >= self._width[0]:
            self._arm.send(Command(self._follower.set_point, self._width[1]))
            self._width = None


class Follower:
    """Plays a path on the arm as steps of about a control period; a new path replaces the one being played."""

    def __init__(self, arm: SimArm) -> None:
        self._arm = arm
        self._period_s = arm.describe().period_s
        self.rest_at(arm.describe().home)

    def rest_at(self, position: Vector) -> None:
        """The arm stands at `position` (J,) and nothing is to be played."""
        self.set_point = position
        self._steps: Iterator[tuple[int, Command]] = iter(())
        self._next: tuple[int, Command] | None = None

    def take(self, now_ns: int, way: Sequence[WayPoint], width: float | None) -> None:
        """Play `way` from now on; the first step goes out at once, with the gripper's width."""
        self._steps = self._plan(now_ns, way, width)
        self._next = next(self._steps, None)
        self.advance(now_ns)

    def advance(self, now_ns: int) -> None:
        """Send the steps that are due."""
        while self._next is not None and self._next[0] <= now_ns:
            command = self._next[1]
            self._arm.send(command)
            self.set_point = command.joint_position
            self._next = next(self._steps, None)

    def _plan(self, now_ns: int, way: Sequence[WayPoint], width: float | None) -> Iterator[tuple[int, Command]]:
        before, after_s = self.set_point, 0.0
        for point in way:
            length_s = point.after_s - after_s
            count = max(1, round(length_s / self._period_s))
            for index in range(count):
                due_ns = now_ns + round((after_s + index * length_s / count) * 1e9)
                position = before + (index + 1) / count * (point.position - before)
                velocity = point.velocity if index == count - 1 else (point.position - before) / length_s
                yield due_ns, Command(position, width, velocity)
                width = None
            before, after_s = point.position, point.after_s


class Due:
    """A fixed rate on the simulated clock, without bursts."""

    def __init__(self, now_ns: int, rate_hz: float) -> None:
        self._period_ns = round(1e9 / rate_hz)
        self._next_ns = now_ns

    def at(self, now_ns: int) -> bool:
        """Whether it is due now; true once a period."""
        if now_ns < self._next_ns:
            return False
        self._next_ns += self._period_ns
        if self._next_ns <= now_ns:
            self._next_ns = now_ns + self._period_ns
        return True


def read_trajectory(message: JointTrajectory, robot: RobotDescription, wall_ns: int) -> list[WayPoint]:
    """The points of a trajectory that lie ahead, in the robot's joint order.

    Raises:
        InputError: joints missing, foreign or twice, no points, sizes that do not fit, times that do not increase,
            values that are not finite, or a trajectory that has ended.
    """
    names, size = list(message.joint_names), len(robot.joints)
    if sorted(names) != sorted(robot.joint_names):
        raise InputError(f"trajectory is of joints {names}; expected all of {list(robot.joint_names)}")
    if not message.points:
        raise InputError("trajectory has no points")
    order = [names.index(name) for name in robot.joint_names]
    stamp_ns = time_ns(message.header.stamp)
    offset_s = 0.0 if stamp_ns == 0 else (stamp_ns - wall_ns) * 1e-9
    way: list[WayPoint] = []
    before_s = -math.inf
    for point in message.points:
        from_start_s = point.time_from_start.sec + point.time_from_start.nanosec * 1e-9
        if from_start_s <= before_s:
            raise InputError(f"trajectory's times must increase, got {from_start_s} s after {before_s} s")
        before_s = from_start_s
        position = finite_array(point.positions, size, "trajectory point")[order]
        velocity = None
        if len(point.velocities):
            velocity = finite_array(point.velocities, size, "trajectory point's velocities")[order]
        if from_start_s + offset_s >= 0.0:
            way.append(WayPoint(from_start_s + offset_s, position, velocity))
    if not way:
        raise InputError(f"trajectory ended {-(before_s + offset_s):.3f} s ago by its stamp")
    return way


def _goal_keys(task: Task) -> list[str]:
    return [key for key in task.observation_keys if key.startswith("goal_") and key.endswith("_position")]


def _pose(position: Any, quaternion: Any, stamp_ns: int) -> PoseStamped:
    message = PoseStamped()
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = FRAME
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = map(float, position)
    turn.x, turn.y, turn.z, turn.w = map(float, quaternion)
    return message
