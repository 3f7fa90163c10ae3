"""The policy that drives an arm which an operator may take over: of a skill file, or of a run's folder."""

from __future__ import annotations

from pathlib import Path

from understudy.datasets.schema import ActionSpec
from understudy.deploy.skill import check_robot, load_skill
from understudy.envs.control import Control
from understudy.envs.policy import Policy
from understudy.errors import InputError, RobotMismatch


def driving_policy(path: Path, control: Control, task: str) -> Policy:
    """The policy at `path`, refused unless it fits what is driven.

    Raises:
        InputError: it cannot be read, was made for another task or other actions, or needs an observation that is not
            there.
        RobotMismatch: it was made for another robot.
    """
    if not path.exists():
        raise InputError(f"--policy {path} does not exist; expected a .skill file or the folder of a run.")
    if path.is_file():
        return _of_skill(path, control, task)
    from understudy.learners.policies import RunPolicy, load_policy  # torch: not needed for a skill
    from understudy.learners.runs import Run

    run = Run.open(path)
    _require_task(path, run.config.task, task)
    if run.config.robot != control.robot.name:
        raise RobotMismatch(f"{path} was trained on robot {run.config.robot!r}, and {control.robot.name!r} is driven.")
    policy = load_policy(path)
    _require_fit(path, tuple(policy.shapes), policy.action_spec, control)
    return RunPolicy(path)()


def _of_skill(path: Path, control: Control, task: str) -> Policy:
    from understudy.deploy.runtime import SkillPolicy

    skill = load_skill(path)
    _require_task(path, skill.manifest.task, task)
    check_robot(skill.manifest, control.robot)
    _require_fit(path, skill.manifest.observation_keys, skill.manifest.action_spec, control)
    return SkillPolicy(skill)


def _require_task(path: Path, trained: str, recorded: str) -> None:
    if trained != recorded:
        raise InputError(f"{path} was trained on task {trained!r}, and {recorded!r} is recorded; they must be one.")


def _require_fit(path: Path, keys: tuple[str, ...], spec: ActionSpec, control: Control) -> None:
    missing = [key for key in keys if key not in control.assembler.keys]
    if missing:
        cameras = [key.removeprefix("image_") for key in missing if key.startswith("image_")]
        remedy = (
            f"add --cameras {' '.join(cameras)}" if len(cameras) == len(missing) else "record the task it is made for"
        )
        raise InputError(f"{path} looks at {', '.join(missing)}, which is not observed here; {remedy}.")
    here = control.actions.spec
    if (spec.name, spec.labels, spec.units) != (here.name, here.labels, here.units):
        raise InputError(
            f"{path} answers in {spec.name} ({', '.join(spec.labels)}), and the operator drives in {here.name} "
            f"({', '.join(here.labels)}); both must be the same."
        )
    if (spec.low, spec.high) != (here.low, here.high):
        raise InputError(
            f"{path} was trained with actions from {list(spec.low)} to {list(spec.high)}, and here they go from "
            f"{list(here.low)} to {list(here.high)}; train it again for this robot's file."
        )
