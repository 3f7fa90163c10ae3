"""Marks are where a ball would be, behind what stands before it, and in no picture that is observed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pybullet
import pytest
from datasets_builders import make_episode

from understudy.envs.arms.arm import Start
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.arms.sim_render import View
from understudy.envs.experts.expert import make_expert
from understudy.envs.filmstrip import filmstrip
from understudy.envs.make import make_env
from understudy.envs.tasks.marks import Mark, goal_marks
from understudy.envs.tasks.task import Goal, make_task
from understudy.errors import InputError

PANDA = load_robot("panda")
SIZE, FINE = (320, 240), (640, 480)


@pytest.fixture(scope="module")
def arm() -> Iterator[SimArm]:
    made = SimArm(PANDA)
    made.reset(Start(PANDA.home))
    yield made
    made.close()


def changed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W) where two pictures differ."""
    return np.asarray((one != other).any(axis=2))


def bluer(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W) where the first picture has much less red than the second, as a mark leaves it."""
    return np.asarray(one[..., 0].astype(int) < other[..., 0].astype(int) - 40)


def loaded_ball(client: int, mark: Mark) -> int:
    """The same ball as PyBullet would draw it, blue."""
    shape = pybullet.createVisualShape(
        pybullet.GEOM_SPHERE, radius=mark.radius_m, rgbaColor=(0, 0, 1, 1), physicsClientId=client
    )
    return int(pybullet.createMultiBody(0, -1, shape, mark.centre, physicsClientId=client))


@pytest.mark.parametrize("camera", ["front", "side"])
@pytest.mark.parametrize(
    "mark",
    [
        Mark((0.5, 0.0, 0.1), 0.03),
        Mark((0.55, 0.2, 0.3), 0.08),
        Mark((0.0, 0.0, 0.3), 0.2),  # around the arm
        Mark((0.35, 0.3, 0.0), 0.1),  # half under the table
    ],
    ids=["small", "air", "around", "table"],
)
def test_a_mark_is_where_the_simulator_draws_a_ball(camera: str, mark: Mark) -> None:
    """Loaded into a simulator of its own, the same ball covers the same pixels: place, size and what hides it.

    PyBullet's is a polyhedron with its corners on the ball, so it lies inside and has a little less of an outline.
    """
    arm = SimArm(PANDA)
    try:
        arm.reset(Start(PANDA.home))
        without, marked = arm.render(camera, *FINE), arm.render(camera, *FINE, [mark])
        loaded_ball(arm.renderer._client, mark)
        ball = arm.render(camera, *FINE)
    finally:
        arm.close()
    blue = changed(ball, without) & (ball[..., 2] > ball[..., 0].astype(int) + 20)  # its dark side too
    drawn = changed(marked, without)
    assert blue.sum() > 200
    assert drawn[blue].mean() > 0.99
    assert blue[drawn].mean() > 0.85
    ours, theirs = np.argwhere(drawn), np.argwhere(blue)
    corners_px = 2.0 + 0.05 * float(np.ptp(ours, axis=0).max()) / 2.0
    for end in (np.min, np.max):
        assert end(ours, axis=0) == pytest.approx(end(theirs, axis=0), abs=corners_px)
    assert bluer(marked, without)[blue].mean() > 0.9


def test_a_view_that_moves_the_camera_moves_the_mark(arm: SimArm) -> None:
    mark = Mark((0.5, 0.0, 0.2), 0.04)
    middles = []
    for view in (View(), View(yaw_rad=0.08)):
        arm.renderer.set_view(view)
        plain, marked = (arm.renderer.draw("front", *SIZE, marks) for marks in ((), (mark,)))
        middles.append(np.argwhere(changed(marked, plain)).mean(axis=0))
    arm.renderer.set_view(View())
    assert middles[1][1] > middles[0][1] + 10


@pytest.mark.parametrize("place", [(3.0, -2.0, 1.0), (1.25, -0.75, 0.62), (0.36, 9.0, 0.24)])
def test_what_is_behind_around_or_beside_the_camera_is_not_drawn(arm: SimArm, place: tuple[float, ...]) -> None:
    mark = Mark(place, 0.03)  # type: ignore[arg-type]
    assert np.array_equal(arm.render("front", *SIZE, [mark]), arm.render("front", *SIZE))


def test_a_mark_at_the_edge_of_the_picture_is_cut_off(arm: SimArm) -> None:
    plain, marked = arm.render("front", *SIZE), arm.render("front", *SIZE, [Mark((0.9, 0.3, 0.2), 0.15)])
    columns = np.argwhere(changed(marked, plain))[:, 1]
    assert columns.max() == SIZE[0] - 1
    assert columns.min() > SIZE[0] / 2


@pytest.mark.parametrize("task", ["reach", "push", "pick_place", "lift"])
def test_people_see_the_goals_and_cameras_do_not(task: str) -> None:
    """Incident: the goals of `reach`, `push` and `pick_place` were in no picture, and nobody could see where to go."""
    robot = PANDA.model_copy(
        update={
            "ros": PANDA.ros.model_copy(
                update={
                    "cameras": {"front": PANDA.ros.cameras["front"].model_copy(update={"width": 320, "height": 240})}
                }
            )
        }
    )
    env = make_env(task, robot, cameras=("front",), render_mode="rgb_array")
    try:
        observation, _ = env.reset(seed=3)
        shown = env.render()
        again, _ = env.reset(seed=3)
        assert shown is not None
        different = changed(shown, observation["image_front"])
        assert np.array_equal(again["image_front"], observation["image_front"])
        if env.task.goal is None:
            assert not different.any()
        else:
            assert 20 < different.sum() < 3000
            assert bluer(shown, observation["image_front"])[different].mean() > 0.5
    finally:
        env.close()


def test_pictures_with_a_goal_change_nothing_that_is_stepped_saved_or_restored() -> None:
    """The same actions with and without pictures in between: every state is the same to the last bit."""
    states = []
    for looking in (False, True):
        env = make_env("push", render_mode="rgb_array" if looking else None)
        expert, seen = make_expert("push", "panda"), []
        observation, _ = env.reset(seed=1)
        expert.reset(observation)
        moment = None
        for step in range(30):
            if looking and step % 5 == 0:
                env.render()
            if step == 20:
                moment = env.save()
            observation, *_ = env.step_units(expert.act(observation))
            seen.append(env.control.arm.inner.simulator_state())
        assert moment is not None
        env.restore(moment)
        if looking:
            env.render()
        env.step_units(np.zeros(env.spec_units.size))
        seen.append(env.control.arm.inner.simulator_state())
        env.close()
        states.append(np.array(seen))
    assert np.array_equal(*states)


def test_a_filmstrip_shows_the_goal_of_its_episode() -> None:
    made, task, robot = make_episode(), make_task("reach"), load_robot("two_joint")

    def film(goal: tuple[float, float, float] | None) -> np.ndarray:
        seen = {key: value for key, value in made.observations.items() if key != "goal_position"}
        last = {key: value for key, value in made.final_observation.items() if key != "goal_position"}
        if goal is not None:
            seen["goal_position"] = np.tile(np.float32(goal), (len(made), 1))
            last["goal_position"] = np.float32(goal)
        return filmstrip(dataclasses.replace(made, observations=seen, final_observation=last), robot, task, frames=2)

    for picture, without in zip(film((0.5, 0.1, 0.125)), film(None), strict=True):
        assert 20 < bluer(picture, without).sum() < 3000


def test_a_goal_is_a_ball_of_its_tolerance_where_it_is_known() -> None:
    goal = Goal(tolerance_m=0.05)
    assert goal_marks(goal, {"goal_position": [0.1, 0.2, 0.3]}) == (Mark((0.1, 0.2, 0.3), 0.05),)
    assert goal_marks(goal, {"object_position": [0.1, 0.2, 0.3]}) == ()
    assert goal_marks(None, {"goal_position": [0.1, 0.2, 0.3]}) == ()


def test_marks_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="radius must be a positive number of m, got 0"):
        Mark((0.0, 0.0, 0.0), 0.0)
    with pytest.raises(InputError, match="centre must be three finite numbers in m, got"):
        Mark((0.0, float("nan"), 0.0), 0.1)
