"""`understudy dataset check|show|replay`: judge a dataset, draw it, and play it again.

This module owns tables, JSON, the question before dropping, and where pictures go; what they say comes from
`datasets/` and `envs/replay.py`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from understudy.cli.dataset import open_dataset
from understudy.datasets.checking.checks import LEVELS, Forward, Level, Report, as_dict, check_dataset
from understudy.datasets.drawing.picture_style import require_place
from understudy.datasets.store import Dataset
from understudy.errors import InputError, UnderstudyError, unknown_name

if TYPE_CHECKING:
    from understudy.envs.replay import Replay

__all__ = ["DatasetCheck", "DatasetReplay", "DatasetShow"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class DatasetCheck:
    """Answer "may I train on this?": every episode is judged ok, warn or fail, with reasons.

    With --drop the episodes that fail are moved to the trash, after a question; `dataset restore` brings them back.
    Leaves with 0 when what is there (what is left, with --drop) may be trained on, with 1 when an episode or the whole
    fails, and with 2 when there is no dataset.

    Example:
        understudy dataset check demos/lift
        understudy dataset check demos/lift --picture lift.png
        understudy dataset check demos/lift --drop
        understudy dataset check demos/lift --json | python -m json.tool
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    json: bool = False
    """Print one JSON object for programs."""
    picture: Path | None = None
    """Also draw it into this file (png, svg or pdf)."""
    robot: str | None = None
    """The path of the robot's YAML file, where it is not a shipped one: joints and tool are then held against its
    kinematics. Without, the other episodes tell what belongs together."""
    drop: bool = False
    """Move the episodes that fail to the trash, after a question."""
    yes: bool = False
    """Answer that question with yes, for scripts."""

    def run(self) -> int:
        self._require_answer()
        if self.picture is not None:
            require_place(self.picture)
        dataset = open_dataset(self.directory)
        report = _checked(dataset, self.robot, quiet=self.json)
        # Verdicts are told before anything else is tried, so that nothing that goes wrong then can lose them.
        if not self.json:
            _print_report(report, advise=not self.drop)
            self._draw(dataset, report)
        dropped = self._drop(dataset, report) if self.drop else ()
        if self.json:
            print(json.dumps({**as_dict(report), "dropped": list(dropped)}, indent=2))
            self._draw(dataset, report)
        return 0 if _trainable_without(report, dropped) else 1

    def _draw(self, dataset: Dataset, report: Report) -> None:
        if self.picture is not None:
            _draw_overview(report, dataset, self.picture)

    def _require_answer(self) -> None:
        """Refuse a question that nobody can answer, before any work."""
        if self.yes and not self.drop:
            raise InputError("--yes answers the question that --drop asks; give both.")
        if self.drop and not self.yes and (self.json or not sys.stdin.isatty()):
            where = "--json leaves no room for a question" if self.json else "there is no terminal to ask at"
            raise InputError(f"--drop asks before it moves anything, and {where}: add --yes to drop what fails.")

    def _drop(self, dataset: Dataset, report: Report) -> tuple[str, ...]:
        """Move what fails to the trash, if that is wished; returns the ids."""
        failing = report.droppable
        if not failing:
            return ()
        if not self.yes and not _asked(f"Move {len(failing)} of {len(report.episodes)} episodes to the trash? [y/N] "):
            print("nothing was moved", file=sys.stderr)
            return ()
        dataset.drop_all(failing)
        if not self.json:
            print(f"moved to the trash: {', '.join(failing)}")
            print(f"they come back with: understudy dataset restore {shlex.quote(str(dataset.path))} ID ...")
        return failing


@dataclass(frozen=True)
class DatasetShow:
    """Draw one episode (joints, actions, rewards, ages, cameras), or the whole dataset, into a picture.

    Example:
        understudy dataset show demos/lift
        understudy dataset show demos/lift 20261121-101500-a1b2c3 --out take.png
        understudy dataset show demos/lift 3
        understudy dataset show demos/lift 3 --video take.mp4
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    id: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ID")] = ""
    """An episode, by its id or its number in `dataset check`; without one the whole dataset is drawn."""
    out: Path | None = None
    """Where to (png, svg or pdf); by default ID.png, or the folder's name, in the working directory."""
    video: Path | None = None
    """Draw the episode as a video of the simulated arm instead (mp4 or gif), at the robot's own pace."""

    def run(self) -> int:
        if self.out is not None:
            require_place(self.out)
        dataset = open_dataset(self.directory)
        if self.video is not None:
            return self._film(dataset, self.video)
        if not self.id:
            out = self.out or Path(f"{dataset.path.resolve().name}.png")
            _draw_overview(_checked(dataset, None, quiet=False), dataset, out)
        else:
            from understudy.datasets.drawing.episode_picture import draw_episode  # matplotlib

            id = _resolved(dataset, self.id)
            out = self.out or Path(f"{id}.png")
            draw_episode(dataset.read(id), out, id)
        print(f"drawn into {out}")
        return 0

    def _film(self, dataset: Dataset, out: Path) -> int:
        from understudy.envs.arms.robot import load_robot
        from understudy.envs.filmstrip import moving_pictures  # pybullet
        from understudy.envs.tasks.task import make_task
        from understudy.envs.video import require_video, write_video

        require_video(out)
        if not self.id:
            raise InputError("A video shows one episode; name it (its id, or its number in `dataset check`).")
        _require_arm(dataset, "A video")
        robot, id = load_robot(dataset.robot), _resolved(dataset, self.id)
        frames = moving_pictures(dataset.read(id), robot, make_task(dataset.task))
        count = write_video(out, frames, robot.rate_hz)
        print(f"{count} frames written to {out}")
        return 0


