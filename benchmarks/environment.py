"""How fast the simulated environment is: beside a hand-written loop, beside panda-gym, and many at once.

Everything that is compared is measured in turns, and what is reported of it are the ratios of each turn. panda-gym runs
in a process of its own, told what to do by this one. A hand-written loop plays the commands that an episode of ours
sent, in the same scene; nothing is compared unless its joints move the same way.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pybullet
from numpy.typing import NDArray

from understudy.benchmarks.hand_loop import HandLoop, farthest, record
from understudy.benchmarks.peer_process import peer_process
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.arm import Command, Start
from understudy.envs.arms.sim_arm import SOLVER_RESIDUAL, SimArm
from understudy.envs.arms.sim_clock import PHYSICS_HZ
from understudy.envs.arms.sim_render import CAMERAS, FAR_M, NEAR_M, View
from understudy.envs.make import make_env
from understudy.errors import InputError, UnderstudyError

Row = dict[str, Any]
Array = NDArray[Any]
HAND_TASK, PEER_TASK = "lift", "pick_place"
PEER_ID = "PandaPickAndPlace-v3"
EPISODE = 50
"""Steps between resets; panda-gym's own number."""
SAME_RAD = 1e-5
"""Joints that differ by less have moved the same way: rounding of the set points between two ticks."""
SOLVERS_RAD = 3e-4
"""The same between two settings of the solver."""
AIMS = {"hand": 0.95, "panda-gym": 1.4, "parallel": 1.8, "camera": 0.9, "reset_ms": 1.0, "memory_gb": 2.0}


@dataclass(frozen=True)
class EnvironmentBench:
    """What is measured, and how long."""

    peer: Path = Path(".peers/panda_gym/bin/python")
    """The interpreter of panda-gym's environment."""
    rounds: int = 7
    seconds: float = 1.0
    """Of one measurement."""
    environments: int = 16
    """How many are run at once."""
    processes: int = 2
    """That hold them."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "seconds", "environments", "processes"):
            if not getattr(self, name) > 0:
                raise InputError(f"Benchmark of environments: {name} must be above 0, got {getattr(self, name)}.")

    def run(self, progress: Callable[[str], None] = lambda word: None) -> dict[str, list[Row]]:
        """Measure everything; one table a name."""
        if not self.peer.exists():
            raise InputError(
                f"{self.peer} does not exist; `make .peers/panda_gym/.installed` in a checkout makes panda-gym's "
                "environment."
            )
        tables: dict[str, list[Row]] = {"machine": [{"load before": round(os.getloadavg()[0], 2)}]}
        progress("a hand-written loop")
        rates, ratios = _beside_hand_loop(self)
        progress("panda-gym")
        for table, more in zip((rates, ratios), _beside_panda_gym(self), strict=True):
            table += more
        progress("cameras")
        for table, more in zip((rates, ratios), _camera(self), strict=True):
            table += more
        progress(f"{self.environments} environments")
        for table, more in zip((rates, ratios), _many(self), strict=True):
            table += more
        progress("reset and memory")
        tables |= {"rates": rates, "ratios, turn by turn": ratios, "reset and memory": [_reset(self), _memory(self)]}
        return tables


def _beside_hand_loop(bench: EnvironmentBench) -> tuple[list[Row], list[Row]]:
    """Steps a second without resets: ours, and two loops that somebody would write by hand."""
    env = make_env(HAND_TASK, fixed_horizon=True)
    loop, alike = HandLoop(env), HandLoop(env, solver_residual=SOLVER_RESIDUAL)
    actions = _gentle_actions(env, bench.seed)
    start, commands, seen = record(env, bench.seed, actions)
    off, rounding = (farthest(one, start, commands, seen) for one in (loop, alike))
    if rounding > SAME_RAD or off > SOLVERS_RAD:
        raise UnderstudyError(
            f"The hand-written loop's joints are off by up to {rounding:.2g} rad with our solver's setting and "
            f"{off:.2g} rad with PyBullet's; nothing is compared."
        )
    units = [env.spec_units.denormalise(action) for action in actions]
    ours, tool = "understudy, lift", "hand-written loop with PyBullet's inverse kinematics"
    hand, tuned = "hand-written loop, given our set points", "that loop with our solver's setting"
    measured: dict[str, list[float]] = {ours: [], tool: [], hand: [], tuned: []}
    for _ in range(bench.rounds):
        measured[ours].append(_steps_a_second(lambda: _begin_ours(env, start), env.step, actions, bench.seconds))
        measured[tool].append(_steps_a_second(lambda: loop.reset(start), loop.step_tool, units, bench.seconds))
        for name, one in ((hand, loop), (tuned, alike)):
            begin = functools.partial(one.reset, start)
            measured[name].append(_steps_a_second(begin, one.step, commands, bench.seconds))
    loop.close()
    alike.close()
    env.close()
    rows = [_rate_row(what, "steps/s", rates) for what, rates in measured.items()]
    rows[0]["a step"] = f"{env.control.robot.period_s:g} s, {_substeps(env)} physics steps, resets not counted"
    rows[1]["a step"] = "the same; no limits, another way to the same tool steps"
    rows[2]["a step"] = f"the same; joints within {off:.1g} rad of ours"
    rows[3]["a step"] = f"the same; joints within {rounding:.1g} rad of ours"
    aims = ((tool, None), (hand, AIMS["hand"]), (tuned, None))
    ratios = [_ratio_row(what, measured[ours], measured[what], aim) for what, aim in aims]
    return rows, ratios


def _beside_panda_gym(bench: EnvironmentBench) -> tuple[list[Row], list[Row]]:
    """Steps a second of pick and place with random actions and resets, in turns with panda-gym's."""
    env = make_env(PEER_TASK, fixed_horizon=True)
    env.action_space.seed(bench.seed)
    env.reset(seed=bench.seed)
    ours: list[float] = []
    theirs: list[float] = []
    with peer_process("panda-gym", bench.peer, "panda_gym_steps.py", [PEER_ID]) as ask:
        facts = ask(do="facts")
        ask(do="run", seconds=bench.seconds, episode=EPISODE)  # warms up, not counted
        _episodes_a_second(env, bench.seconds)
        for _ in range(bench.rounds):
            ours.append(_episodes_a_second(env, bench.seconds))
            answer = ask(do="run", seconds=bench.seconds, episode=EPISODE)
            theirs.append(answer["steps"] / answer["seconds"])
    env.close()
    step_s, peer = env.control.robot.period_s, f"panda-gym {facts['version']}, PickAndPlace"
    rows = [_rate_row("understudy, pick_place", "steps/s", ours), _rate_row(peer, "steps/s", theirs)]
    rows[0]["a step"] = f"{step_s:g} s, {_substeps(env)} physics steps, resets every {EPISODE} counted"
    rows[1]["a step"] = f"{facts['step_s']:g} s, {facts['substeps']} physics steps, resets every {EPISODE} counted"
    our_seconds, their_seconds = [rate * step_s for rate in ours], [rate * facts["step_s"] for rate in theirs]
    return rows, [
        _ratio_row("panda-gym, steps", ours, theirs, AIMS["panda-gym"]),
        _ratio_row("panda-gym, simulated seconds", our_seconds, their_seconds, None),
    ]


