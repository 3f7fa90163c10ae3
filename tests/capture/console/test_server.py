"""The console's server over real HTTP and WebSockets: what it serves, what it refuses, and that the arm holds."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from console_support import PATIENT, Page, Stand, console
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus

from understudy.capture.console.config import ConsoleConfig
from understudy.capture.console.connection import MOST_WAITING
from understudy.capture.console.server import serve
from understudy.capture.devices.browser import BrowserConfig
from understudy.datasets.store import Dataset
from understudy.errors import InputError

TOKEN = "a-token-of-sixteen-or-more"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with console(tmp_path_factory.mktemp("console") / "lift") as made:
        yield made


@pytest.fixture
def page(stand: Stand) -> Iterator[Page]:
    made = Page(stand.url)
    assert made.ask({"do": "take"})["ok"]
    yield made
    if stand.state in ("recording", "review"):
        made.wish("drop")
    made.ask({"do": "release"})
    made.close()


def take(stand: Stand, page: Page) -> str:
    """Record and keep one take; returns its id."""
    stand.wait_state("ready")
    assert page.wish("start")["ok"]
    stand.wait(lambda: stand.loop.view().steps >= 6, "some steps")
    assert page.wish("stop")["ok"]
    answer = page.wish("keep", "anyway")
    assert answer["ok"], answer
    return stand.loop.view().kept[-1]


class TestPageAndFiles:
    def test_the_page_and_what_it_needs(self, stand: Stand) -> None:
        index = httpx.get(stand.url)
        assert index.status_code == 200
        assert "<title>Understudy console</title>" in index.text
        for name in ("style.css", "main.js", "icon.svg"):
            assert httpx.get(f"{stand.url}static/{name}").status_code == 200

    def test_nothing_is_loaded_from_elsewhere_kept_or_framed(self, stand: Stand) -> None:
        for path in ("", "static/main.js", "api/episodes", "no/such/thing"):
            headers = httpx.get(stand.url + path).headers
            assert headers["cache-control"] == "no-store"
            assert "default-src 'self'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize(
        "path",
        [
            "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/%2e%2e/session.py", "/static/..%5capp.py",
            "/static//etc/passwd", "/static/%00", "/static/style.css%00.js", "/etc/passwd", "/api/picture/..%2f..%2fx",
            "/api/picture/front%00", "/api/episodes/..%2f..%2fdataset/film", "/api/episodes/../../x/film",
            "/api/episodes/%2e%2e/plot", "/api/episodes/%00/plot", "/api/episodes/.hidden/film",
        ],
    )  # fmt: skip
    def test_no_path_leads_out(self, stand: Stand, path: str) -> None:
        """Sent as it stands: a client library would tidy the dots away."""
        status, body = raw_get(stand.url, path)
        assert status == 404
        assert b"root:" not in body
        assert b"import" not in body

    def test_pictures_are_new_ones(self, stand: Stand, page: Page) -> None:
        stand.wait_state("ready")
        first = picture(stand)
        shown = np.asarray(Image.open(io.BytesIO(first.content)))
        assert shown.shape == (360, 480, 3)
        assert shown.std() > 10
        number = first.headers["x-picture"]
        # The scene stands still between takes: nothing newer comes.
        assert httpx.get(f"{stand.url}api/picture/front?after={number}", timeout=10).status_code == 204
        page.wish("start")
        page.say({"do": "input", "axes": {"z": -1.0}, "gripper": None, "moving": True})
        stand.wait(lambda: stand.loop.view().steps > 5, "steps")
        newer = picture(stand, after=int(number))
        assert newer.headers["x-picture"] != number

    def test_there_is_no_such_camera(self, stand: Stand) -> None:
        assert httpx.get(f"{stand.url}api/picture/back").status_code == 404


class TestWhoMayTalk:
    @pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
    def test_a_socket_of_another_page_is_refused(self, stand: Stand, origin: str | None) -> None:
        with pytest.raises(InvalidStatus) as refused:
            Page(stand.url, origin=origin)
        assert refused.value.response.status_code == 403

    def test_a_name_that_was_pointed_here_is_refused(self, stand: Stand) -> None:
        assert httpx.get(stand.url, headers={"Host": "evil.example"}).status_code == 421

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_nothing_is_changed_by_requests(self, stand: Stand, method: str) -> None:
        for path in ("", "api/episodes", "api/check"):
            foreign = httpx.request(method, stand.url + path, headers={"Origin": "http://evil.example"})
            assert foreign.status_code == 403
            assert httpx.request(method, stand.url + path, headers={"Origin": stand.url.rstrip("/")}).status_code == 405

    def test_a_token_opens_and_nothing_else_does(self, tmp_path: Path) -> None:
        with console(tmp_path / "lift", task="reach", console=ConsoleConfig(port=0, token=TOKEN)) as stand:
            base = stand.url.partition("?")[0]
            assert stand.url == f"{base}?token={TOKEN}"
            for address in (base, f"{base}api/episodes", f"{base}static/main.js", f"{base}?token=wrong"):
                answer = httpx.get(address)
                assert answer.status_code == 403
                assert "needs its token" in answer.text
            with pytest.raises(InvalidStatus):
                Page(base)
            with httpx.Client() as browser:
                opened = browser.get(stand.url)
                assert opened.status_code == 303
                assert opened.headers["location"] == "/"
                assert {"HttpOnly", "SameSite=strict"} <= set(opened.headers["set-cookie"].split("; "))
                assert browser.get(base).status_code == 200
                cookie = opened.headers["set-cookie"].partition(";")[0]
            page = Page(base, additional_headers={"Cookie": cookie})
            assert page.wish("hold")["ok"]
            page.close()
            with pytest.raises(InvalidStatus):
                Page(base, additional_headers={"Cookie": cookie}, origin="http://evil.example")

    def test_who_is_refused_takes_nothing_from_the_pages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Incident: requests without the token counted, so that anybody could keep the operator's page away."""
        monkeypatch.setattr("understudy.capture.console.app.REQUESTS_PER_S", 1e-6)
        monkeypatch.setattr("understudy.capture.console.app.REQUEST_BURST", 3)
        with console(tmp_path / "lift", task="reach", console=ConsoleConfig(port=0, token=TOKEN)) as stand:
            base = stand.url.partition("?")[0]
            assert {httpx.get(base).status_code for _ in range(6)} == {403}
            with httpx.Client() as browser:
                assert [browser.get(stand.url).status_code, browser.get(base).status_code] == [303, 200]
                assert [browser.get(base).status_code for _ in range(2)] == [200, 429]

    def test_so_many_pages_and_no_more(self, tmp_path: Path) -> None:
        with console(tmp_path / "lift", task="reach", console=ConsoleConfig(port=0, max_pages=2)) as stand:
            pages = [Page(stand.url), Page(stand.url)]
            with pytest.raises(InvalidStatus):
                Page(stand.url)
            pages[0].close()
            stand.wait(lambda: pages[1].hear("view")["desk"]["pages"] == 1, "the page to go")
            Page(stand.url).close()
            pages[1].close()

    def test_a_port_that_is_taken_is_told(self, stand: Stand) -> None:
        port = int(stand.url.rstrip("/").rpartition(":")[2])
        with (
            pytest.raises(InputError, match=f"Port {port} of 127.0.0.1 is taken, perhaps by another console"),
            serve(stand.loop, stand.device, ConsoleConfig(port=port)),
        ):
            pass


