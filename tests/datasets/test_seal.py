"""The seal: what it says is what was sealed, and anything else is refused by name."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.datasets.seal import LARGEST_BLOCK, SMALLEST_BLOCK, block_for, read_seal, verify_seal, write_seal
from understudy.errors import DatasetError

FACTS = st.dictionaries(st.text(max_size=20), st.one_of(st.integers(), st.text(max_size=3000), st.none()), max_size=6)


def sealed(path: Path, facts: dict[str, object]) -> Path:
    block = block_for(facts)
    with h5py.File(path, "w", userblock_size=block) as file:
        file["numbers"] = np.arange(100.0)
    write_seal(path, facts, block)
    return path


@given(facts=FACTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_facts_come_back_and_hdf5_does_not_mind(tmp_path: Path, facts: dict[str, object]) -> None:
    path = sealed(tmp_path / "a.h5", facts)
    for read in (read_seal, verify_seal):
        assert facts.items() <= dict(read(path).facts).items()
    with h5py.File(path, "r") as file:
        assert np.array_equal(file["numbers"][()], np.arange(100.0))


@given(length=st.integers(0, 30_000))
def test_the_block_is_a_power_of_two_that_holds_the_facts(length: int) -> None:
    block = block_for({"note": "x" * length})
    assert block >= max(SMALLEST_BLOCK, length)
    assert block & (block - 1) == 0


def test_facts_that_are_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"metadata take \d+ bytes; at most"):
        block_for({"note": "x" * LARGEST_BLOCK})
    path = sealed(tmp_path / "a.h5", {})
    with pytest.raises(DatasetError, match="were set aside"):
        write_seal(path, {"note": "x" * SMALLEST_BLOCK}, SMALLEST_BLOCK)


def test_the_seal_alone_does_not_vouch_for_the_body(tmp_path: Path) -> None:
    path = sealed(tmp_path / "a.h5", {"kind": "test"})
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert read_seal(path).facts["kind"] == "test"
    with pytest.raises(DatasetError, match=r"a\.h5 is damaged: its bytes are not the ones that were sealed"):
        verify_seal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin with a seal"),
        (b"hello", "does not begin with a seal"),
        (b"\x89HDF\r\n\x1a\n rest", "has no seal: it was written by an older version"),
        (b"understudy-seal 7 abc 10\n{}", "has a seal of version 7"),
        (b"understudy-seal 1 abc 2\n{}", "its digest does not match"),
        (b"understudy-seal 1 abc\n{}", "its seal cannot be read"),
        (b"understudy-seal 1 abc 99999999999999\n{}", "bytes of facts"),
        (b"understudy-seal 1 abc -5\n{}", "bytes of facts"),
        (b"understudy-seal 1 " + b"a" * 9000, "its seal cannot be read"),
    ],
)
def test_what_is_no_seal_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "odd.h5"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"odd\.h5.*{words}"):
        read_seal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.h5", tmp_path):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_seal(path)
