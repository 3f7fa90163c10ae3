"""Videos: what was written is read back by other means."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from understudy.envs.video import VideoWriter, write_video
from understudy.errors import InputError


def squares(count: int, height: int = 48, width: int = 65) -> list[np.ndarray]:
    """A white square that moves 4 pixels a frame over grey."""
    frames = np.full((count, height, width, 3), 90, np.uint8)
    for index, frame in enumerate(frames):
        frame[10:20, 4 * index : 4 * index + 10] = 255
    return list(frames)


def test_an_mp4_holds_every_frame_in_order_at_its_rate(tmp_path: Path):
    frames = squares(12)
    assert write_video(tmp_path / "v.mp4", iter(frames), 20) == 12
    with av.open(str(tmp_path / "v.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 20)
        read = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
    assert [picture.shape for picture in read] == [(48, 66, 3)] * 12  # even sizes
    for index, picture in enumerate(read):
        assert np.abs(picture[:, :65].astype(int) - frames[index]).mean() < 6
        assert np.argwhere(picture[15, :, 0] > 170).mean() == pytest.approx(4 * index + 4.5, abs=1.5)


def test_a_gif_holds_every_frame_and_its_pace(tmp_path: Path):
    write_video(tmp_path / "v.gif", squares(5), 20)
    with Image.open(tmp_path / "v.gif") as gif:
        assert (gif.n_frames, gif.info["duration"], gif.size) == (5, 50, (65, 48))
        gif.seek(3)
        assert np.argwhere(np.asarray(gif.convert("RGB"))[15, :, 0] > 170).mean() == pytest.approx(16.5, abs=0.5)


@pytest.mark.parametrize(
    ("name", "words"), [("v.avi", r"must end in \.mp4 or \.gif"), ("none/v.mp4", "none does not exist; make it")]
)
def test_a_place_where_no_video_can_be_is_refused(tmp_path: Path, name: str, words: str):
    with pytest.raises(InputError, match=words):
        VideoWriter(tmp_path / name, 20)


def test_frames_that_are_no_pictures_or_change_size_are_refused(tmp_path: Path):
    with VideoWriter(tmp_path / "v.gif", 20) as video:
        with pytest.raises(InputError, match=r"must be \(height, width, 3\) of uint8, got \(8, 8\)"):
            video.add(np.zeros((8, 8), np.uint8))
        with pytest.raises(InputError, match="of float64"):
            video.add(np.zeros((8, 8, 3)))
        video.add(np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(InputError, match=r"Frame 1 is \(9, 8, 3\)"):
            video.add(np.zeros((9, 8, 3), np.uint8))
    with pytest.raises(InputError, match="above 0, got 0"):
        VideoWriter(tmp_path / "w.gif", 0)