class TestControl:
    def test_one_page_controls_and_the_other_watches(self, stand: Stand, page: Page) -> None:
        other = Page(stand.url)
        told = other.hear("view")["desk"]
        assert not told["controlling"]
        answer = other.wish("start")
        assert not answer["ok"]
        assert "only watches" in answer["text"]
        before = stand.loop.view().tool_position
        other.say({"do": "input", "axes": {"x": 1.0}, "gripper": 0.0, "moving": True})
        assert other.ask({"do": "ask"})["ok"]
        assert page.ask({"do": "give"})["ok"]
        assert other.wish("hold")["ok"]
        assert not page.wish("start")["ok"]
        assert stand.loop.view().tool_position == before
        assert other.ask({"do": "release"})["ok"]
        assert page.ask({"do": "take"})["ok"]
        other.close()

    def test_whoever_watches_may_stop_the_arm(self, stand: Stand, page: Page) -> None:
        stand.wait_state("ready")
        assert page.wish("start")["ok"]
        other = Page(stand.url)
        assert not other.hear("view")["desk"]["controlling"]
        assert other.wish("hold")["ok"]
        assert stand.state == "review"
        other.close()

    def test_a_page_that_is_opened_twice_goes_on_in_the_newer_one(self, stand: Stand, page: Page) -> None:
        again = Page(stand.url, key=page.hello["page"])
        assert again.hello["page"] == page.hello["page"]
        replaced = page.closed()
        assert replaced.rcvd is not None
        assert replaced.rcvd.code == 4001
        assert again.hear("view")["desk"]["controlling"]
        page.close()
        page.__dict__.update(again.__dict__)

    def test_both_pages_are_told_the_same(self, stand: Stand, page: Page) -> None:
        other = Page(stand.url)
        views = {}
        for one in (page, other):
            while (told := one.hear("view")["view"])["revision"] < stand.loop.view().revision:
                pass
            views[told["revision"]] = told
        assert len(views) == 1
        other.close()


