"""`understudy export`: write a run as a skill that can be deployed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from understudy.deploy.skill import load_skill
from understudy.envs.arms.robot import load_robot
from understudy.learners.export import export_skill

__all__ = ["Export"]


@dataclass(frozen=True)
class Export:
    """Write the policy of a run as a skill: one file that the robot side runs without torch.

    The exported graph is compared with torch before anything is written. What `understudy evaluate` measured of the
    run goes along.

    Example:
        understudy export runs/bc --out lift.skill
    """

    source: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path
    """The skill's file, ending in .skill."""
    robot: str | None = None
    """YAML file of the robot, where it is not a shipped one."""
    json: bool = False
    """Print one JSON object for programs."""

    def run(self) -> int:
        path = export_skill(self.source, self.out, load_robot(self.robot) if self.robot else None)
        manifest = load_skill(path).manifest
        if self.json:
            print(json.dumps({"skill": str(path), "bytes": path.stat().st_size, **manifest.model_dump(mode="json")}))
            return 0
        rates = [f"{item.successes}/{item.episodes} {item.suite}" for item in manifest.evaluations]
        measured = ", ".join(rates) or "nothing yet"
        print(
            f"{path}: {manifest.task} by {manifest.learner}, {path.stat().st_size / 1e6:.2f} MB, "
            f"looks every {manifest.execute} control periods; measured: {measured}"
        )
        print(f"Next: understudy deploy {path} --robot {manifest.robot.name} --shadow")
        return 0
