"""A session driven by ROS 2 services over real DDS: what is called happens, what cannot be is answered with why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from envs_ros_support import PlainNode, own_domain, wait_until
from session_support import fake_stage, new_session
from std_msgs.msg import String
from std_srvs.srv import Trigger

from understudy.capture.ros_services import PREFIX, SERVICES, STATE_TOPIC, SessionServices
from understudy.capture.session_loop import SessionLoop
from understudy.envs.arms.clock import MonotonicClock
from understudy.envs.arms.ros_common import LATCHED

pytestmark = pytest.mark.ros


class Client:
    """Calls a session's services, and hears its state."""

    def __init__(self, node: PlainNode) -> None:
        self.clients = {wish: node.node.create_client(Trigger, f"{PREFIX}/{wish}") for wish in SERVICES}
        self.told: list[Any] = node.listen(String, STATE_TOPIC, LATCHED)
        for client in self.clients.values():
            assert client.wait_for_service(timeout_sec=20.0)

    def call(self, wish: str) -> tuple[bool, str]:
        future = self.clients[wish].call_async(Trigger.Request())
        wait_until(future.done, f"an answer to {wish}")
        return future.result().success, future.result().message

    @property
    def view(self) -> dict[str, Any]:
        return json.loads(self.told[-1].data)

    def wait_for(self, **fields: Any) -> None:
        wait_until(lambda: self.told and all(self.view[k] == v for k, v in fields.items()), f"{fields}")


@pytest.fixture(scope="module")
def node() -> Iterator[PlainNode]:
    with own_domain():
        made = PlainNode("somebody")
        yield made
        made.close()


def test_a_whole_session_by_services(node: PlainNode, tmp_path: Path) -> None:
    session, puppet = new_session(fake_stage(clock=MonotonicClock()), tmp_path, max_s=60.0)
    puppet.action = np.array([0.004, 0.0, 0.0])
    loop = SessionLoop(session)
    loop.start()
    try:
        with SessionServices(loop):
            client = Client(node)
            client.wait_for(state="ready", robot="panda", task="reach")
            done, told = client.call("keep")
            assert not done
            assert told.startswith("Cannot keep while the session is ready; possible now: start, drop")
            assert client.call("start") == (True, "Recording.")
            client.wait_for(state="recording")
            wait_until(lambda: client.view["steps"] >= 5, "some steps")
            done, told = client.call("success")
            assert (done, "marked as success" in told) == (True, True)
            client.wait_for(state="review", marked=True)
            assert client.call("keep")[0]
            client.wait_for(episodes=1, state="ready")
            assert client.call("undo")[0]
            client.wait_for(episodes=0, kept=[])
            assert client.call("redo")[0]
            client.wait_for(episodes=1)
    finally:
        loop.close()
    (episode,) = session.dataset.episodes()
    assert episode.info.success is True
    assert len(episode) >= 5


def test_a_failing_take_is_kept_by_the_second_call_and_says_why(node: PlainNode, tmp_path: Path) -> None:
    """Nothing was asked of the arm throughout: the check says so, and one call does not keep it."""
    session, _ = new_session(fake_stage(clock=MonotonicClock()), tmp_path, max_s=1.0)
    loop = SessionLoop(session)
    loop.start()
    try:
        with SessionServices(loop):
            client = Client(node)
            client.wait_for(state="ready")
            assert client.call("start")[0]
            client.wait_for(state="review")
            done, told = client.call("keep")
            assert not done
            assert "nothing happens at 100% of the ticks" in told
            assert "Ask for keep once more" in told
            assert client.call("keep")[0]
    finally:
        loop.close()
    (info,) = session.dataset.infos().values()
    assert "kept in spite of: nothing happens at 100% of the ticks" in info.note
