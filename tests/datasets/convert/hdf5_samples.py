"""Small valid recordings as other tools write them: three short episodes, frames of 12 x 16.

Each function writes one below `folder` and returns what `read` of its format takes. The bytes are the same every time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LENGTHS = (5, 4, 6)
FRAME = (12, 16, 3)


def robomimic_sample(folder: Path, *, next_obs: bool = True, **env_kwargs: Any) -> Path:
    """A file of robosuite's Lift, as robomimic's dataset_states_to_obs.py writes it."""
    rng = np.random.default_rng(0)
    path = folder / "low_dim.hdf5"
    kwargs = {"robots": ["Panda"], "control_freq": 20, "controller_configs": {"type": "OSC_POSE"}, **env_kwargs}
    with h5py.File(path, "x") as file:
        data = file.create_group("data")
        for number, steps in enumerate(LENGTHS):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = steps
            demo.attrs["model_file"] = "<mujoco/>"
            demo.create_dataset("actions", data=rng.uniform(-1, 1, (steps, 7)))
            demo.create_dataset("rewards", data=np.eye(1, steps, steps - 1)[0])
            demo.create_dataset("dones", data=np.eye(1, steps, steps - 1, dtype=np.int64)[0])
            demo.create_dataset("states", data=rng.normal(size=(steps, 9)))
            for name, rows in _robosuite_rows(rng, steps + 1).items():
                demo.create_dataset(f"obs/{name}", data=rows[:-1])
                if next_obs:
                    demo.create_dataset(f"next_obs/{name}", data=rows[1:])
        data.attrs["total"] = sum(LENGTHS)
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": kwargs})
        file.create_dataset("mask/train", data=np.array([b"demo_0", b"demo_2"]))
    return path


def _robosuite_rows(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    quaternions = rng.normal(size=(rows, 4))
    finger = rng.uniform(0, 0.04, (rows, 1))
    return {
        "robot0_joint_pos": rng.uniform(-2, 2, (rows, 7)),
        "robot0_joint_vel": rng.normal(size=(rows, 7)),
        "robot0_eef_pos": rng.uniform(-1, 1, (rows, 3)),
        "robot0_eef_quat": quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True),
        "robot0_gripper_qpos": np.hstack([finger, -finger]),
        "object": rng.normal(size=(rows, 10)),
        "agentview_image": rng.integers(0, 256, (rows, *FRAME), dtype=np.uint8),
    }


def minari_sample(folder: Path) -> Path:
    """A dataset of Dict observations, as Minari's hdf5 storage writes it."""
    rng = np.random.default_rng(0)
    path = folder / "lab" / "push-v2"
    (path / "data").mkdir(parents=True)
    with h5py.File(path / "data" / "main_data.hdf5", "x", track_order=True) as file:
        for number, steps in enumerate(LENGTHS):
            group = file.create_group(f"episode_{number}")
            group.attrs.update({"id": number, "total_steps": steps, "seed": 7 + number})
            arrays = {
                "observations/proprio": rng.normal(size=(steps + 1, 4)),
                "observations/camera/front": rng.integers(0, 256, (steps + 1, *FRAME), dtype=np.uint8),
                "actions": rng.uniform(-2, 2, (steps, 2)).astype(np.float32),
                "rewards": rng.normal(size=steps),
                "terminations": np.zeros(steps, np.bool_),
                "truncations": np.eye(1, steps, steps - 1, dtype=np.bool_)[0],
                "infos/success": np.zeros(steps + 1, np.bool_),
            }
            for name, rows in arrays.items():
                group.create_dataset(name, data=rows, chunks=True, maxshape=(None, *rows.shape[1:]))
    (path / "data" / "metadata.json").write_text(json.dumps(_minari_metadata()), encoding="utf-8")
    return path


def _minari_metadata() -> Mapping[str, Any]:
    frame = box(FRAME, "uint8", 0, 255)
    observed = {
        "proprio": box((4,), "float64", -np.inf, np.inf),
        "camera": {"type": "Dict", "subspaces": {"front": frame}},
    }
    return {
        "total_episodes": len(LENGTHS),
        "total_steps": sum(LENGTHS),
        "data_format": "hdf5",
        "observation_space": json.dumps({"type": "Dict", "subspaces": observed}),
        "action_space": json.dumps(box((2,), "float32", -2.0, 2.0)),
        "dataset_id": "lab/push-v2",
        "minari_version": "0.5.3",
    }


def box(shape: tuple[int, ...], dtype: str, low: float, high: float) -> dict[str, Any]:
    """A Box space as Minari serializes it."""
    bounds = {"low": np.full(shape, low).tolist(), "high": np.full(shape, high).tolist()}
    return {"type": "Box", "dtype": dtype, "shape": list(shape), **bounds}


def aloha_sample(folder: Path, *, sim: bool = True) -> Path:
    """A folder of ALOHA's fourteen numbers and one camera, as its record_episodes.py writes them."""
    rng = np.random.default_rng(0)
    path = folder / "aloha_transfer"
    path.mkdir()
    for number, steps in enumerate(LENGTHS):
        with h5py.File(path / f"episode_{number}.hdf5", "x") as file:
            file.attrs["sim"] = sim
            for name in ("qpos", "qvel", "effort"):
                file.create_dataset(f"observations/{name}", data=rng.normal(size=(steps, 14)))
            frames = rng.integers(0, 256, (steps, *FRAME), dtype=np.uint8)
            file.create_dataset("observations/images/cam_high", data=frames, chunks=(1, *FRAME))
            file.create_dataset("action", data=rng.normal(size=(steps, 14)))
    return path


SAMPLES: Mapping[str, Callable[[Path], Path]] = {
    "robomimic": robomimic_sample,
    "minari": minari_sample,
    "aloha": aloha_sample,
}
"""Format -> the function that writes its sample."""
