"""`RosArm`: an arm behind the topics of a ROS 2 driver, as its robot file names them.

Callbacks only keep the latest samples; `send` and `hold` publish from the caller's thread. Nothing is sent unless
asked: closing does not move or hold the arm. ros2_control keeps the last target when its commander dies, so each
trajectory ends in a short stop of its own.

Who publishes on the command topic says thereby that it commands the arm. So this one publishes from its first command
on, not before, and sends nothing while anybody else does.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from numpy.typing import NDArray
from rclpy.duration import Duration as RclpyDuration
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.envs.arms.following import fresh_s
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.ros_common import COMMANDS, Graph, finite_array
from understudy.envs.arms.ros_sensors import Sample, Sensors
from understudy.envs.arms.ros_time import ArmTime, SimTime, WallTime
from understudy.errors import ArmFault, InputError

Vector = NDArray[np.float64]

LEAD_PERIODS = 0.25
"""A point is due this much later than the next command, so that a command that comes a little late meets motion."""
UNHEARD_S = 5.0
"""Commands that nobody has subscribed to for this long are a fault; before that, discovery may be under way."""
RIVALS_EVERY_S = 0.25
"""How often commands ask the graph who else commands."""
MATCH_TIMEOUT_S = 1.0
"""A new publisher waits this long for a controller that is known to listen; unmatched, its first message is lost."""
HOLD_AT_SENT_RAD = 0.05
"""An arm this near to what it was sent last is held there, not where it sags to."""
MOVED_AWAY_RAD = 0.2
"""An arm this far from where it is held was moved by somebody, and is not thrown back."""
POLL_S = 0.01
DEPTH_OF_ALL = 1000
"""Messages that DDS keeps for whoever wants every one: 2 s at 500 Hz."""
SERVICE_TIMEOUT_S = 10.0
ACKED_TIMEOUT_S = 0.5
STILL_RAD_S = 1e-6


class RosArm:
    """An arm over ROS 2. Observations are there as soon as the driver publishes: see `wait_until_ready`."""

    hardware = True
    """Its set point and its joints may part: the Guard limits how far, also where the robot's file says nothing."""

    def __init__(
        self,
        robot: RobotDescription,
        *,
        cameras: tuple[str, ...] | None = None,
        unpack: tuple[str, ...] | None = None,
        reset_service: str | None = None,
        node_name: str = "understudy_arm",
        also: Callable[[Sample], None] | None = None,
        sim_time: bool = False,
    ) -> None:
        """Join the graph and subscribe; returns at once.

        Args:
            robot: names topics and joints.
            cameras: those to subscribe to; None for all in the robot's file.
            unpack: of compressed cameras, those whose pictures are needed; None for all.
            reset_service: std_srvs/Trigger for `reset`, instead of the robot file's.
            node_name: on the graph.
            also: given every sample as it comes, in the graph's thread; for whoever records them.
            sim_time: the arm's clock is the topic /clock.

        Raises:
            InputError: a camera the robot's file does not have.
        """
        self._robot = robot
        self._latest: dict[str, Sample] = {}
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._sent: Vector | None = None
        self._held: Vector | None = None
        self._unheard_since_ns: int | None = None
        self._closed = False
        self._also = also
        self._graph = Graph(node_name)
        node, ros = self._graph.node, robot.ros
        arm_time: ArmTime = SimTime(self._graph) if sim_time else WallTime()
        self.clock: Clock = arm_time.clock
        self._steady = MonotonicClock()  # for what must end, whatever /clock says
        self._sensors = Sensors(
            self._graph,
            robot,
            self._keep,
            arm_time,
            cameras=cameras,
            unpack=unpack,
            depth=5 if also is None else DEPTH_OF_ALL,
            match=also is not None,
        )
        self._command_type: Any = JointTrajectory if ros.command == "joint_trajectory" else Float64MultiArray
        self._commands: Publisher[Any] | None = None
        self._fingers: Publisher[Any] | None = None
        self._alone_ns: int | None = None
        service = reset_service or ros.reset_service
        self._reset = node.create_client(Trigger, service) if service else None
        self._graph.start()
        self._sensors.subscriptions.start()

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self._robot

    def observe(self) -> Observation:
        """The latest sample of everything that came so far, each with its own stamp on the monotonic clock."""
        with self._lock:
            samples = list(self._latest.values())
        return Observation(
            {sample.key: sample.value.copy() if sample.value.flags.writeable else sample.value for sample in samples},
            {sample.key: sample.stamp_ns for sample in samples},
        )

    def send(self, command: Command) -> Command:
        """Publish one command.

        Raises:
            InputError: wrong number of joints, or a value that is not finite; nothing is published.
            ArmFault: nobody has subscribed to the command topic for some seconds, or another node commands the arm.
        """
        sent = self._checked(command)
        self._require_open()
        self._require_alone(RIVALS_EVERY_S)
        self._require_listener()
        self._take_command()
        with self._lock:
            self._require_open()
            self._sent, self._held = sent.joint_position, None
            if sent.gripper_position is not None and self._fingers is not None:
                fingers = self._robot.finger_positions(sent.gripper_position)
                self._fingers.publish(Float64MultiArray(data=fingers.tolist()))
            self._publish(sent.joint_position, sent.joint_velocity)
        return Command(
            sent.joint_position.copy(),
            sent.gripper_position,
            None if sent.joint_velocity is None else sent.joint_velocity.copy(),
        )

    def hold(self) -> None:
        """Publish where the arm is as the place to rest at; repeated holds repeat the same place.

        Nothing is published while the arm's joints are unknown. May be called from any thread.

        Raises:
            ArmFault: another node commands the arm, which a place to rest at would tear between two; nothing was sent.
        """
        if self._closed:
            return
        self._require_alone(0.0)
        with self._lock:
            place = self._held = self._place_to_hold()
        if place is None:
            return
        self._take_command()
        with self._lock:
            if not self._closed:
                self._publish(place, None)

    def reset(self, start: Start) -> Observation:
        """Have the reset service prepare arm and scene, and wait for samples from after that.

        A real arm cannot be teleported, and the service decides where an episode starts: `start` is only what it is
        hoped to be near.

        Raises:
            ArmFault: there is no reset service, it does not answer or says no, or samples do not come.
        """
        if self._reset is None:
            raise ArmFault(
                f"Robot {self._robot.name!r} has no reset service, and a real arm is not put anywhere by software: "
                "bring it to the start by hand (or its own program) and begin the episode there, or name a "
                "std_srvs/Trigger service as `ros.reset_service` in the robot's file."
            )
        self._call(self._reset)
        with self._lock:
            self._sent = self._held = None
            needed = tuple(self._latest) or ("joint_position",)
        self.wait_until_ready(needed, since_ns=self.clock.now_ns())
        return self.observe()

    def wait_until_ready(
        self, keys: tuple[str, ...] = ("joint_position",), timeout_s: float = 10.0, *, since_ns: int = 0
    ) -> None:
        """Wait until every key has a sample that is young enough (and from after `since_ns`).

        Raises:
            ArmFault: it took too long; says of each missing key which topic, and what is the matter with it.
            InputError: no topic of the robot's file gives a key.
        """
        for key in keys:
            self._sensors.topic(key)
        end_ns = self._steady.now_ns() + round(timeout_s * 1e9)
        while missing := self._not_fresh(keys, since_ns):
            if self._steady.now_ns() >= end_ns:
                reasons = dict.fromkeys(self._why_not_fresh(key) for key in missing)
                raise ArmFault(
                    f"No fresh {', '.join(missing)} from {self._robot.name!r} within {timeout_s:g} s: "
                    f"{'; '.join(reasons)}. Start the arm's driver, or correct the `ros:` section of the robot's file."
                )
            self._steady.sleep_until(self._steady.now_ns() + round(POLL_S * 1e9))

    @property
    def listened_to(self) -> bool:
        """Whether a controller has subscribed to the commands; discovery may take some seconds."""
        if self._commands is not None:
            return bool(self._commands.get_subscription_count() > 0)
        wanted = self._command_type.__name__
        return any(
            info.topic_type.endswith(f"/{wanted}")
            and info.qos_profile.durability != DurabilityPolicy.TRANSIENT_LOCAL  # wants more than COMMANDS offers
            for info in self._graph.node.get_subscriptions_info_by_topic(self._robot.ros.command_topic)
        )

    @property
    def rivals(self) -> tuple[str, ...]:
        """`/node publishes /topic` of all besides this one that command arm or gripper; two at once make it jerk."""
        topics = {self._robot.ros.command_topic: self._commands}
        if self._robot.gripper and self._robot.ros.gripper_topic:
            topics[self._robot.ros.gripper_topic] = self._fingers
        own, others = self._graph.node.get_fully_qualified_name(), []
        for topic, publisher in topics.items():
            found = self._graph.node.get_publishers_info_by_topic(topic)
            names = sorted(_name_of(info) for info in found)
            if publisher is not None and own in names:
                names.remove(own)
            others += [f"{name} publishes {topic}" for name in names]
        return tuple(others)

    @property
    def refused(self) -> dict[str, int]:
        """Topic -> messages that could not be used so far."""
        return {topic: refusals.count for topic, refusals in self._sensors.refuser.refused.items()}

    def why_missing(self, key: str) -> str:
        """Why no (new) sample of a sensed key may have come, as a clause.

        Raises:
            InputError: no topic of the robot's file gives this key.
        """
        return self._sensors.why_missing(key)

    def published(self, key: str) -> bool:
        """Whether anybody publishes the topic that a sensed key comes from, as far as discovery has come."""
        return self._sensors.published(key)

    def lost(self, key: str) -> int:
        """Messages with a sample of a key that were published and did not arrive."""
        return self._sensors.lost(key)

    def expected_hz(self, key: str) -> float | None:
        """How often the robot's file says that a key comes; None where it does not."""
        return self._sensors.expected_hz(key)

    def remarks(self) -> list[str]:
        """Sentences on what has happened to its topics since the last call."""
        return self._sensors.remarks()

    def close(self) -> None:
        """Leave the graph once what was published has been received; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._commands is not None:
            self._commands.wait_for_all_acked(RclpyDuration(seconds=ACKED_TIMEOUT_S))
        self._sensors.subscriptions.close()
        self._graph.close()

    # sensing

    def _keep(self, sample: Sample) -> None:
        with self._lock:
            self._latest[sample.key] = sample
        if self._also is not None:
            self._also(sample)

    def _not_fresh(self, keys: tuple[str, ...], since_ns: int) -> list[str]:
        now_ns = self.clock.now_ns()
        with self._lock:
            latest = dict(self._latest)
        return [
            key
            for key in keys
            if key not in latest
            or latest[key].stamp_ns < since_ns
            or (now_ns - latest[key].stamp_ns) * 1e-9 > self._sensors.max_age_s(key)
        ]

    def _why_not_fresh(self, key: str) -> str:
        with self._lock:
            sample = self._latest.get(key)
        if sample is None:
            return self._sensors.why_missing(key)
        age_s = (self.clock.now_ns() - sample.stamp_ns) * 1e-9
        received_s = (self.clock.now_ns() - sample.receive_ns) * 1e-9
        why = f"{self._sensors.topic(key)} was last received {received_s:.1f} s ago, stamped {age_s:.1f} s ago"
        return why + (" (do both machines' clocks agree?)" if age_s - received_s > 1.0 and received_s < 1.0 else "")

    # commanding

    def _checked(self, command: Command) -> Command:
        """A copy of the command, or an InputError."""
        name, size = self._robot.name, len(self._robot.joints)
        try:
            position = finite_array(command.joint_position, size, f"Command for {name!r}: joint_position")
            velocity = None
            if command.joint_velocity is not None:
                velocity = finite_array(command.joint_velocity, size, f"Command for {name!r}: joint_velocity")
            gripper = command.gripper_position
            if gripper is not None:
                gripper = float(finite_array([gripper], 1, f"Command for {name!r}: gripper_position")[0])
        except InputError as error:
            raise InputError(f"{error}; nothing was sent. The order is {list(self._robot.joint_names)}.") from error
        return Command(position, gripper, velocity)

    def _require_open(self) -> None:
        if self._closed:
            raise ArmFault(f"Arm {self._robot.name!r} is closed; nothing can be sent any more.")

    def _require_alone(self, every_s: float) -> None:
        """Look who else commands, if that was last looked for `every_s` ago; beside another, forget what was sent."""
        now_ns = self._steady.now_ns()
        if self._alone_ns is not None and (now_ns - self._alone_ns) * 1e-9 < every_s:
            return
        rivals = self.rivals
        self._alone_ns = None if rivals else now_ns
        if rivals:
            with self._lock:
                self._sent = self._held = None
            raise ArmFault(
                f"Another node commands the arm: {', '.join(rivals)}. Nothing more was sent; stop one of the two."
            )

    def _take_command(self) -> None:
        """Begin to publish commands, and wait until who listens on the topic can hear them."""
        with self._taking:
            if self._commands is not None:
                return
            node, ros = self._graph.node, self._robot.ros
            heard = self.listened_to
            if self._robot.gripper and ros.gripper_topic:
                self._fingers = node.create_publisher(Float64MultiArray, ros.gripper_topic, COMMANDS)
            self._commands = node.create_publisher(self._command_type, ros.command_topic, COMMANDS)
            end_ns = self._steady.now_ns() + round(MATCH_TIMEOUT_S * 1e9)
            while heard and not self.listened_to and self._steady.now_ns() < end_ns:
                self._steady.sleep_until(self._steady.now_ns() + round(POLL_S * 1e9))

    def _require_listener(self) -> None:
        if self.listened_to:
            self._unheard_since_ns = None
            return
        now_ns = self._steady.now_ns()
        if self._unheard_since_ns is None:
            self._unheard_since_ns = now_ns
        if (now_ns - self._unheard_since_ns) * 1e-9 > UNHEARD_S:
            ros = self._robot.ros
            raise ArmFault(
                f"Nobody listens on {ros.command_topic}, so the arm cannot be commanded: start and activate its "
                f"controller (command type {ros.command!r}), or correct `ros.command_topic` in the robot's file."
            )

    def _place_to_hold(self) -> Vector | None:
        """Where to rest (J,): as before, or at what was sent last, or where the arm is; None: that is not known.

        What was told last counts for more than a reading that is not fresh: the arm has gone on since.
        """
        sample = self._latest.get("joint_position")
        told = self._sent if self._held is None else self._held
        age_s = math.inf if sample is None else (self.clock.now_ns() - sample.stamp_ns) * 1e-9
        oldest_s = self._sensors.max_age_s("joint_position") if told is None else fresh_s(self._robot)
        if sample is None or age_s > oldest_s:
            return told
        measured = np.asarray(sample.value, np.float64)
        if self._held is not None and np.max(np.abs(self._held - measured)) < MOVED_AWAY_RAD:
            return self._held
        if self._sent is not None and np.max(np.abs(self._sent - measured)) < HOLD_AT_SENT_RAD:
            return self._sent
        return measured

    def _publish(self, position: Vector, velocity: Vector | None) -> None:
        assert self._commands is not None
        if self._robot.ros.command == "position":
            self._commands.publish(Float64MultiArray(data=position.tolist()))
        else:
            self._commands.publish(step_trajectory(self._robot, position, velocity))

    def _call(self, client: Any) -> None:
        """Call a Trigger service and wait for its consent."""
        name = client.srv_name
        if not client.wait_for_service(timeout_sec=SERVICE_TIMEOUT_S):
            raise ArmFault(
                f"The reset service {name} was not there within {SERVICE_TIMEOUT_S:g} s; is its node running?"
            )
        answered = threading.Event()
        future = client.call_async(Trigger.Request())
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(SERVICE_TIMEOUT_S):
            raise ArmFault(f"The reset service {name} did not answer within {SERVICE_TIMEOUT_S:g} s.")
        answer = future.result()
        if not answer.success:
            raise ArmFault(f"The reset service {name} says no: {answer.message or 'it gives no reason'}.")


UNNAMED = "a node whose name is not known yet"


def _name_of(publisher: Any) -> str:
    """The full name of a publisher's node; discovery finds publishers before it knows whose they are."""
    if publisher.node_name.startswith("_NODE_NAME_UNKNOWN"):
        return UNNAMED
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"


