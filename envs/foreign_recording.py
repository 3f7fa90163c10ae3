"""Demonstrations in an environment of others: a policy of the user's own plays there, and what it did is an episode.

Nothing of ours knows how to solve such an environment, and no device of ours can drive it: who records brings a policy.
"""

from __future__ import annotations

import datetime

import numpy as np
from numpy.typing import NDArray

from understudy import __version__
from understudy.datasets.convert.incoming import made_ticks
from understudy.datasets.episode import Episode
from understudy.datasets.schema import POLICY_ALONE, EpisodeInfo
from understudy.envs.arm_env import Observations
from understudy.envs.foreign_env import NO_ROBOT, ForeignEnv
from understudy.envs.policy import Policy


def record_policy(env: ForeignEnv, policy: Policy, seed: int, *, operator: str = "policy") -> Episode:
    """One episode of `policy` from `seed` to its end, ready for `Dataset.add`.

    The dataset is `Dataset.create(path, robot=NO_ROBOT, task=env.id)`. Stamps are made at `env.rate_hz`. Whether it
    succeeded is left open where the environment does not tell. All three action channels hold what the environment was
    given: nothing limits or measures it there.

    Raises:
        InputError: an action has another shape than the environment takes.
        DatasetError: an observation or reward is not finite.
    """
    observations: list[Observations] = []
    actions: list[NDArray[np.float32]] = []
    rewards: list[float] = []
    policy.reset()
    observation, _ = env.reset(seed=seed)
    done, success = False, False
    while not done:
        action = np.clip(np.asarray(policy.act(observation), np.float32), -1.0, 1.0)
        observations.append(observation)
        actions.append(action)
        observation, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        done, success = terminated or truncated, bool(info["success"])
    taken = env.action_spec.denormalise(np.stack(actions))
    return Episode(
        info=EpisodeInfo(
            robot=NO_ROBOT,
            task=env.id,
            action_spec=env.action_spec,
            rate_hz=env.rate_hz,
            operator=operator,
            device=POLICY_ALONE,
            success=None if env.judged_by == "nothing" else success,
            seed=seed,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            software=f"understudy {__version__}",
        ),
        observations={key: np.stack([seen[key] for seen in observations]) for key in observation},
        final_observation=observation,
        requested=taken,
        sent=taken.copy(),
        measured=taken.copy(),
        rewards=np.asarray(rewards, np.float32),
        tick_ns=made_ticks(len(actions), env.rate_hz),
    )