@dataclass(frozen=True)
class DatasetReplay:
    """Step recorded actions again in PyBullet and report how far the arm and the objects stray from the recording.

    A simulated episode is held against the simulator's states that were recorded with it; one from hardware against
    its observations, so that its deviation is the simulator's error and the arm's tracking together. `requested` plays
    what was asked for through the Guard again, which brings a simulated episode back exactly; `sent` plays what left
    the Guard, without it, which brings the tool back but not each joint. Leaves with 0 when all stayed within the
    tolerances, else with 1.

    Example:
        understudy dataset replay demos/lift
        understudy dataset replay demos/lift 20261121-101500-a1b2c3 --channel sent
        understudy dataset replay demos/lift --episodes 5 --json
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    ids: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="ID ...")] = ()
    """Episodes, by id or number in `dataset check`; without any, all of them."""
    episodes: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Only the first N."""
    channel: Literal["requested", "sent"] = "requested"
    """The actions to play."""
    robot: str | None = None
    """The path of the robot's YAML file, where it is not a shipped one."""
    joint_tolerance_rad: float = 0.1
    """How far any joint may stray."""
    tool_tolerance_m: float = 0.01
    """How far the tool may stray."""
    object_tolerance_m: float = 0.03
    """How far an object may stray."""
    json: bool = False
    """Print one JSON object for programs."""

    def run(self) -> int:
        if self.episodes is not None and self.episodes < 1:
            raise InputError(f"--episodes must be at least 1, got {self.episodes}.")
        if self.ids and self.episodes is not None:
            raise InputError("Give ids or --episodes, not both.")
        dataset = open_dataset(self.directory)
        _require_arm(dataset, "Replay")
        ids = [_resolved(dataset, id) for id in self.ids] or list(dataset.ids)[: self.episodes]
        if not ids:
            raise InputError(f"{dataset.path} holds no episodes to replay.")
        outcomes = self._play(dataset, ids)
        if self.json:
            print(json.dumps({"path": str(dataset.path), "episodes": [_outcome(*pair) for pair in outcomes]}, indent=2))
        else:
            _print_replays(outcomes)
        return 0 if all(not isinstance(came, UnderstudyError) and came.within for _, came in outcomes) else 1

    def _play(self, dataset: Dataset, ids: list[str]) -> list[tuple[str, Replay | UnderstudyError]]:
        """What came of each episode; one that cannot be played does not keep the others from it."""
        from understudy.envs.arms.robot import load_robot
        from understudy.envs.replay import ReplayConfig, Replayer  # pybullet
        from understudy.envs.tasks.task import make_task

        config = ReplayConfig(self.channel, self.joint_tolerance_rad, self.tool_tolerance_m, self.object_tolerance_m)
        outcomes: list[tuple[str, Replay | UnderstudyError]] = []
        robot, task = load_robot(self.robot or dataset.robot), make_task(dataset.task)
        with Replayer(robot, task, config) as replayer, _bar(self.json) as progress:
            for id in progress.track(ids, description="replaying"):
                try:
                    outcomes.append((id, replayer.play(dataset.read(id, images=False))))
                except UnderstudyError as error:
                    outcomes.append((id, error))
        return outcomes


def _require_arm(dataset: Dataset, what: str) -> None:
    """Refuse episodes of an environment of others, which no simulator of ours can step or draw."""
    from understudy.envs.foreign_env import NO_ROBOT  # gymnasium

    if dataset.robot == NO_ROBOT:
        raise InputError(
            f"{what} is made in our own simulator, and {dataset.path} was recorded in {dataset.task!r}, which has no "
            "arm; make that environment with a render mode to see it."
        )


def _bar(quiet: bool) -> Progress:
    return Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty())


def _checked(dataset: Dataset, robot: str | None, *, quiet: bool) -> Report:
    forward = _forward(robot, dataset.robot)
    with _bar(quiet) as progress:
        bar = progress.add_task("checking", total=len(dataset))
        return check_dataset(dataset, progress=lambda done: progress.update(bar, completed=done), forward=forward)


def _forward(file: str | None, name: str) -> Forward | None:
    """The kinematics of the robot in `file`, or of the shipped one of that name; None where neither is known here."""
    from understudy.envs.arms.robot import known_robots, load_robot

    if file is None and (name not in known_robots() or importlib.util.find_spec("pinocchio") is None):
        return None
    from understudy.envs.arms.kinematics import Kinematics

    robot = load_robot(file or name)
    return Forward(len(robot.joints), Kinematics(robot).tool_rows)