def _camera(bench: EnvironmentBench) -> tuple[list[Row], list[Row]]:
    """Observations with a picture a second, in turns with the renderer called by itself for the same picture."""
    env = make_env(HAND_TASK, cameras=("front",))
    env.reset(seed=bench.seed)
    arm: Any = env.control.arm
    arm = arm.inner
    camera = env.control.robot.ros.cameras["front"]
    draw = functools.partial(_raw_picture, arm, camera.width, camera.height)
    if not np.array_equal(draw(), arm.observe()["image_front"]):
        raise UnderstudyError("The renderer called by itself draws another picture; nothing is compared.")
    ours, raw = [], []
    for _ in range(bench.rounds):
        ours.append(_calls_a_second(arm.observe, bench.seconds))
        raw.append(_calls_a_second(draw, bench.seconds))
    what = f"{camera.width}x{camera.height}, renderer {arm.renderer.name}"
    env.close()
    rows = [_rate_row("observations with a picture", "1/s", ours), _rate_row("the renderer by itself", "1/s", raw)]
    rows[0]["a step"] = rows[1]["a step"] = what
    return rows, [_ratio_row("renderer by itself", ours, raw, AIMS["camera"])]


def _many(bench: EnvironmentBench) -> tuple[list[Row], list[Row]]:
    """Steps a second of many environments: in one process, in several, and in several that never wait for each other.

    The last is what the machine has to give: what is missing there no way of spreading environments can bring back.
    """
    from stable_baselines3.common.vec_env import DummyVecEnv  # torch: only where it is measured

    from understudy.learners.parallel_envs import ParallelEnvs

    factories: list[Callable[[], Any]]
    factories = [functools.partial(make_env, HAND_TASK, fixed_horizon=True)] * bench.environments
    together: dict[str, list[Any]] = {
        f"{bench.environments} in 1 process": [DummyVecEnv(factories)],
        f"{bench.environments} in {bench.processes} processes": [ParallelEnvs(factories, bench.processes)],
        f"{bench.processes} processes that never wait for each other": [
            ParallelEnvs(factories[rank :: bench.processes], 1) for rank in range(bench.processes)
        ],
    }
    every = [envs for group in together.values() for envs in group]
    rates: dict[str, list[float]] = {name: [] for name in together}
    try:
        for envs in every:
            envs.seed(bench.seed)
            envs.reset()
        with ThreadPoolExecutor(bench.processes) as threads:
            for _ in range(bench.rounds):
                for name, group in together.items():
                    begun = [threads.submit(_env_steps_a_second, envs, 2 * bench.seconds) for envs in group]
                    rates[name].append(sum(one.result() for one in begun))
    finally:
        for envs in every:
            envs.close()
    rows = [{**_rate_row(name, "steps/s", rates[name]), "a step": "of all together"} for name in rates]
    one, several, apart = together
    return rows, [
        _ratio_row(f"{one}: {several}", rates[several], rates[one], AIMS["parallel"]),
        _ratio_row(f"{one}: {apart}", rates[apart], rates[one], None),
    ]


