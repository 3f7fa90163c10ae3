"""`SimArm`: an arm and its scene in PyBullet.

Owns the physics client. Time is simulated: `clock.sleep_until` steps the physics. `sim_motors.py` makes commands move
the arm.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pybullet
import pybullet_data
from numpy.typing import NDArray

from understudy.envs.arms.actuation import Actuation, Mode
from understudy.envs.arms.arm import Command, Observation, Pose, Start
from understudy.envs.arms.findings import refuse
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.robot_check import check_full_urdf
from understudy.envs.arms.sim_clock import PHYSICS_HZ, SimClock
from understudy.envs.arms.sim_dynamics import Dynamics
from understudy.envs.arms.sim_looks import SimLooks
from understudy.envs.arms.sim_motors import MotorState, SimMotors
from understudy.envs.arms.sim_past import Past, SimPast
from understudy.envs.arms.sim_physics import SimPhysics, mend_links
from understudy.envs.arms.sim_render import CAMERAS, SimRenderer, fastest_renderer
from understudy.envs.arms.sim_scene import SimScene
from understudy.envs.arms.sim_sensors import SensorState, SimSensors, Truth
from understudy.envs.arms.urdf import read_urdf
from understudy.envs.parameters import NOMINAL, PARAMETERS
from understudy.envs.tasks.marks import Mark
from understudy.envs.tasks.scene import SceneObject
from understudy.errors import InputError, unknown_name

Array = NDArray[Any]

SOLVER_RESIDUAL = 1e-5
"""The contact solver stops here; a physics step then takes a sixth less than at PyBullet's default of 1e-7. Episodes
of `pick_place`, `stack` and `insert`, played again with the same commands, end with the object within 0.4 mm and the
joints within 0.13 mrad of where the default has them; the default itself is up to 0.7 mm from four times its
iterations. An arm that should stand still is 0.1 mrad off. At 1e-4 that is 0.5 mrad; at 1e-3 a peg slipped away."""


@dataclass(frozen=True)
class SimState:
    """A moment of a `SimArm`; PyBullet keeps the bodies' part of it for as long as this object lives."""

    number: int
    """PyBullet's, of its saved state."""
    clock: tuple[int, int]
    motors: MotorState
    physics: Mapping[str, float]
    sensors: SensorState
    goals: Mapping[str, Array]
    effort: Array
    """(J,) N m, which PyBullet does not go back to."""
    past: Past | None
    touching: bool
    """Whether anything touches anything."""