class TestTalk:
    @pytest.mark.parametrize("said", ["{", '{"do": "fly"}', '{"do": "hello", "page": ""}', "x" * 20_000])
    def test_nonsense_ends_the_conversation_and_nothing_else(self, stand: Stand, said: str) -> None:
        talker = Page(stand.url)
        talker.say(said)
        assert talker.closed().rcvd is not None
        talker.close()
        assert httpx.get(stand.url).status_code == 200

    def test_who_says_no_hello_is_not_heard(self, stand: Stand) -> None:
        from websockets.sync.client import connect

        address = stand.url.partition("://")[2].rstrip("/")
        with connect(f"ws://{address}/ws", origin=f"http://{address}", proxy=None) as talker:  # type: ignore[arg-type]
            talker.send(json.dumps({"do": "wish", "n": 1, "wish": "start"}))
            with pytest.raises(ConnectionClosed, match="says hello first"):
                talker.recv(timeout=10)

    def test_a_flood_of_inputs_is_cut_off(self, stand: Stand) -> None:
        talker = Page(stand.url)
        said = json.dumps({"do": "input", "axes": {}, "gripper": None, "moving": False})
        with contextlib.suppress(ConnectionClosed):  # it may be cut off before all is said
            for _ in range(2000):
                talker.say(said)
        assert "says too much" in str(talker.closed())
        talker.close()
        assert httpx.get(stand.url).status_code == 200

    def test_a_flood_of_wishes_is_answered_wish_by_wish(self, stand: Stand, page: Page) -> None:
        for n in range(100, 150):
            page.say({"do": "wish", "n": n, "wish": "hold", "text": ""})
        answers = [page.hear("answer") for _ in range(50)]
        assert sorted(answer["n"] for answer in answers) == list(range(100, 150))
        refused = [answer for answer in answers if not answer["ok"]]
        assert len(refused) >= 50 - 20 - MOST_WAITING
        assert all("Too quick" in answer["text"] for answer in refused)
        time.sleep(1.0)  # the limit is the machine's clock's: let it forget

    def test_what_cannot_be_is_told_with_what_can(self, stand: Stand, page: Page) -> None:
        stand.wait_state("ready")
        answer = page.wish("keep")
        assert not answer["ok"]
        assert "possible now: start" in answer["text"]


