"""A session on the ROS 2 graph: a `std_srvs/Trigger` service for each wish, and its view on a latched topic.

One front among others: it only asks the session's loop, and what cannot be is answered with `success: false` and the
reason. A failing take is kept, and a doubtful one started, when the service is called twice in a row, as at any front.
That the state is published does not count as somebody who attends; a call does.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import TracebackType

from rclpy.publisher import Publisher
from std_msgs.msg import String
from std_srvs.srv import Trigger

from understudy.capture.session_loop import SessionLoop
from understudy.capture.session_view import Wish
from understudy.capture.session_wishes import REFUSALS
from understudy.envs.arms.ros_common import LATCHED, Graph
from understudy.errors import UnderstudyError

PREFIX = "/understudy/session"
SERVICES: tuple[Wish, ...] = (
    "prepare", "start", "stop", "keep", "drop", "undo", "redo", "success", "failure", "unmark", "intervene",
    "release", "hold",
)  # fmt: skip
"""Each is a service PREFIX/<wish>. A note has words, which a Trigger cannot carry."""
STATE_TOPIC = f"{PREFIX}/state"
"""std_msgs/String: the session's view as JSON, whenever it changes; the latest is given to whoever comes later."""
STATE_HZ = 10.0
"""The view is published at most this often."""
WAIT_S = 0.5


class SessionServices:
    """Offers a session's wishes and its view while inside a `with` statement."""

    def __init__(self, loop: SessionLoop, *, node_name: str = "understudy_session", timeout_s: float = 10.0) -> None:
        """Join the graph; calls are answered from `__enter__` on.

        Args:
            loop: the session.
            node_name: on the graph.
            timeout_s: how long a wish may take.
        """
        self._loop = loop
        self._timeout_s = timeout_s
        self._graph = Graph(node_name)
        for wish in SERVICES:
            self._graph.node.create_service(Trigger, f"{PREFIX}/{wish}", self._answer_to(wish))
        self._state: Publisher[String] = self._graph.node.create_publisher(String, STATE_TOPIC, LATCHED)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="session-state")

    def __enter__(self) -> SessionServices:
        self._graph.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._graph.close()

    def _answer_to(self, wish: Wish) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                response.message = self._loop.ask(wish, timeout_s=self._timeout_s)
                response.success = not response.message.startswith(REFUSALS)
            except UnderstudyError as error:
                response.message, response.success = str(error), False
            return response

        return answer

    def _tell(self) -> None:
        revision = -1
        while not self._ending.is_set():
            view = self._loop.wait_latest(revision, WAIT_S)
            if view.revision != revision:
                revision = view.revision
                self._state.publish(String(data=json.dumps(view.as_dict())))
            self._ending.wait(1.0 / STATE_HZ if not self._loop.ended else WAIT_S)
