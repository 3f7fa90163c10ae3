"""Subscriptions suit what is offered, and messages that were published and did not come are counted."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy")

from envs_ros_support import PlainNode, own_domain, wait_until
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Float64MultiArray

from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_common import Graph
from understudy.envs.arms.ros_sensors import Sample, Sensors
from understudy.envs.arms.ros_subscriptions import Subscriptions, _Topic
from understudy.envs.arms.ros_time import SimClock, WallTime

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
RELIABLE, BEST_EFFORT = (
    QoSProfile(depth=100, reliability=kind, durability=DurabilityPolicy.VOLATILE)
    for kind in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_every_number_that_is_passed_over_is_lost(steps: list[int]):
    heard: list[int] = []
    topic = _Topic(None, "/x", lambda message, info: heard.append(message), 10, raw=True)
    number = 0
    for step in steps:
        number += step
        topic.take(number, {"publication_sequence_number": number, "source_timestamp": number})
    assert topic.lost == number - steps[0] + 1 - len(steps)
    assert len(heard) == len(steps)
    topic.take(1, {"publication_sequence_number": 1, "source_timestamp": number + 1})  # the publisher has restarted
    assert topic.lost == number - steps[0] + 1 - len(steps)


def test_numbers_of_two_publishers_say_nothing():
    topic = _Topic(None, "/x", lambda message, info: None, 10, raw=True)
    topic.publishers = 2
    for number in (5, 900, 6, 901):
        topic.take(0, {"publication_sequence_number": number, "source_timestamp": number})
    assert topic.lost == 0


# over DDS


@pytest.fixture(scope="module", autouse=True)
def domain() -> Iterator[int]:
    with own_domain() as domain:
        yield domain


@pytest.fixture
def node(domain: int) -> Iterator[PlainNode]:
    made = PlainNode("publisher")
    yield made
    made.close()


@pytest.fixture
def graph(domain: int) -> Iterator[Graph]:
    made = Graph("subscriber")
    yield made
    made.close()


def test_a_subscription_is_reliable_as_long_as_every_publisher_is(node: PlainNode, graph: Graph):
    heard: list[float] = []
    subscriptions = Subscriptions(graph, match=True)
    subscriptions.add(Float64MultiArray, "/numbers", lambda message, info: heard.append(message.data[0]), 1000)
    first = node.node.create_publisher(Float64MultiArray, "/numbers", RELIABLE)
    graph.start()
    subscriptions.start()
    try:
        wait_until(lambda: subscriptions._topics["/numbers"].reliable, "a reliable subscription")
        wait_until(lambda: first.get_subscription_count() == 1, "the publisher to know of it")
        for number in range(500):
            first.publish(Float64MultiArray(data=[float(number)]))
            time.sleep(0.0005)
        wait_until(lambda: len(heard) >= 500, "all numbers")
        assert heard == [float(number) for number in range(500)]
        assert subscriptions.lost("/numbers") == 0
        second = node.node.create_publisher(Float64MultiArray, "/numbers", BEST_EFFORT)
        wait_until(lambda: not subscriptions._topics["/numbers"].reliable, "a best-effort subscription")
        wait_until(lambda: second.get_subscription_count() == 1, "the second publisher to know of it")
        heard.clear()
        wait_until(lambda: second.publish(Float64MultiArray(data=[7.0])) or 7.0 in heard, "the second publisher's")
        assert any("2 publishers share /numbers (publisher)" in remark for remark in subscriptions.remarks())
    finally:
        subscriptions.close()


@pytest.mark.parametrize("unpack", [True, False])
def test_a_compressed_camera_gives_pictures_or_their_bytes(node: PlainNode, graph: Graph, unpack: bool):
    camera = PANDA.ros.cameras["front"].model_copy(update={"topic": "/camera/front/image_raw/compressed"})
    robot = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"cameras": {"front": camera}})})
    taken: list[Sample] = []
    sensors = Sensors(graph, robot, taken.append, WallTime(), unpack=None if unpack else (), match=True)
    publisher = node.node.create_publisher(CompressedImage, camera.topic, BEST_EFFORT)
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    buffer = io.BytesIO()
    Picture.fromarray(pixels).save(buffer, "PNG")
    message = CompressedImage(format="png", data=buffer.getvalue())
    graph.start()
    sensors.subscriptions.start()
    try:
        wait_until(lambda: publisher.publish(message) or taken, "a picture")
        sample = taken[0]
        assert sample.packed is not None
        assert sample.packed.tobytes() == buffer.getvalue()
        assert np.array_equal(sample.value, pixels if unpack else sample.packed)
        cut = CompressedImage(format="png", data=b"no picture")
        wait_until(lambda: publisher.publish(cut) or camera.topic in sensors.refuser.refused, "a refusal")
        assert "no readable JPEG or PNG" in sensors.refuser.refused[camera.topic].last
    finally:
        sensors.subscriptions.close()


def test_simulated_time_goes_on_stands_still_and_never_back(monkeypatch: pytest.MonkeyPatch):
    clock, now = SimClock(), [10.0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: round(now[0] * 1e9))
    assert clock.now_ns() == 0
    clock.hear(5 * 10**9)
    now[0] += 0.1
    assert clock.now_ns() == pytest.approx(5.1e9)  # between two messages
    now[0] += 10
    assert clock.now_ns() == pytest.approx(5.2e9)  # paused
    clock.hear(6 * 10**9)
    before = clock.now_ns()
    clock.hear(1 * 10**9)  # begun anew
    assert clock.resets == 1
    assert clock.set_back_s == pytest.approx(5.0)
    now[0] += 0.05
    assert clock.now_ns() == pytest.approx(before + 5e7)
    assert clock.on_this(1 * 10**9) == pytest.approx(before)