def _env_steps_a_second(envs: Any, seconds: float) -> float:
    actions = np.zeros((envs.num_envs, *(envs.action_space.shape or ())), np.float32)
    return float(envs.num_envs * _calls_a_second(functools.partial(envs.step, actions), seconds))


def _reset(bench: EnvironmentBench) -> Row:
    """What a reset costs, start drawn from the task included."""
    env = make_env(HAND_TASK)
    env.reset(seed=bench.seed)
    costs = [1e3 / _calls_a_second(env.reset, bench.seconds) for _ in range(bench.rounds)]
    env.close()
    return _amount_row("reset, ms", costs, AIMS["reset_ms"])


def _memory(bench: EnvironmentBench) -> Row:
    """What a process holds that made all environments and stepped each; torch is not in it."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        peak_gb = pool.apply(_peak_gb, (bench.environments,))
    return _amount_row(f"memory of {bench.environments} in one process, GB", [peak_gb], AIMS["memory_gb"])


def _peak_gb(count: int) -> float:
    envs = [make_env(HAND_TASK) for _ in range(count)]
    for index, env in enumerate(envs):
        env.reset(seed=index)
        env.step(np.zeros(env.action_space.shape or (), np.float32))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _gentle_actions(env: ArmEnv, seed: int) -> list[NDArray[np.float32]]:
    """Random steps of half the greatest size; an episode's worth."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-0.5, 0.5, env.action_space.shape).astype(np.float32) for _ in range(EPISODE)]


def _begin_ours(env: ArmEnv, start: Start) -> None:
    env.reset(options={"start": start})


def _substeps(env: ArmEnv) -> int:
    return round(PHYSICS_HZ * env.control.robot.period_s)


def _steps_a_second(
    reset: Callable[[], None], step: Callable[[Any], Any], inputs: Sequence[Array | Command], seconds: float
) -> float:
    """Of whole episodes; the resets between them are not counted."""
    steps, spent = 0, 0.0
    while spent < seconds:
        reset()
        begin = time.perf_counter()
        for one in inputs:
            step(one)
        spent += time.perf_counter() - begin
        steps += len(inputs)
    return steps / spent


def _episodes_a_second(env: ArmEnv, seconds: float) -> float:
    """Steps a second of whole episodes of random actions, resets counted."""
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        env.reset()
        for _ in range(EPISODE):
            env.step(env.action_space.sample())
        steps += EPISODE
    return steps / (time.perf_counter() - begin)


def _calls_a_second(call: Callable[[], Any], seconds: float) -> float:
    calls, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - begin)


def _raw_picture(arm: SimArm, width: int, height: int) -> NDArray[np.uint8]:
    """PyBullet's own call and what anybody must do with its answer, to have an array (height, width, 3)."""
    eye, target, fov_deg = View().stand(CAMERAS["front"])
    pixels = pybullet.getCameraImage(
        width,
        height,
        pybullet.computeViewMatrix(eye, target, (0.0, 0.0, 1.0)),
        pybullet.computeProjectionMatrixFOV(fov_deg, width / height, NEAR_M, FAR_M),
        lightDirection=View().light(),
        lightColor=(1.0, 1.0, 1.0),
        renderer=arm.renderer.mode,
        flags=pybullet.ER_NO_SEGMENTATION_MASK,
        physicsClientId=arm._client,
    )[2]
    return np.ascontiguousarray(np.reshape(pixels, (height, width, 4))[:, :, :3], np.uint8)


def _rate_row(what: str, unit: str, rates: Sequence[float]) -> Row:
    return {
        "what": what,
        "unit": unit,
        "median": round(float(np.median(rates)), 1),
        "least": round(min(rates), 1),
        "most": round(max(rates), 1),
        "a step": "",
    }


def _ratio_row(what: str, ours: Sequence[float], theirs: Sequence[float], aim: float | None) -> Row:
    ratios = np.array(ours) / np.array(theirs)
    return {
        "beside": what,
        "ratio, median": round(float(np.median(ratios)), 2),
        "least": round(float(ratios.min()), 2),
        "most": round(float(ratios.max()), 2),
        "aim, at least": aim,
    }


def _amount_row(what: str, amounts: Sequence[float], aim: float) -> Row:
    return {
        "what": what,
        "median": round(float(np.median(amounts)), 3),
        "least": round(min(amounts), 3),
        "most": round(max(amounts), 3),
        "aim, below": aim,
    }
