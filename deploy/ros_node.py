"""The deployed skill's face on the ROS 2 graph: what it tells (state, episode, actions, diagnostics) and asks.

Owns the node `understudy_deploy`, its thread, and the stop signals. Callbacks only store what came; decisions are made
in the main thread by the runner. The arm's own topics belong to `envs/arms/ros_arm.py`.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.duration import Duration
from std_msgs.msg import Bool, Float64MultiArray, MultiArrayDimension, MultiArrayLayout, String
from std_srvs.srv import Trigger

from understudy.datasets.schema import SKILL_OPERATES
from understudy.deploy.runner import LOOP, SkillRunner, Tick
from understudy.deploy.saying import say
from understudy.deploy.skill import SkillManifest
from understudy.deploy.watchdog import Source, Watchdog
from understudy.envs.arms.ros_common import LATCHED, Graph
from understudy.errors import ArmFault

NODE = "understudy_deploy"
REQUESTED_TOPIC = "/understudy/requested_action"
EPISODE_TOPIC = "/understudy/episode"
STATE_TOPIC = "/understudy/state"
DIAGNOSTICS_TOPIC = "/diagnostics"
DIAGNOSTICS_PERIOD_S = 1.0
STALL_CHECK_PERIOD_S = 0.1
ACK_TIMEOUT_S = 1.0


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP set a flag while this context is entered; the loop asks for it every tick.

    SIGHUP comes when the terminal is closed; a process that was started to ignore it (`nohup`) goes on doing so.
    """

    def __init__(self) -> None:
        self._name: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._name = signal.Signals(number).name

    @property
    def why(self) -> str | None:
        """Which signal came, as a sentence; None: none."""
        return None if self._name is None else f"Stopped by {self._name}."


