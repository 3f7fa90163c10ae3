"""Who may talk to the console, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.capture.console.access import Access, RateLimit
from understudy.capture.console.config import ConsoleConfig
from understudy.envs.arms.clock import VirtualClock
from understudy.errors import InputError

TOKEN = "a-token-of-sixteen-or-more"


class TestConfig:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
    def test_this_machine_alone_needs_no_token(self, host: str) -> None:
        assert ConsoleConfig(host=host).local
        assert ConsoleConfig(host=host).chosen_token() == ""

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "robot.local"])
    def test_every_other_address_gets_one(self, host: str) -> None:
        config = ConsoleConfig(host=host)
        first, second = config.chosen_token(), config.chosen_token()
        assert len(first) >= 16
        assert first != second

    @pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
    def test_a_given_token_counts_everywhere(self, host: str) -> None:
        assert ConsoleConfig(host=host, token=TOKEN).chosen_token() == TOKEN

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"host": ""}, "listens on an address"),
            ({"host": "http://here/"}, "no scheme"),
            ({"port": 70000}, "between 0 and 65535, got 70000"),
            ({"token": "short"}, "5 characters; expected at least 16"),
            ({"token": "with a space in it, and long"}, "letters, digits"),
            ({"view_hz": 0.0}, "1 to 60"),
            ({"jpeg_quality": 5}, "between 30 and 95"),
            ({"max_pages": 0}, "Between 1 and 256"),
        ],
    )
    def test_refuses_what_cannot_be(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(InputError, match=words):
            ConsoleConfig(**options)


class TestAccess:
    local = Access(ConsoleConfig(), 8420, "")
    open = Access(ConsoleConfig(host="0.0.0.0"), 8420, TOKEN)

    @pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost:8420", "LOCALHOST:8420", "[::1]:8420"])
    def test_its_own_names(self, host: str) -> None:
        assert self.local.refuse_host({"host": host}) is None

    @pytest.mark.parametrize(
        "host", ["", "evil.example:8420", "127.0.0.1", "127.0.0.1:8421", "localhost.evil.example:8420"]
    )
    def test_a_name_that_was_pointed_here_is_refused(self, host: str) -> None:
        assert "was asked for as" in str(self.local.refuse_host({"host": host}))

    def test_behind_a_token_every_name_is_one(self) -> None:
        assert self.open.refuse_host({"host": "anything:1"}) is None

    def test_the_own_page_may_ask(self) -> None:
        for scheme in ("http", "https"):
            headers = {"host": "localhost:8420", "origin": f"{scheme}://localhost:8420"}
            assert self.local.refuse_origin(headers) is None

    @pytest.mark.parametrize(
        "origin", [None, "", "null", "http://evil.example", "http://localhost:8421", "http://localhost", "http://localhost:8420.evil.example"]
    )  # fmt: skip
    def test_other_pages_may_not(self, origin: str | None) -> None:
        headers = {"host": "localhost:8420"} | ({} if origin is None else {"origin": origin})
        assert "only the console's own page" in str(self.local.refuse_origin(headers))

    @pytest.mark.parametrize("given", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ä"])
    def test_the_token_is_the_token(self, given: str) -> None:
        assert "needs its token" in str(self.open.refuse_token(given))
        assert self.open.refuse_token(TOKEN) is None
        assert self.local.refuse_token(given) is None


class TestRateLimit:
    def test_a_burst_then_the_rate(self) -> None:
        clock = VirtualClock()
        limit = RateLimit(clock, 10.0, 5)
        assert [limit.allows() for _ in range(7)] == [True] * 5 + [False] * 2
        clock.advance(0.1)
        assert [limit.allows() for _ in range(2)] == [True, False]

    def test_rest_earns_a_burst_and_no_more(self) -> None:
        clock = VirtualClock()
        limit = RateLimit(clock, 10.0, 5)
        clock.advance(3600.0)
        assert sum(limit.allows() for _ in range(100)) == 5

    def test_in_the_long_run_the_rate_holds(self) -> None:
        clock = VirtualClock()
        limit = RateLimit(clock, 10.0, 5)
        passed = 0
        for _ in range(10_000):
            clock.advance(0.001)
            passed += limit.allows()
        assert passed == pytest.approx(100 + 5, abs=1)
