"""Where a page that listens on every address is found."""

from __future__ import annotations

import itertools
import socket
import sys
from pathlib import Path

import pytest

from understudy.capture.console import addresses
from understudy.capture.console.addresses import other_addresses, own_addresses
from understudy.cli.record import ATTEND_S, Record


def test_each_is_this_machines_own_and_none_is_the_loopback() -> None:
    for address in own_addresses():
        assert not address.startswith("127.")
        with socket.socket() as bound:
            bound.bind((address, 0))  # which only one's own can be


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of its routes")
def test_they_are_found_where_there_are_any() -> None:
    lines = Path("/proc/net/fib_trie").read_text().splitlines()
    local = {above.split()[-1] for above, line in itertools.pairwise(lines) if "/32 host LOCAL" in line}
    local = {one for one in local if not one.startswith("127.")}
    assert set(own_addresses()) <= local  # an interface may have a second one
    assert bool(own_addresses()) == bool(local)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_page_is_told_with_its_port_and_token(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(addresses, "own_addresses", lambda: ("192.0.2.7", "198.51.100.1"))
    assert other_addresses("http://robot:8420/?token=x", host) == (
        "http://192.0.2.7:8420/?token=x",
        "http://198.51.100.1:8420/?token=x",
    )


def test_a_page_on_one_address_is_there_only() -> None:
    assert other_addresses("http://127.0.0.1:8420/", "127.0.0.1") == ()


def test_the_command_prints_what_a_tablet_can_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Incident: only the machine's name was printed, which nobody in the network knew."""
    monkeypatch.setattr(addresses, "own_addresses", lambda: ("192.0.2.7",))
    record = Record("reach", out=tmp_path / "reach", device="browser", host="0.0.0.0")
    record._tell_where("http://robot:8420/?token=x")
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["open http://robot:8420/?token=x", "or   http://192.0.2.7:8420/?token=x"]
    assert "not encrypted" in said[2]


@pytest.mark.parametrize(("arm", "attend_s"), [("sim", ATTEND_S), ("ros", ATTEND_S), ("watched", None)])
def test_only_a_page_that_drives_must_be_attended(tmp_path: Path, arm: str, attend_s: float | None) -> None:
    """Incident: closing the page ended a take of an arm that somebody else drove."""
    assert Record("reach", out=tmp_path / "reach", device="browser", arm=arm)._attend_s == attend_s  # type: ignore[arg-type]
