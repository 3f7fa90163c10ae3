"""Only plain numbers that lie in the file itself are read; everything else is refused by name, before it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from understudy.datasets.frames import frame_storage, pack_frame, put_frame, read_frames, unpack_frame
from understudy.datasets.hdf5 import array, attribute, members, open_hdf5, read, read_texts, subgroup
from understudy.errors import DatasetError


def refused(path: Path, words: str, look: Callable[[h5py.File], Any]) -> None:
    with pytest.raises(DatasetError, match=words) as caught, open_hdf5(path) as file:
        look(file)
    assert path.name in str(caught.value)


def written(path: Path, write: Callable[[h5py.File], Any]) -> Path:
    with h5py.File(path, "w") as file:
        write(file)
    return path


def test_plain_things_are_read(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file["a/b/numbers"] = np.arange(6).reshape(2, 3)
        file["a/texts"] = np.array([b"x", b"yz"])
        file["a/more"] = ["ä", "b"]
        file["a"].attrs["note"] = "hello"
        file["a"].attrs["bytes"] = np.bytes_(b"hello")

    with open_hdf5(written(tmp_path / "a.h5", write)) as file:
        assert read(file, "a/b/numbers", ndim=2).tolist() == [[0, 1, 2], [3, 4, 5]]
        assert read_texts(file, "a/texts") == ["x", "yz"]
        assert read_texts(file, "a/more") == ["ä", "b"]
        assert members(subgroup(file, "a")) == ["b", "more", "texts"]
        assert attribute(file["a"], "note") == attribute(file["a"], "bytes") == "hello"


def test_links_are_not_followed(tmp_path: Path) -> None:
    written(tmp_path / "secret.h5", lambda file: file.create_dataset("x", data=[1.0]))

    def write(file: h5py.File) -> None:
        file["real/x"] = 1.0
        file["elsewhere"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
        file["group"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
        file["soft"] = h5py.SoftLink("/real/x")

    path = written(tmp_path / "a.h5", write)
    refused(path, "elsewhere is a link to another file; links are not followed", lambda file: read(file, "elsewhere"))
    refused(path, "group is a link to another file", lambda file: subgroup(file, "group"))
    refused(path, "x is a link to another file", lambda file: read(file, "group/x"))
    refused(path, "soft is a link to another place", lambda file: read(file, "soft"))


def test_numbers_that_lie_in_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "raw.bin").write_bytes(np.arange(4.0).tobytes())
    written(tmp_path / "secret.h5", lambda file: file.create_dataset("x", data=np.arange(4.0)))

    def write(file: h5py.File) -> None:
        file.create_dataset("external", (4,), "f8", external=[(str(tmp_path / "raw.bin"), 0, 32)])
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (4,))
        file.create_virtual_dataset("virtual", layout)

    path = written(tmp_path / "a.h5", write)
    for name in ("external", "virtual"):
        refused(path, f"{name} is stored in another file", lambda file, name=name: read(file, name))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: file.create_dataset("x", data=["a"]), "holds objects, which are never unpickled"),
        (lambda file: file.create_dataset("x", data=np.void(b"pickled")), "holds objects"),
        (lambda file: file.create_dataset("x", data=np.zeros(2, [("a", "f4")])), "holds objects"),
        (lambda file: file.create_dataset("x", data=np.zeros(2, complex)), "holds complex128; expected numbers"),
        (lambda file: file.create_dataset("x", (2,), h5py.ref_dtype), "holds objects"),
        (lambda file: file.create_dataset("x", data=h5py.Empty("f4")), "is empty, without a shape"),
        (lambda file: file.create_group("x"), "is a group; expected an array"),
        (
            lambda file: file.create_dataset("x", (10**12,), "f8", chunks=(1000,)),
            "claims 8000000000000 bytes and 0 are",
        ),
        (lambda file: file.create_dataset("x", (10**6, 10**6), "f4"), "claims .* are stored"),
        (lambda file: file.create_dataset("x", (4, 4), "f4"), "has shape .* expected 1 dimensions"),
    ],
)
def test_what_is_no_plain_array_is_refused(tmp_path: Path, make: Callable[[h5py.File], Any], words: str) -> None:
    refused(written(tmp_path / "a.h5", make), words, lambda file: array(file, "x", ndim=1))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", lambda file: file.create_group("a"))
    refused(path, "/a/b is not in the file", lambda file: read(file, "a/b"))
    refused(path, "/a has no attribute 'note'", lambda file: attribute(file["a"], "note"))
    refused(path, "/a is a group; expected an array", lambda file: array(file, "a"))
    with (
        pytest.raises(DatasetError, match=r"none\.h5 does not exist; expected a bag"),
        open_hdf5(tmp_path / "none.h5", "bag"),
    ):
        pass
    (tmp_path / "text.h5").write_text("hello")
    refused(tmp_path / "text.h5", "not a readable HDF5 file", lambda file: file)


def test_texts_that_are_none_are_refused(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        file["numbers"] = [1, 2]
        file["bad"] = np.array([b"\xff\xfe"])
        file.attrs.create("big", np.zeros(6000))
        file.attrs["reference"] = file.ref

    path = written(tmp_path / "a.h5", write)
    refused(path, "numbers holds int64; expected texts", lambda file: read_texts(file, "numbers"))
    refused(path, "bad holds a text that is not UTF-8", lambda file: read_texts(file, "bad"))
    refused(
        path, "'reference' of / holds object; expected a text or numbers", lambda file: attribute(file, "reference")
    )


def test_frames_are_what_any_hdf5_library_reads(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 8, 10, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("frames", frames.shape, np.uint8, **frame_storage(frames.shape[1:]))
        for row, frame in enumerate(frames):
            put_frame(stored, row, pack_frame(frame))
        other = file.create_dataset("other", data=frames, chunks=(2, 8, 10, 3), compression="lzf")
        assert np.array_equal(read_frames(other, 1, 4), frames[1:4])
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert np.array_equal(file["frames"][()], frames)  # by HDF5's own gzip filter
        assert np.array_equal(read_frames(file["frames"]), frames)
        assert np.array_equal(read_frames(file["frames"], 3, 9), frames[3:])


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (b"not packed", "cannot be unpacked"),
        (pack_frame(np.zeros((4, 4, 3), np.uint8)), "holds more; expected 24 bytes"),
        (pack_frame(np.zeros(10_000_000, np.uint8)), "holds more; expected 24 bytes"),
        (b"", "holds 0 bytes"),
    ],
)
def test_a_chunk_that_is_no_frame_is_refused_without_unpacking_all_of_it(chunk: bytes, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        unpack_frame(chunk, (2, 4, 3))