class DeployNode:
    """`deployment.Front` on the graph."""

    def __init__(self, manifest: SkillManifest, signals: StopSignals, success_topic: str | None) -> None:
        """Join the graph; callbacks run in a thread of their own."""
        self._manifest = manifest
        self._signals = signals
        self._success_topic = success_topic
        self._state = "starting"
        self._success = threading.Event()
        self._stalled: str | None = None
        self._closed = False
        self._watchdog: Watchdog | None = None
        self._emergency_hold: Callable[[], None] | None = None
        self._graph = Graph(NODE)
        self._node = self._graph.node
        self._requested = self._node.create_publisher(Float64MultiArray, REQUESTED_TOPIC, 10)
        self._episodes = self._node.create_publisher(String, EPISODE_TOPIC, LATCHED)
        self._states = self._node.create_publisher(String, STATE_TOPIC, LATCHED)
        self._diagnostics = self._node.create_publisher(DiagnosticArray, DIAGNOSTICS_TOPIC, 10)
        if success_topic is not None:
            self._node.create_subscription(Bool, success_topic, self._hear_success, LATCHED)
        # Steady, not ROS, time: with use_sim_time and no /clock, timers on ROS time never fire.
        steady = RosClock(clock_type=ClockType.STEADY_TIME)
        self._node.create_timer(DIAGNOSTICS_PERIOD_S, self.publish_diagnostics, clock=steady)
        self._node.create_timer(STALL_CHECK_PERIOD_S, self._check_loop, clock=steady)
        labels = self._manifest.action_spec.labels
        dimension = MultiArrayDimension(label=",".join(labels), size=len(labels), stride=len(labels))
        self._layout = MultiArrayLayout(dim=[dimension], data_offset=0)
        self._graph.start()

    def watch(self, runner: SkillRunner, emergency_hold: Callable[[], None]) -> None:
        """Report the runner's sources in the diagnostics, and hold by `emergency_hold` if its loop stalls."""
        self._watchdog = runner.watchdog
        self._emergency_hold = None if runner.config.shadow else emergency_hold

    @property
    def recorded(self) -> bool:
        """Whether somebody has subscribed to what the skill asks for and to the episodes."""
        return bool(self._requested.get_subscription_count() > 0 and self._episodes.get_subscription_count() > 0)

    @property
    def unjudged(self) -> str | None:
        """Why nobody will ever say that the task is done, as a clause; None: somebody may, or nobody was named."""
        topic, kind = self._success_topic, "std_msgs/msg/Bool"
        if topic is None:
            return None
        publishers = self._node.get_publishers_info_by_topic(topic)
        if any(info.topic_type == kind for info in publishers):
            return None
        why = self._graph.why_silent(topic, kind)
        return why[:1].upper() + why[1:]

    # what the deployment asks (deployment.Front)

    def stop_asked(self) -> str | None:
        """See `Front`: a signal, or a loop that had stalled and came back."""
        return self._signals.why or self._stalled

    def reset_scene(self, service: str, timeout_s: float) -> int | None:
        """See `Front`."""
        client = self._node.create_client(Trigger, service)
        try:
            if not client.wait_for_service(timeout_sec=timeout_s):
                raise ArmFault(f"The service {service} was not there within {timeout_s:.0f} s; is its node running?")
            answered = threading.Event()
            future = client.call_async(Trigger.Request())
            future.add_done_callback(lambda _: answered.set())
            if not answered.wait(timeout_s):
                raise ArmFault(f"The service {service} did not answer within {timeout_s:.0f} s.")
            reply = future.result()
        finally:
            self._node.destroy_client(client)
        if not reply.success:
            raise ArmFault(
                f"The service {service} could not prepare the scene: {reply.message or 'it gave no reason'}."
            )
        return _seed(reply.message)

    def forget_success(self) -> None:
        """See `Front`."""
        self._success.clear()

    def success(self) -> bool:
        """See `Front`."""
        return self._success.is_set()

    def _hear_success(self, message: Bool) -> None:
        if message.data:
            self._success.set()
        else:
            self._success.clear()

    # what it tells

    def tell_state(self, text: str) -> None:
        """See `Front`."""
        if text == self._state:
            return
        self._state = text
        self._states.publish(String(data=text))
        if text.startswith("holding"):
            self.publish_diagnostics()
            say(f"{NODE}: {text}")

    def tell_episode(self, state: str, episode: int, success: bool | None, seed: int | None) -> None:
        """See `Front`."""
        record = {
            "state": state,
            "episode": episode,
            "success": success,
            "seed": seed,
            "action_spec": self._manifest.action_spec.as_dict(),
            "task": self._manifest.task,
            "operator": f"{SKILL_OPERATES}{self._manifest.name}",
        }
        self._episodes.publish(String(data=json.dumps(record)))

    def tell_tick(self, tick: Tick) -> None:
        """See `Front`: publishes the requested action, in units, before the Guard."""
        self._requested.publish(Float64MultiArray(layout=self._layout, data=tick.requested.tolist()))

    def publish_diagnostics(self) -> None:
        """One status of the node, one of each watched source."""
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        running = self._state == "running"
        level = DiagnosticStatus.ERROR if self._state.startswith("holding") else DiagnosticStatus.OK
        message.status = [
            DiagnosticStatus(
                level=level,
                name=f"{NODE}: skill",
                message=self._state,
                hardware_id=self._manifest.robot.name,
                values=[
                    KeyValue(key="skill", value=self._manifest.name),
                    KeyValue(key="task", value=self._manifest.task),
                ],
            )
        ]
        if self._watchdog is not None and running:
            message.status += [_source_status(source) for source in self._watchdog.sources()]
        self._diagnostics.publish(message)

    # the loop's dead man

    def _check_loop(self) -> None:
        """In the node's thread: if the main loop has stalled (a hung inference), hold for it, once, and end it."""
        if self._watchdog is None or self._stalled is not None:
            return
        late = [source for source in self._watchdog.late() if source.name == LOOP]
        if not late:
            return
        self._stalled = f"The {late[0]}; the arm was told to hold."
        if self._emergency_hold is not None:
            try:
                self._emergency_hold()
            except ArmFault as fault:
                self._stalled = f"The {late[0]}, and holding failed too: {fault}"
        self.tell_state(f"holding: {self._stalled}")

    def close(self) -> None:
        """Wait until what was said has arrived, then leave the graph; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for publisher in (self._states, self._episodes):
            publisher.wait_for_all_acked(Duration(seconds=ACK_TIMEOUT_S))
        self._graph.close()


def _seed(message: str) -> int | None:
    """The seed in a resetting service's answer, if it is JSON that has one."""
    try:
        data = json.loads(message)
    except ValueError:
        return None
    seed = data.get("seed") if isinstance(data, dict) else None
    return seed if type(seed) is int else None


def _source_status(source: Source) -> DiagnosticStatus:
    level = DiagnosticStatus.ERROR if source.late else DiagnosticStatus.OK
    return DiagnosticStatus(level=level, name=f"{NODE}: {source.name}", message=str(source))