def step_trajectory(robot: RobotDescription, position: Vector, velocity: Vector | None) -> JointTrajectory:
    """The message for one step: to `position` (J,) in a control period and a little, stamp 0 (now).

    A step with a velocity (J,) goes on into a stop within the joints' acceleration and position limits: it is replaced
    by the next step, unless the commander has died. A trajectory controller may also refuse one that ends in motion.
    """
    message = JointTrajectory(joint_names=list(robot.joint_names))
    due_s = robot.period_s * (1.0 + LEAD_PERIODS)
    still = np.zeros(len(position))
    if velocity is None or np.max(np.abs(velocity)) < STILL_RAD_S:
        message.points = [_point(position, still, due_s)]
        return message
    stop_s = max(robot.period_s, float(np.max(np.abs(velocity) / robot.joint_array("acceleration"))))
    lower, upper = robot.joint_array("lower"), robot.joint_array("upper")
    rest = np.clip(position + 0.5 * stop_s * velocity, np.minimum(lower, position), np.maximum(upper, position))
    message.points = [_point(position, velocity, due_s), _point(rest, still, due_s + stop_s)]
    return message


def _point(position: Vector, velocity: Vector, after_s: float) -> JointTrajectoryPoint:
    after_ns = round(after_s * 1e9)
    return JointTrajectoryPoint(
        positions=position.tolist(),
        velocities=velocity.tolist(),
        time_from_start=Duration(sec=after_ns // 1_000_000_000, nanosec=after_ns % 1_000_000_000),
    )