def _draw_overview(report: Report, dataset: Dataset, path: Path) -> None:
    from understudy.datasets.drawing.pictures import draw_report  # matplotlib: not needed for the table

    draw_report(report, path, f"{dataset.task} on {dataset.robot}: {len(report.episodes)} episodes")


def _resolved(dataset: Dataset, word: str) -> str:
    """An episode's id from its id or its number in the index.

    Raises:
        InputError: there is no such episode.
    """
    known = dataset.ids
    if word in known:
        return word
    if word.isdecimal() and int(word) < len(known):
        return known[int(word)]
    raise unknown_name("episode", word, known)


def _asked(question: str) -> bool:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _trainable_without(report: Report, dropped: tuple[str, ...]) -> bool:
    """Whether what is left after dropping may be trained on."""
    left = tuple(verdict for verdict in report.episodes if verdict.id not in dropped)
    return dataclasses.replace(report, episodes=left).trainable


def _print_report(report: Report, *, advise: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("#", "episode", "verdict", "steps", "s", "success", "idle", "lag", "why"):
        number = heading in ("#", "steps", "s", "idle", "lag")
        # Ids are typed again by people: they are never shortened.
        fixed = len("20261121-101500-a1b2c3") if heading == "episode" else None
        table.add_column(
            heading, justify="right" if number else "left", overflow="fold", no_wrap=heading != "why", min_width=fixed
        )
    for index, verdict in enumerate(report.episodes):
        measures = verdict.measures
        numbers = ["", "", "?", "", ""]
        if measures is not None:
            success = {True: "yes", False: "no", None: "?"}[measures.success]
            lag = "" if measures.lag is None else f"{measures.lag:.1f}"
            numbers = [str(measures.steps), f"{measures.duration_s:.1f}", success, f"{measures.idle:.0%}", lag]
        why = "\n".join(f"{finding.check}: {finding.text}" for finding in verdict.findings)
        # Text, never markup: ids, paths and reasons may hold brackets.
        table.add_row(str(index), Text(verdict.id), _level(verdict.level), *numbers, Text(why))
    console.print(table)
    for finding in report.findings:
        console.print(Text.assemble(_level(finding.level), f" {finding.text}"))
    counts = ", ".join(f"{report.count(level)} {level}" for level in LEVELS)
    answer = Text("yes" if report.trainable else "no", style="bold")
    if advise and report.droppable:
        answer.append(f": drop or fix what fails (understudy dataset check {shlex.quote(str(report.path))} --drop)")
    console.print(Text.assemble(f"{counts}. May I train on this? ", answer), soft_wrap=True)


def _level(level: Level) -> Text:
    return Text(level, style=_STYLES[level])


def _outcome(id: str, came: Replay | UnderstudyError) -> dict[str, Any]:
    if isinstance(came, UnderstudyError):
        return {"id": id, "within": False, "error": str(came)}
    return {"id": id, "within": came.within, **dataclasses.asdict(came)}


def _print_replays(outcomes: list[tuple[str, Replay | UnderstudyError]]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("episode", "steps", "what", "rms", "worst", "at step", "verdict"):
        words = heading in ("episode", "what", "verdict")
        table.add_column(heading, justify="left" if words else "right", no_wrap=heading != "verdict", overflow="fold")
    played = [came for _, came in outcomes if not isinstance(came, UnderstudyError)]
    for id, came in outcomes:
        if isinstance(came, UnderstudyError):
            reason = Text.assemble(("not played", "bold red"), f": {came}")
            table.add_row(Text(id), "", "", "", "", "", reason)
            continue
        for row, deviation in enumerate(came.deviations):
            within = deviation.beyond_step is None
            said = Text("within", "green") if within else Text("beyond", "bold red")
            if not within:
                said.append(f" from step {deviation.beyond_step} on", "default")
            numbers = [_measure(value, deviation.unit) for value in (deviation.rms, deviation.worst)]
            first = (id, str(came.steps)) if row == 0 else ("", "")
            said.append(f" ({_measure(deviation.tolerance, deviation.unit)})", "default")
            table.add_row(*map(Text, first), Text(deviation.name), *numbers, str(deviation.worst_step), said)
    console.print(table)
    if played:
        same = sum(came.success_recorded == came.success_replayed for came in played)
        references = " and ".join(sorted({came.compared_with for came in played}))
        closing = (
            f"{sum(came.within for came in played)} of {len(outcomes)} within the tolerances; the outcome was the "
            f"recorded one in {same} of {len(played)}. Played: {played[0].channel}; compared with {references}."
        )
        console.print(closing, markup=False, soft_wrap=True)


def _measure(value: float, unit: str) -> str:
    """A small length or angle, readable: mm and mrad."""
    return f"{value * 1e3:.3g} m{unit}"
