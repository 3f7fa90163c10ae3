"""Publishers that die, restart, change rate or clock, or send what cannot be used, over real DDS: told in words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from envs_ros_support import PlainNode, joint_state, own_domain, remove_abandoned, shared_memory_of, wait_until
from geometry_msgs.msg import PoseStamped
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from understudy.benchmarks import capture_source
from understudy.capture.hardware import HardwareConfig
from understudy.capture.session import Session, SessionConfig
from understudy.capture.session_loop import SessionLoop
from understudy.capture.watch_stage import WatchedDevice, WatchStage, make_watch_stage
from understudy.datasets.camera_streams import frames_file, kept_frames
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_common import Graph, array_to_image
from understudy.envs.tasks.free import free_task
from understudy.errors import StaleObservation

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
ROS = PANDA.ros
ROBOT = PANDA.model_copy(
    update={
        "ros": ROS.model_copy(
            update={
                "poses": {},
                "openings": {},
                "joint_states": ROS.joint_states.model_copy(update={"max_age_s": 0.4}),
            }
        )
    }
)
TASK = free_task("pour", ROBOT)
RATE_HZ = 100.0


class Driver:
    """Publishes joint states, of a plain node; a test changes what it does while it runs."""

    def __init__(self) -> None:
        self.rate_hz = RATE_HZ
        self.set_back_s = 0.0
        self.spoil: Callable[[JointState], None] = lambda message: None
        self.sim_s: Callable[[], float] | None = None
        self.node = PlainNode("driver")
        self._joints = self.node.node.create_publisher(JointState, "/joint_states", 10)
        self._clock = self.node.node.create_publisher(Clock, "/clock", 10)
        self.images = self.node.node.create_publisher(Image, ROS.cameras["front"].topic, qos_profile_sensor_data)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._ended.is_set():
            now_ns = time.time_ns() - round(self.set_back_s * 1e9)
            if self.sim_s is not None:
                now_ns = round(self.sim_s() * 1e9)
                told = Clock()
                told.clock.sec, told.clock.nanosec = divmod(now_ns, 10**9)
                self._clock.publish(told)
            message = joint_state(PANDA, PANDA.home + 0.05 * np.sin(time.monotonic()), stamp_ns=now_ns)
            self.spoil(message)
            self._joints.publish(message)
            next_s = max(next_s + 1.0 / self.rate_hz, time.monotonic() - 0.1)
            time.sleep(max(0.0, next_s - time.monotonic()))

    def close(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self.node.close()


@pytest.fixture(scope="module", autouse=True)
def domain() -> Iterator[int]:
    with own_domain() as domain:
        yield domain


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.close()


@pytest.fixture
def stage(driver: Driver) -> Iterator[WatchStage]:
    made = make_watch_stage(ROBOT, TASK, HardwareConfig(cameras=(), every_frame=("front",), ready_s=20))
    yield made
    made.close()


def session_on(stage: WatchStage, folder: Path) -> Session:
    dataset = Dataset.open_or_create(folder / "demos", robot="panda", task="pour")
    return Session(stage, WatchedDevice(stage.control.actions.spec), dataset, SessionConfig())


def record(session: Session, seconds: float) -> None:
    session.prepare()
    session.start()
    tick(session, round(seconds * ROBOT.rate_hz))
    session.stop()


def tick(session: Session, times: int) -> None:
    for _ in range(times):
        session.tick()


def remarks_until(stage: WatchStage, words: str, seconds: float = 20.0) -> str:
    """Wait for a remark with `words` in it."""
    said: list[str] = []
    wait_until(
        lambda: said.extend(stage.remarks()) or any(words in each for each in said), f"{words!r} in {said}", seconds
    )
    return next(each for each in said if words in each)


def joints_light(stage: WatchStage):
    return next(light for light in stage.lights() if light.name == "joints")


def test_a_publisher_that_dies_ends_the_take_and_one_that_restarts_is_recorded_again(
    driver: Driver, stage: WatchStage, tmp_path: Path
) -> None:
    session = session_on(stage, tmp_path)
    session.prepare()
    session.start()
    tick(session, 10)
    driver.close()
    with pytest.raises(StaleObservation, match=r"'joint_position' is 0\.4\d+ s old at the tick"):
        tick(session, 40)
    assert session.state == "review"
    assert "stopped: 'joint_position'" in session.take_info.note
    wait_until(lambda: "nobody publishes /joint_states" in joints_light(stage).why, "a reason")
    assert joints_light(stage).state == "stale"
    remarks_until(stage, "Nobody publishes /joint_states any more")
    first = session.dataset.read(session.keep())
    assert len(first) >= 10
    again = Driver()
    try:
        remarks_until(stage, "/joint_states is published again")
        wait_until(lambda: joints_light(stage).state == "alive", "a light")
        record(session, 0.5)
        assert len(session.dataset.read(session.keep())) == 10
    finally:
        again.close()


def test_a_pose_that_is_there_at_the_start_is_observed_and_told_when_it_vanishes(
    driver: Driver, tmp_path: Path
) -> None:
    poses = driver.node.node.create_publisher(PoseStamped, PANDA.ros.poses["object"].topic, qos_profile_sensor_data)
    message = PoseStamped()
    message.pose.orientation.w = 1.0
    timer = driver.node.node.create_timer(0.02, lambda: poses.publish(message))
    stage = make_watch_stage(PANDA, free_task("pour", PANDA), HardwareConfig(cameras=(), ready_s=20))
    try:
        assert "nobody publishes /object_base_pose, /object_hole_pose, /goal_pose, /object_opening:" in stage.notice
        session = session_on(stage, tmp_path)
        session.prepare()
        session.start()
        tick(session, 10)
        timer.cancel()
        with pytest.raises(StaleObservation, match="'object_position'"):
            tick(session, 60)
        assert "object_base_position" not in session.dataset.read(session.keep()).observations
    finally:
        stage.close()


def test_a_rate_that_changes_is_told(driver: Driver, stage: WatchStage) -> None:
    wait_until(lambda: joints_light(stage).expected_hz is not None, "the usual rate")
    driver.rate_hz = 20.0
    wait_until(lambda: joints_light(stage).state == "slow", "the light")
    assert "it began with" in joints_light(stage).why
    driver.rate_hz = 10 * RATE_HZ
    remarks_until(stage, "are expected; does a second node publish its topic?")


def test_a_clock_that_is_set_back_is_told_and_a_late_message_is_not(driver: Driver, stage: WatchStage) -> None:
    late = joint_state(PANDA, PANDA.home + 1.0, stamp_ns=time.time_ns() - 10**9)
    driver._joints.publish(late)
    refused = remarks_until(stage, "/joint_states could not")  # of the fingers' readings in the same message too
    assert re.search("a (joint|gripper)_position came that is older than the one before", refused)
    driver.set_back_s = 60.0
    told = remarks_until(stage, "was set back by")
    assert told.startswith("The clock behind the stamps of /joint_states was set back by ")
    assert float(told.split(" s; ")[0].rpartition(" ")[2]) == pytest.approx(60.0, abs=3.0)
    wait_until(lambda: joints_light(stage).state == "stale", "old stamps to be seen")  # a minute old, says its clock


def test_what_cannot_be_used_is_told_and_the_order_of_joints_does_not_matter(
    driver: Driver, stage: WatchStage, tmp_path: Path
) -> None:
    def turn_round(message: JointState) -> None:
        for field in ("name", "position", "velocity", "effort"):
            setattr(message, field, list(getattr(message, field))[::-1])

    driver.spoil = turn_round
    time.sleep(0.2)
    session = session_on(stage, tmp_path)
    record(session, 0.5)
    episode = session.dataset.read(session.keep())
    assert np.abs(episode.observations["joint_position"] - PANDA.home).max() < 0.06
    assert np.abs(episode.streams["joint_position"].values - PANDA.home).max() < 0.06

    def spoil(message: JointState) -> None:
        message.position[3] = float("nan")

    driver.spoil = spoil
    assert "joint_position has a value that is not finite" in remarks_until(stage, "/joint_states could not be used")
    driver.images.publish(array_to_image(np.zeros((60, 80, 3), np.uint8), time.time_ns(), ""))
    told = remarks_until(stage, "could not be used: image is")
    assert "image is 80x60; the robot's file says 160x120" in told
    with pytest.raises(StaleObservation, match="'joint_position'"):
        record(session, 5.0)


def test_a_simulators_time_is_the_takes_time_and_its_reset_is_told(driver: Driver, tmp_path: Path) -> None:
    began_s = time.monotonic()
    driver.sim_s = lambda: 100.0 + 0.5 * (time.monotonic() - began_s)  # at half speed
    stage = make_watch_stage(ROBOT, TASK, HardwareConfig(cameras=(), sim_time=True, ready_s=20))
    try:
        wait_until(lambda: stage.control.arm.clock.now_ns() > 99 * 10**9, "/clock")
        session = session_on(stage, tmp_path)
        took_s = time.monotonic()
        record(session, 1.0)
        took_s = time.monotonic() - took_s
        episode = session.dataset.read(session.keep())
        assert took_s == pytest.approx(2.0, abs=0.5)
        assert 99 < episode.tick_ns[0] * 1e-9 < 130
        assert np.median(np.diff(episode.tick_ns)) == pytest.approx(50e6, rel=0.05)
        stamps = episode.streams["joint_position"].stamps_ns
        assert len(stamps) == pytest.approx(2 * RATE_HZ, rel=0.3)  # 200 a simulated second
        before_ns = stage.control.arm.clock.now_ns()
        driver.sim_s = lambda: 10.0 + (time.monotonic() - began_s)
        assert "/clock was set back by" in remarks_until(stage, "the simulation was reset")
        assert stage.control.arm.clock.now_ns() >= before_ns
        record(session, 0.5)
        assert len(session.dataset.read(session.keep())) == 10
    finally:
        stage.close()


def test_a_fault_in_the_thread_that_reads_is_told_and_fails_the_take(
    driver: Driver, stage: WatchStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading ended in silence, which looked like a driver that does."""
    loop = SessionLoop(session_on(stage, tmp_path))
    wait_until(lambda: joints_light(stage).state == "alive", "joints")
    loop.turn()
    loop.ask("start", "anyway")
    for _ in range(10):
        loop.turn()

    def break_off(message: JointState) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(stage._live._sensors._joint_reader, "read", break_off)  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20.0
    while loop.view().state == "recording" and time.monotonic() < deadline:
        loop.turn()
    view = loop.view()
    assert view.state == "review"
    told = "reading the topics has broken off (ZeroDivisionError('planted')); start the session anew"
    failing = [finding.text for finding in view.findings if finding.severity == "failure"]
    assert any(text.startswith("a fault ended the take: 'joint_position' is") for text in failing), failing
    assert any(text.startswith("joints is stale") and told in text for text in failing), failing
    assert told in joints_light(stage).why
    assert told in loop.ask("keep")  # and is kept on a second word only
    assert loop.view().state == "review"
    loop.close()