class SimArm:
    """A PyBullet arm on a table, with the objects of a task."""

    def __init__(
        self,
        robot: RobotDescription,
        objects: Mapping[str, SceneObject] | None = None,
        *,
        cameras: tuple[str, ...] = (),
        pictures: bool = False,
        realtime: bool = False,
        actuation: Actuation | Mode = "position",
    ) -> None:
        """Args:
        robot: what to load.
        objects: name -> what it is; each gives `<name>_position` and `<name>_quaternion`.
        cameras: those `observe` renders as `image_<camera>`; sizes from the robot's `ros.cameras`.
        pictures: `render` will be called often: with this, or with cameras, the fastest renderer here draws.
        realtime: pace the physics to the wall clock, for people and for ROS 2.
        actuation: how the joints are driven.

        Raises:
            InputError: the URDF cannot be loaded, or a camera or the actuation is unknown.
        """
        self._actuation = actuation if isinstance(actuation, Actuation) else Actuation(actuation)
        self._robot = robot
        self._cameras = {name: _camera(robot, name) for name in cameras}
        self._objects = dict(objects or {})
        self.clock = SimClock(self.step_physics, realtime)
        self._closed = False
        renderer = fastest_renderer() if cameras or pictures else "tiny"
        self._client = pybullet.connect(pybullet.DIRECT)
        try:
            self.renderer = SimRenderer(self._client, renderer)
            self._load()
        except InputError:
            self.close()
            raise
        self._effort: Array | None = np.zeros(len(self._joints))
        """(J,) N m until the next physics step: up to there PyBullet tells what was before a reset."""
        self._past = SimPast()
        self._goals: Mapping[str, Array] = {}
        self._keep_initial()

    # -- the Arm interface

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self._robot

    def observe(self) -> Observation:
        """Joints, gripper, objects, goals and cameras as they are now, with this episode's sensor noise."""
        values, stamps = self.sensors.read(self._truth(self.clock.now_ns()))
        others = dict(self._goals)
        for name, (width, height) in self._cameras.items():
            others[f"image_{name}"] = self.render(name, width, height)
        if others:
            values, stamps = values | others, stamps | dict.fromkeys(others, self.clock.now_ns())
        return Observation(values, stamps)

    def send(self, command: Command) -> Command:
        """Take a new set point; it acts after this episode's action delay."""
        position = np.array(command.joint_position, np.float64)
        if position.shape != (len(self._joints),) or not all(map(math.isfinite, position.tolist())):
            raise InputError(
                f"Command for {self._robot.name!r} must be {len(self._joints)} finite joint positions in rad, "
                f"got {position.tolist()}."
            )
        width = command.gripper_position
        if width is not None and not math.isfinite(width):
            raise InputError(f"Command for {self._robot.name!r} must have a finite gripper opening in m, got {width}.")
        now_ns = self.clock.now_ns()
        taken, late_ns = Command(position, width), self.sensors.command_lateness_ns(now_ns)
        self._past.note(self.clock.steps, taken, late_ns)
        self.motors.send(now_ns, taken, late_ns)
        return command

    def hold(self) -> None:
        """Make the position the arm has now its set point."""
        self._past.note(self.clock.steps, None)
        self._hold()

    def _hold(self) -> None:
        positions = [state[0] for state in self._states(self._joints)]
        self.motors.hold(self.clock.now_ns(), np.array(positions))

    def reset(self, start: Start) -> Observation:
        """Teleport arm and objects to `start`, with its physics; deterministic whatever came before."""
        self._past.begin(start)
        self._begin(start)
        return self.observe()

    def _begin(self, start: Start) -> None:
        self._effort = np.zeros(len(self._joints))
        self.clock.restart_count()
        self._forget_contacts()
        self._apply_physics(start.physics, start.seed)
        self._set_joints(start)
        for name, pose in start.objects.items():
            self.scene.place(name, pose, start.openings.get(name, 0.0))
        self._goals = {key: np.asarray(value, np.float64) for key, value in start.goals.items()}
        if self.sensors.delayed:
            self.sensors.remember(self._truth(self.clock.now_ns()))

    def close(self) -> None:
        """See `Arm`."""
        if not self._closed:
            self._closed = True
            if hasattr(self, "renderer"):  # not where the renderer itself was refused
                self.renderer.close()
            pybullet.disconnect(physicsClientId=self._client)

    # -- simulation only

    def save(self) -> SimState:
        """This moment, to go on from exactly, as long as the arm is open."""
        number = pybullet.saveState(physicsClientId=self._client)
        state = SimState(
            number,
            self.clock.save(),
            self.motors.state(),
            self._applied,
            self.sensors.state(),
            self._goals,
            np.array(self._truth(self.clock.now_ns()).joints["joint_effort"]),
            self._past.state(),
            self._touching(),
        )
        weakref.finalize(state, self._forget_state, number).atexit = False
        return state

    def restore(self, state: SimState) -> None:
        """Go back to a moment that this arm's `save` returned; its clock goes back too.

        Where something touches, the episode is stepped again up to there, as long as that takes.
        """
        if state.physics["object_size_scale"] != self._applied["object_size_scale"]:
            self._forget_contacts()  # what is made anew now must not keep anything of here
        self._apply_physics(state.physics, state.sensors.seed)
        self._go_to(state.number)
        if state.past is not None and (state.touching or self._touching()):
            self._play_again(state, state.past)
        self.clock.restore(state.clock)
        self.motors.restore(state.motors)
        self._goals, self._effort = state.goals, state.effort
        self.sensors.restore(state.sensors)
        self._past.restore(state.past)

    def _play_again(self, state: SimState, past: Past) -> None:
        """Step the episode again from its start to a moment: what PyBullet saves of contacts is not all of them."""
        begin_ns, steps = state.clock
        self.clock.restore((begin_ns, 0))
        self._begin(past.start)
        for deed in past.deeds:
            self.clock.run_to(deed.steps)
            if deed.command is None:
                self._hold()
            else:
                self.motors.send(self.clock.now_ns(), deed.command, deed.late_ns)
        self.clock.run_to(steps)

    def _touching(self) -> bool:
        return bool(pybullet.getContactPoints(physicsClientId=self._client))

    def _go_to(self, number: int) -> None:
        """Restore a saved state with its contacts: PyBullet restores those only of pairs that touch when it does so."""
        client = self._client
        pybullet.restoreState(number, physicsClientId=client)
        self.scene.put_aside()
        for _ in range(2):
            pybullet.performCollisionDetection(physicsClientId=client)
            pybullet.restoreState(number, physicsClientId=client)

    def _forget_state(self, number: int) -> None:
        if not self._closed:
            pybullet.removeState(number, physicsClientId=self._client)

    def step_physics(self, now_ns: int) -> None:
        """One physics step; the clock calls it."""
        self.motors.drive(now_ns)
        self._effort = None
        pybullet.stepSimulation(physicsClientId=self._client)
        if self.sensors.delayed:
            self.sensors.remember(self._truth(now_ns + 1_000_000_000 // PHYSICS_HZ))

    def simulator_state(self) -> NDArray[np.float64]:
        """(D,) joint positions and velocities, finger positions, then each object's pose, velocity and opening."""
        joints = self._states(self._joints)
        parts: list[Any] = [[state[0] for state in joints], [state[1] for state in joints]]
        parts.append([state[0] for state in self._states(self._fingers)])
        parts += self.scene.states()
        return np.concatenate([np.asarray(part, np.float64) for part in parts])

    def object_pose(self, name: str) -> Pose:
        """Where an object truly is, without sensor noise."""
        return self.scene.pose(name)

    def render(
        self, camera: str = "front", width: int = 320, height: int = 240, marks: Iterable[Mark] = ()
    ) -> NDArray[np.uint8]:
        """A picture (height, width, 3) from a camera in `CAMERAS`; with marks it is for people."""
        groups = {"object": self.scene.bodies, "table": [self.scene.table], "arm": [self._body]}
        view = self.looks.show(groups)
        if view is not None:
            self.renderer.set_view(view)
        return self.renderer.draw(camera, width, height, marks)

    def _forget_contacts(self) -> None:
        """Restore the first state with nothing touching: Bullet would start from the last episode's contacts."""
        pybullet.restoreState(self._initial, physicsClientId=self._client)
        self.scene.put_aside()
        pybullet.performCollisionDetection(physicsClientId=self._client)
        pybullet.restoreState(self._initial, physicsClientId=self._client)

    # -- building the scene

    def _load(self) -> None:
        client = self._client
        pybullet.setTimeStep(1.0 / PHYSICS_HZ, physicsClientId=client)
        # contacts are solved in an order that does not depend on when they began: a moment can be gone back to exactly
        pybullet.setPhysicsEngineParameter(
            deterministicOverlappingPairs=1, solverResidualThreshold=SOLVER_RESIDUAL, physicsClientId=client
        )
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=client)
        refuse(check_full_urdf(self._robot), self._robot.folder / f"{self._robot.name}.yaml")
        path = self._robot.urdf_path()
        try:
            self._body = pybullet.loadURDF(str(path), useFixedBase=True, physicsClientId=client)
        except pybullet.error as error:
            raise InputError(f"PyBullet cannot load the URDF {path}: {error}") from error
        mend_links(client, self._body, read_urdf(path))
        names = self._joint_indices()
        missing = [name for name in self._robot.joint_names if name not in names]
        if missing:
            raise InputError(f"URDF {path} has no movable joints {missing}; it has {sorted(names)}.")
        self._joints = [names[name] for name in self._robot.joint_names]
        fingers = self._robot.gripper.joints if self._robot.gripper else {}
        self._fingers = [names[name] for name in fingers]
        self._moving = [*self._joints, *self._fingers]
        self.motors = SimMotors(client, self._body, self._robot, self._joints, self._fingers, self._actuation)
        dynamics = Dynamics(client)
        self.physics = SimPhysics(client, self._body, self._joints, self._fingers, dynamics)
        self.scene = SimScene(client, self._objects, dynamics)
        self.looks = SimLooks(client)
        ages = [self._robot.ros.joint_states.max_age_s, *(pose.max_age_s for pose in self._robot.ros.poses.values())]
        longest_gap_s = min(ages) - 2 * self._robot.period_s
        self.sensors = SimSensors(len(self._joints), round(longest_gap_s * 1e9))
        self._applied: Mapping[str, float] = {}
        self._initial = -1
        self._apply_physics({}, 0)

    def _joint_indices(self) -> dict[str, int]:
        """Name -> index of every joint that moves; their default motors are switched off."""
        movable = {}
        for index in range(pybullet.getNumJoints(self._body, physicsClientId=self._client)):
            info = pybullet.getJointInfo(self._body, index, physicsClientId=self._client)
            if info[2] != pybullet.JOINT_FIXED:
                movable[info[1].decode()] = index
        return movable

    def _apply_physics(self, physics: Mapping[str, float], seed: int) -> None:
        """Set every parameter, `physics` where it names one, nominal otherwise; sensors and jitter begin anew."""
        for name in physics:
            if name not in PARAMETERS:
                raise unknown_name("physical parameter", name, PARAMETERS)
        sample = {**NOMINAL, **physics}
        self.sensors.begin(self.clock.now_ns(), int(physics.get("noise_seed", seed)), sample)
        sample["noise_seed"] = 0.0
        if sample == self._applied:
            return
        self._applied = sample
        self.physics.apply(sample)
        self.looks.want(sample)
        self.motors.set_physics(
            sample["motor_gain_scale"],
            sample["motor_strength_scale"],
            sample["action_delay_s"],
            sample["gripper_strength_scale"],
        )
        before = self.scene.bodies
        if self.scene.set_physics(sample):
            self.looks.forget([*before, *self.scene.bodies])
            self._keep_initial()

    def _keep_initial(self) -> None:
        """Keep the state as it is, with nothing touching, for `_forget_contacts`."""
        if self._initial >= 0:
            pybullet.removeState(self._initial, physicsClientId=self._client)
        self._initial = pybullet.saveState(physicsClientId=self._client)

    def _set_joints(self, start: Start) -> None:
        position = np.asarray(start.joint_position, np.float64)
        width = self.motors.open_width if start.gripper_position is None else start.gripper_position
        fingers = self._robot.finger_positions(width) if self._fingers else np.zeros(0)
        for index, value in zip(self._moving, [*position, *fingers], strict=True):
            pybullet.resetJointState(self._body, index, value, 0.0, physicsClientId=self._client)
        self.motors.stand(position, width)

    # -- sensing

    def _states(self, joints: list[int]) -> Any:
        return pybullet.getJointStates(self._body, joints, physicsClientId=self._client) if joints else ()

    def _truth(self, now_ns: int) -> Truth:
        position, velocity, _, effort = zip(*self._states(self._moving), strict=True)
        count = len(self._joints)
        joints: dict[str, Array] = {
            "joint_position": np.array(position[:count]),
            "joint_velocity": np.array(velocity[:count]),
            "joint_effort": np.array(self.motors.torques or effort[:count]) if self._effort is None else self._effort,
        }
        if self._fingers:
            joints["gripper_position"] = np.array([self._robot.gripper_width(position[count:])])
        objects: dict[str, Array] = {}
        for name, thing in self._objects.items():
            pose = self.scene.pose(name)
            objects[f"{name}_position"] = pose.position
            objects[f"{name}_quaternion"] = pose.quaternion
            if thing.slide is not None:
                objects[f"{name}_opening"] = np.array([self.scene.opening(name)])
        return Truth(now_ns, joints, objects)


def _camera(robot: RobotDescription, name: str) -> tuple[int, int]:
    """(width, height) of a camera the robot's file names and the simulator knows how to place."""
    if name not in robot.ros.cameras or name not in CAMERAS:
        raise unknown_name("camera", name, set(robot.ros.cameras) & set(CAMERAS))
    described = robot.ros.cameras[name]
    return described.width, described.height
