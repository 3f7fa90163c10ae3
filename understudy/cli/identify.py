"""`understudy identify`: fit the simulator to recorded motion, and write the ranges that the data leave.

This module owns the table, the JSON and the comments of the file; the fit is `envs/identification.py`'s.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from understudy.cli.dataset import open_dataset
from understudy.cli.options import require_seed
from understudy.cli.train import progress_bar
from understudy.datasets.store import Dataset
from understudy.envs.identification import Fit, FittedParameter, IdentifyConfig
from understudy.envs.parameters import PARAMETERS
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.datasets.episode import Episode

__all__ = ["Identify"]


@dataclass(frozen=True)
class Identify:
    """Fit simulator parameters to recorded motion, and write a randomization file around the fit.

    The recorded commands are stepped again in simulation until joints, tool and objects move as they were seen to.
    Some episodes are held out: on them the fit is compared with the nominal simulator. What the data cannot tell is
    said, and keeps its usual range. The file goes wherever --randomize is taken.

    Example:
        understudy identify demos/lift --out fitted.yaml
        understudy identify demos/lift --parameters motor_gain_scale,object_friction_scale --out fitted.yaml --json
        understudy finetune runs/bc --randomize fitted.yaml --out runs/tuned
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    out: Path
    """The randomization file to write; it must not exist."""
    task: str | None = None
    """The task; by default the dataset's, and no other is accepted."""
    parameters: str = ",".join(IdentifyConfig.parameters)
    """What to fit, with commas between. Each more needs more episodes and --evaluations."""
    robot: str | None = None
    """The robot's file, where it is not a shipped one."""
    episodes: int = 20
    """Use at most this many, the latest; held-out ones included."""
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=lambda: Settings())
    json: bool = False
    """Print one JSON object for programs."""

    def run(self) -> int:
        require_seed(self.config.seed)
        if not self.out.parent.is_dir():
            raise InputError(f"--out {self.out}: the folder {self.out.parent} does not exist; make it first.")
        if self.out.suffix not in (".yaml", ".yml"):
            raise InputError(f"--out {self.out}: a randomization file ends in .yaml.")
        if self.out.exists():
            raise InputError(f"{self.out} exists; give another --out, or remove it first.")
        names = tuple(name.strip() for name in self.parameters.split(",") if name.strip())
        config = IdentifyConfig(names, **dataclasses.asdict(self.config))
        dataset = open_dataset(self.directory)
        if self.task is not None and self.task != dataset.task:
            raise InputError(f"{self.directory} is of task {dataset.task!r}, and --task is {self.task!r}.")
        fit = self._fit(dataset, config)
        self._write(fit)
        if self.json:
            print(json.dumps(self._facts(fit), indent=2))
        else:
            self._print(fit)
        return 0

    def _fit(self, dataset: Dataset, config: IdentifyConfig) -> Fit:
        from understudy.envs.arms.robot import load_robot
        from understudy.envs.identification import identify
        from understudy.envs.tasks.task import make_task

        if self.episodes < 3:
            raise InputError(f"--episodes must be at least 3 (2 to fit, 1 held out), got {self.episodes}.")
        chosen: list[Episode] = [dataset.read(id, images=False) for id in dataset.ids[-self.episodes :]]
        robot, task = load_robot(self.robot or dataset.robot), make_task(dataset.task)
        with progress_bar("fitting", config.evaluations, quiet=self.json) as advance:
            return identify(robot, task, chosen, config, lambda done, error: advance(done))

    def _write(self, fit: Fit) -> None:
        from understudy.envs.randomization_file import write_distributions

        before, after = fit.held_out_nominal, fit.held_out_fitted
        comments = {
            "": f"Fitted to {fit.train_episodes} episodes of {self.directory}. Held out ({fit.held_out_episodes}): "
            f"tool {1e3 * before.tool_m:.2f} mm off with nominal parameters, {1e3 * after.tool_m:.2f} mm with these."
        }
        for one in fit.parameters:
            comments[one.name] = f"fit {one.value:.4g}, " + (
                f"95% interval {one.low:.4g} to {one.high:.4g}" if one.told else "but the data cannot tell: usual range"
            )
        write_distributions(self.out, fit.distributions(), comments)

    def _facts(self, fit: Fit) -> dict[str, Any]:
        return {"out": str(self.out), **dataclasses.asdict(fit)}

    def _print(self, fit: Fit) -> None:
        console = Console(width=None if sys.stdout.isatty() else 140)
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for heading in ("parameter", "nominal", "fit", "95% interval", "unit", ""):
            table.add_column(heading, justify="left" if heading in ("parameter", "unit", "") else "right")
        for one in fit.parameters:
            unit = PARAMETERS[one.name].unit
            interval = f"{one.low:.4g} to {one.high:.4g}"
            table.add_row(
                one.name, f"{one.nominal:g}", f"{one.value:.4g}", interval, "" if unit == "1" else unit, _verdict(one)
            )
        console.print(table)
        for first, second, correlation in fit.alike:
            console.print(
                f"{first} and {second} make up for each other here (correlation {correlation:+.2f}): trust what they "
                "do together, not each alone.",
                soft_wrap=True,
            )
        if not fit.done:
            console.print(
                "The search had not come to its end, and the intervals are wider for it: give more --evaluations.",
                soft_wrap=True,
            )
        for name, unit, scale in (("joint_rad", "mrad", 1e3), ("tool_m", "mm", 1e3), ("object_m", "mm", 1e3)):
            before, after = getattr(fit.held_out_nominal, name), getattr(fit.held_out_fitted, name)
            if before is not None:
                what = name.split("_")[0]
                console.print(
                    f"held out, {what}: {scale * before:.3g} {unit} off with nominal parameters, "
                    f"{scale * after:.3g} {unit} with the fit"
                )
        if fit.held_out_fitted.tool_m >= fit.held_out_nominal.tool_m:
            console.print(
                "The fit foretells the held-out episodes no better than the nominal parameters do: do not use "
                f"{self.out}. Either nominal is right, or the data tell too little: record faster motion, or give more "
                "--evaluations.",
                soft_wrap=True,
            )
            return
        console.print(f"written to {self.out}; next: --randomize {self.out}", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Settings:
    """How long is searched, and with what; see `IdentifyConfig`."""

    held_out: float = IdentifyConfig.held_out
    """Share of the episodes that the fit is judged on, and never made with."""
    evaluations: int = IdentifyConfig.evaluations
    """Of the error of all training episodes, at most."""
    channel: str = IdentifyConfig.channel
    """Commands that are stepped again: requested (through the Guard, as recorded), or sent."""
    seed: int = IdentifyConfig.seed


def _verdict(one: FittedParameter) -> str:
    if not one.told:
        return "the data cannot tell"
    return "at the end of the range searched" if one.at_edge else ""