def test_a_fault_in_a_callback_of_the_graph_is_told(driver: Driver) -> None:
    def break_off(message: JointState) -> None:
        raise ZeroDivisionError("planted")

    graph = Graph("fragile")
    try:
        graph.node.create_subscription(JointState, "/joint_states", break_off, 10)
        graph.start()
        wait_until(lambda: graph.failure, "the fault")
        told = "hearing the graph has broken off (ZeroDivisionError('planted')); start anew"
        assert graph.why_silent("/joint_states", "sensor_msgs/msg/JointState") == told
    finally:
        graph.close()


def test_a_recorder_that_is_killed_leaves_a_take_with_its_samples(tmp_path: Path) -> None:
    folder = Path(capture_source.__file__).parent
    form = {"compressed": True}

    def begin(program: str, wanted: dict) -> subprocess.Popen[str]:
        command = [sys.executable, str(folder / program), json.dumps(wanted)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    source = begin("capture_source.py", form)
    taker = begin("capture_takers.py", {**form, "who": "ours", "folder": str(tmp_path)})
    try:
        taker.stdin.write(json.dumps({"order": "ready"}) + "\n" + json.dumps({"order": "record", "seconds": 60}) + "\n")
        taker.stdin.flush()
        assert json.loads(taker.stdout.readline()) == {"ready": True}
        time.sleep(3.0)
    finally:
        files = shared_memory_of(Path(f"/proc/{taker.pid}"))
        taker.kill()
        taker.communicate()
        remove_abandoned(files)
        source.communicate()
    dataset = Dataset.open(tmp_path / "demos")
    (id,) = dataset.recovery.takes
    take = dataset.read(dataset.commit(dataset.take_file(id)))
    assert len(take) > 70
    numbers = take.streams["joint_effort"].values[:, 0]
    assert len(numbers) > 900
    assert np.all(np.diff(numbers) == 1)
    assert min(kept_frames(frames_file(dataset.path, id)).values()) > 50
