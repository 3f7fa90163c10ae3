"""The node as the rest of the graph sees it: a deployment in a process of its own, a plain rclpy listener here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_ros_support import Listener, environment, kill
from deploy_support import manifest, write_tiny

pytestmark = pytest.mark.ros
pytest.importorskip("rclpy")

STEP = np.array([0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])


@pytest.fixture
def start(domain: int, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the deployment process; whatever is still running at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(mode: str, horizon: int = 40) -> subprocess.Popen[str]:
        skill = write_tiny(tmp_path / "tiny.skill", STEP, made=manifest(horizon=horizon))
        running.append(
            subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("node_process.py")), str(skill), mode],
                env=environment(domain),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            kill(process)
        process.communicate()


def test_the_graph_sees_states_episodes_actions_and_diagnostics(
    listener: Listener, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start("run")
    listener.wait(lambda: "ready" in listener.states)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert listener.states == ["running", "ready"]
    running, ended = listener.episodes
    assert running == {
        "state": "running",
        "episode": 0,
        "success": None,
        "seed": None,
        "action_spec": json.loads(json.dumps(manifest().action_spec.as_dict())),
        "task": "lift",
        "operator": "skill:tiny",
    }
    assert (ended["state"], ended["success"]) == ("ended", False)
    actions = np.array([message.data for _, message in listener.heard["/understudy/requested_action"]])
    assert 30 <= len(actions) <= 40  # the first go out before this listener is matched
    np.testing.assert_allclose(actions[0], manifest().action_spec.denormalise(STEP), rtol=1e-6)
    levels = [(status.name, status.level) for _, m in listener.heard["/diagnostics"] for status in m.status]
    assert ("understudy_deploy: joint_position", b"\x00") in levels
    assert err == ""
    assert "time_limit after 2.0 s" in out


def test_the_success_topic_ends_an_episode(listener: Listener, start: Callable[..., subprocess.Popen[str]]) -> None:
    from std_msgs.msg import Bool

    process = start("run", horizon=600)
    listener.wait(lambda: "running" in listener.states)
    listener.done.publish(Bool(data=True))
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert listener.episodes[-1]["success"] is True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_holds_says_so_and_leaves(
    listener: Listener, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = start("run", horizon=600)
    listener.wait(lambda: len(listener.heard["/understudy/requested_action"]) > 20)
    sent_at = time.monotonic()
    process.send_signal(number)
    listener.wait(lambda: listener.states[-1].startswith("holding"))
    told_at = listener.heard["/understudy/state"][-1][0]
    out, err = process.communicate(timeout=20)
    assert told_at - sent_at < 0.3
    assert listener.states[-1] == f"holding: Stopped by {number.name}."
    assert process.returncode == 1
    actions = len(listener.heard["/understudy/requested_action"])
    commands = int(out.split("sent ")[1].split()[0])
    assert commands - actions >= 15  # a second of holds, once a period, after the last decision
    assert err == f"understudy_deploy: holding: Stopped by {number.name}.\n"


def test_a_silent_arm_is_held_within_its_age_limit_and_reported(
    listener: Listener, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start("silent", horizon=600)
    listener.wait(lambda: bool(listener.states) and listener.states[-1].startswith("holding"))
    last_decision = listener.heard["/understudy/requested_action"][-1][0]
    assert listener.heard["/understudy/state"][-1][0] - last_decision < 0.25
    process.communicate(timeout=20)
    assert process.returncode == 1
    assert "'joint_position' is 0." in listener.states[-1]
    worst = [m.status[0] for _, m in listener.heard["/diagnostics"]][-1]
    assert (worst.level, worst.message) == (b"\x02", listener.states[-1])
    assert listener.episodes[-1]["success"] is None


def test_a_stalled_loop_is_held_from_the_other_thread(
    listener: Listener, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start("stall", horizon=600)
    listener.wait(lambda: bool(listener.states) and listener.states[-1].startswith("holding"))
    last_decision = listener.heard["/understudy/requested_action"][-1][0]
    assert listener.heard["/understudy/state"][-1][0] - last_decision < 1.0  # the loop hangs for 2 s
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "control loop has been silent for 0." in listener.states[-1]
    assert int(out.split("holds ")[1].split()[0]) == 1


def test_a_reset_service_gives_the_seed(listener: Listener, start: Callable[..., subprocess.Popen[str]]) -> None:
    from std_srvs.srv import Trigger

    def answer(request: Any, response: Any) -> Any:
        response.success, response.message = True, '{"seed": 41}'
        return response

    listener.node.create_service(Trigger, "/reset", answer)
    process = start("reset")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "seed [41]" in out
    assert [episode["seed"] for episode in listener.episodes] == [41, 41]


def test_a_reset_that_fails_is_told(listener: Listener, start: Callable[..., subprocess.Popen[str]]) -> None:
    from std_srvs.srv import Trigger

    def answer(request: Any, response: Any) -> Any:
        response.success, response.message = False, "the cube fell off the table"
        return response

    listener.node.create_service(Trigger, "/reset", answer)
    process = start("reset")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "could not prepare the scene: the cube fell off the table" in err
    assert "sent 0" in out