class TestTakesAndEpisodes:
    def test_a_take_is_kept_looked_at_judged_dropped_and_restored(self, stand: Stand, page: Page) -> None:
        id = take(stand, page)
        rows = httpx.get(f"{stand.url}api/episodes").json()
        newest = rows["episodes"][0]
        assert (newest["id"], newest["success"], newest["operator"], newest["device"]) == (id, False, "ada", "browser")
        curves = httpx.get(f"{stand.url}api/episodes/{id}/plot", timeout=60).json()
        assert [panel["title"] for panel in curves["panels"]] == ["joints", "gripper", "tool"]
        assert len(curves["panels"][0]["lines"]) == 7
        film = httpx.get(f"{stand.url}api/episodes/{id}/film", timeout=60)
        assert Image.open(io.BytesIO(film.content)).size == (6 * 320, 240)
        assert page.ask({"do": "label", "episode": id, "success": True})["ok"]
        assert stand.dataset.summary(id).info.success is True
        report = httpx.get(f"{stand.url}api/check", timeout=120).json()
        assert id in {row["id"] for row in report["episodes"]}
        assert str(stand.dataset.path) not in json.dumps(report)
        assert page.ask({"do": "drop_episode", "episode": id})["ok"]
        assert id in Dataset.open(stand.dataset.path).dropped
        assert httpx.get(f"{stand.url}api/episodes/{id}/film").status_code == 404
        assert page.ask({"do": "restore_episode", "episode": id})["ok"]
        assert id in Dataset.open(stand.dataset.path).ids

    @pytest.mark.parametrize("id", ["../dataset", "nothing", "..", "a\0b", "/etc/passwd"])
    def test_an_episode_that_is_not_listed_is_not_touched(self, stand: Stand, page: Page, id: str) -> None:
        before = (stand.dataset.ids, stand.dataset.dropped)
        for what in ({"do": "drop_episode"}, {"do": "restore_episode"}, {"do": "label", "success": True}):
            answer = page.ask({**what, "episode": id})
            assert not answer["ok"]
            assert "Unknown" in answer["text"]
        assert (stand.dataset.ids, stand.dataset.dropped) == before

    def test_who_watches_changes_no_episode(self, stand: Stand, page: Page) -> None:
        id = take(stand, page)
        other = Page(stand.url)
        for what in ({"do": "drop_episode"}, {"do": "label", "success": True}):
            assert "only watches" in other.ask({**what, "episode": id})["text"]
        other.close()
        assert id in stand.dataset.ids


class TestTheArmHolds:
    def test_when_the_page_goes_away_in_mid_take(self, tmp_path: Path) -> None:
        config = BrowserConfig(PATIENT.shaping, release_s=0.3, lost_s=1.0)
        with console(tmp_path / "lift", task="reach", config=config) as stand:
            page = Page(stand.url)
            stand.wait_state("ready")
            feed(page, {})
            page.wish("start")
            feed(page, {"x": 1.0}, seconds=0.6)
            assert stand.state == "recording"
            page.close()
            stand.wait_state("review")
            steps = stand.loop.view().steps
            assert steps > 5
            place = stand.loop.view().tool_position
            time.sleep(0.3)
            assert stand.loop.view().tool_position == place
            assert stand.device.lost
            # Nothing of the take is lost.
            again = Page(stand.url)
            assert again.ask({"do": "take"})["ok"]
            assert again.wish("keep", "anyway")["ok"]
            assert stand.dataset.summary(stand.dataset.ids[0]).steps == steps
            again.close()

    def test_a_session_that_nobody_looks_at_may_notice(self, stand: Stand) -> None:
        """The server asks for views only while a page is open: silence of all fronts is told from attention."""
        stand.wait(lambda: stand.loop._clock.now_ns() - stand.loop._attended_ns > 0.4e9, "silence", timeout_s=5.0)


def feed(page: Page, axes: dict[str, float], seconds: float = 0.0) -> None:
    """Say it once, or over and over for some seconds."""
    until_s = time.monotonic() + seconds
    while True:
        page.say({"do": "input", "axes": axes, "gripper": None, "moving": bool(axes)})
        if time.monotonic() >= until_s:
            return
        time.sleep(0.03)


def picture(stand: Stand, after: int = -1) -> httpx.Response:
    """A picture; the process that draws takes seconds to start."""
    for _ in range(30):
        answer = httpx.get(f"{stand.url}api/picture/front?after={after}", timeout=10)
        if answer.status_code == 200:
            return answer
    raise AssertionError("no picture came")


def raw_get(url: str, path: str) -> tuple[int, bytes]:
    address = url.partition("://")[2].partition("/")[0]
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        answer: Any = b""
        while chunk := link.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body
