"""A process that records one episode after the other until it is killed, and says what is safe on disk.

Lines on stdout: `open <id>`, `step <k>` once k steps are on disk, `commit <id> <sha256 of the file>`.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import time

import numpy as np
from datasets_builders import make_episode, steps_of

from understudy.datasets.camera_streams import CameraFrame
from understudy.datasets.episode import Stream
from understudy.datasets.store import Dataset

EVERY = 9
"""Samples are handed over every so many steps."""


def main(path: str, images: bool) -> None:
    dataset = Dataset.open_or_create(path, robot="two_joint", task="reach")
    episodes = [make_episode(90, seed=seed, images=images) for seed in range(3)]
    for number in itertools.count():
        episode = episodes[number % len(episodes)]
        first = {key: values[0] for key, values in episode.observations.items()}
        with dataset.begin(episode.info, first) as writer:
            say("open", writer.path.stem)
            for k, step in enumerate(steps_of(episode)):
                writer.add(step)
                if images and k % EVERY == EVERY - 1:  # and samples at their own rate, ten a step
                    some = range(k + 1 - EVERY, k + 1)
                    stamps = np.arange(10 * some[0], 10 * (k + 1))
                    frames = [CameraFrame(j, j, episode.observations["image_front"][j]) for j in some]
                    writer.add_samples({"command": Stream(stamps, stamps[:, None] * 0.5, stamps)}, {"front": frames})
                while writer.written <= k:
                    time.sleep(0.0001)
                say("step", k + 1)
            id = dataset.commit(writer.finish())
        say("commit", id, hashlib.sha256(dataset.file(id).read_bytes()).hexdigest())


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "images")
