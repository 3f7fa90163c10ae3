"""Fixtures of the ROS tests: a domain for each test, and a listener on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from deploy_ros_support import Listener


@pytest.fixture
def domain() -> Iterator[int]:
    from deploy_ros_support import own_domain

    with own_domain() as number:
        yield number


@pytest.fixture
def listener(domain: int) -> Iterator[Listener]:
    from deploy_ros_support import Listener

    made = Listener(domain)
    yield made
    made.close()
