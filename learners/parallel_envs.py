"""`ParallelEnvs`: a stable-baselines3 `VecEnv` of few processes that hold several environments each.

stable-baselines3's own takes a process for every environment: on a machine of few cores they wait for each other at
every step. Here a step costs one message a process, whatever it holds. Environments restart by themselves when an
episode ends, as in every `VecEnv`; inside a process stable-baselines3's `DummyVecEnv` does that.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import CloudpickleWrapper, VecEnvObs, VecEnvStepReturn

from understudy.errors import InputError, UnderstudyError

EnvFactory = Callable[[], gymnasium.Env[Any, Any]]
STOP_TIMEOUT_S = 5.0


class ParallelEnvs(VecEnv):
    """Environments in order: the first process holds the first of them, and so on."""

    def __init__(self, factories: Sequence[EnvFactory], processes: int = 2) -> None:
        """Start the processes and make the environments in them.

        Args:
            factories: one an environment; each is sent to its process.
            processes: how many, at most one an environment; the environments are spread evenly.

        Raises:
            InputError: no environment, no process, or more processes than environments.
            UnderstudyError: an environment could not be made; with the process's own words.
        """
        if not 1 <= processes <= len(factories):
            raise InputError(
                f"{len(factories)} environments cannot be spread over {processes} processes; "
                "take at least 1 of each, and no more processes than environments."
            )
        self.processes = processes
        bounds = [rank * len(factories) // processes for rank in range(processes + 1)]
        self._shares = [range(first, stop) for first, stop in itertools.pairwise(bounds)]
        # spawn: a fork would share PyBullet's and torch's threads and locks with this process
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection[Any, Any]] = []
        self._workers = []
        self._waiting = self._closed = False
        self._failed: dict[int, str] = {}
        """Process -> what it said when an environment failed; it has ended then."""
        try:
            for share in self._shares:
                pipe, other = context.Pipe()
                made = CloudpickleWrapper([factories[index] for index in share])
                worker = context.Process(target=_work, args=(other, made), name="environments", daemon=True)
                worker.start()
                other.close()
                self._pipes.append(pipe)
                self._workers.append(worker)
            spaces = [self._receive(rank) for rank in range(processes)]
        except BaseException:
            self.close()
            raise
        super().__init__(len(factories), *spaces[0][:2])
        self.render_mode = spaces[0][2]

    def step_async(self, actions: NDArray[Any]) -> None:
        """Send every process its actions (E, A)."""
        for rank, share in enumerate(self._shares):
            self._send(rank, "step", actions[share[0] : share[-1] + 1])
        self._waiting = True

    def step_wait(self) -> VecEnvStepReturn:
        """(observations, rewards (E,), dones (E,), infos) of all, in order."""
        results = [self._receive(rank) for rank in range(self.processes)]
        self._waiting = False
        observations, rewards, dones, infos, resets = zip(*results, strict=True)
        for share, told in zip(self._shares, resets, strict=True):
            if told is not None:
                self.reset_infos[share[0] : share[-1] + 1] = told
        every = [info for part in infos for info in part]
        return _joined(observations), np.concatenate(rewards), np.concatenate(dones), every

    def reset(self) -> VecEnvObs:
        """Begin an episode in every environment, with the seeds that `seed` set."""
        for rank, share in enumerate(self._shares):
            seeds, options = ([values[index] for index in share] for values in (self._seeds, self._options))
            self._send(rank, "reset", (seeds, options))
        results = [self._receive(rank) for rank in range(self.processes)]
        self.reset_infos = [info for _, part in results for info in part]
        self._reset_seeds()
        self._reset_options()
        begun: VecEnvObs = _joined([observation for observation, _ in results])
        return begun

    def close(self) -> None:
        """Close the environments and end the processes; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes:
            pipe.close()  # a worker that reads from a closed pipe closes its environments and ends
        for worker in self._workers:
            worker.join(STOP_TIMEOUT_S)
            if worker.is_alive():
                worker.terminate()
                worker.join()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of each chosen environment."""
        return self._ask("get", attr_name, indices)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of each chosen environment."""
        self._ask("set", (attr_name, value), indices)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """What a method returns in each chosen environment."""
        return self._ask("call", (method_name, method_args, method_kwargs), indices)

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """Whether each chosen environment is wrapped so."""
        return self._ask("wrapped", wrapper_class, indices)

    def _ask(self, what: str, data: Any, indices: Any) -> list[Any]:
        """Ask the processes that hold the chosen environments; answers in the order of `indices`."""
        chosen = list(self._get_indices(indices))
        answers: dict[int, Any] = {}
        for rank, share in enumerate(self._shares):
            local = [index - share[0] for index in chosen if index in share]
            if local:
                self._send(rank, what, (data, local))
                answers |= zip((share[0] + index for index in local), self._receive(rank), strict=True)
        return [answers[index] for index in chosen]

    def _send(self, rank: int, what: str, data: Any) -> None:
        if self._closed:
            raise InputError("These environments are closed; make them anew to go on.")
        if rank in self._failed:
            said = self._failed[rank]
            raise UnderstudyError(f"An environment failed before, and its process ended; close these. It said:\n{said}")
        try:
            self._pipes[rank].send((what, data))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._died(rank) from error

    def _receive(self, rank: int) -> Any:
        try:
            failed, result = self._pipes[rank].recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._died(rank) from error
        if failed:
            self._failed[rank] = str(result)
            raise UnderstudyError(f"An environment failed in its process:\n{result}")
        return result

    def _died(self, rank: int) -> UnderstudyError:
        share = self._shares[rank]
        return UnderstudyError(
            f"The process of environments {share[0]} to {share[-1]} died (out of memory, or an environment ended it); "
            "its own words are above."
        )


def _joined(parts: Sequence[Any]) -> Any:
    """Observations of several processes as those of one."""
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)


def _work(pipe: Connection[Any, Any], factories: CloudpickleWrapper) -> None:
    """A process: answer (command, data) with (failed, result) until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which closes the pipe
    envs: DummyVecEnv | None = None
    try:
        envs = DummyVecEnv(factories.var)
        pipe.send((False, (envs.observation_space, envs.action_space, envs.render_mode)))
        while True:
            what, data = pipe.recv()
            pipe.send((False, _answer(envs, what, data)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception:
        pipe.send((True, traceback.format_exc()))
    finally:
        if envs is not None:
            envs.close()


def _answer(envs: DummyVecEnv, what: str, data: Any) -> Any:
    if what == "step":
        observations, rewards, dones, infos = envs.step(data)
        # a start is as much to send as an observation, and only a new one is news
        return observations, rewards, dones, infos, envs.reset_infos if dones.any() else None
    if what == "reset":
        envs._seeds, envs._options = data
        return envs.reset(), envs.reset_infos
    details, indices = data
    if what == "get":
        return envs.get_attr(details, indices)
    if what == "set":
        name, value = details
        envs.set_attr(name, value, indices)
        return [None] * len(indices)
    if what == "call":
        name, args, kwargs = details
        return envs.env_method(name, *args, indices=indices, **kwargs)
    assert what == "wrapped"
    return envs.env_is_wrapped(details, indices)
