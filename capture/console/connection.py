"""One open page: what it says is passed on, what the session does is told to it.

Inputs go to the device at once; wishes wait for the session's loop, one after the other, while inputs go on. A page
that is slow gets the latest view and misses those between.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from understudy.capture.console.access import RateLimit
from understudy.capture.console.desk import Desk
from understudy.capture.console.front import Front
from understudy.capture.console.lateness import Lateness
from understudy.capture.console.library import Library
from understudy.capture.console.messages import (
    Control,
    EpisodeWish,
    Hello,
    Input,
    Judgement,
    Message,
    Wished,
    read_message,
)
from understudy.capture.devices.browser import BrowserDevice
from understudy.envs.arms.clock import Clock
from understudy.errors import InputError, UnderstudyError

HOLDS_PER_S, HOLD_BURST = 10.0, 20
INPUTS_PER_S, INPUT_BURST = 150.0, 300
WISHES_PER_S, WISH_BURST = 10.0, 20
MOST_WAITING = 8
"""Wishes of one page that wait for their turn."""
ALIVE_S = 0.5
"""A page hears from the server at least this often, s; it counts the server as gone after three times as long."""
REPLACED, TOO_MUCH = 4001, 1008
"""Codes with which a WebSocket is closed: the page was opened again elsewhere; it says too much."""


class Connection:
    """The server's end of a page's WebSocket."""

    def __init__(
        self,
        socket: WebSocket,
        front: Front,
        device: BrowserDevice | None,
        library: Library,
        desk: Desk,
        clock: Clock,
        view_hz: float,
        hold_threads: Executor,
    ) -> None:
        """Args:
        socket: accepted already.
        front: the session.
        device: what inputs move; None for a console that only shows and presses buttons.
        library: the dataset.
        desk: which page is in control.
        clock: for rate limits, and for how late inputs arrive.
        view_hz: how often the page is told of changes, at most.
        hold_threads: where the arm is told to hold, and nothing else is done.
        """
        self.key = ""
        self._socket = socket
        self._front = front
        self._device = device
        self._library = library
        self._desk = desk
        self._period_s = 1.0 / view_hz
        self._inputs = RateLimit(clock, INPUTS_PER_S, INPUT_BURST)
        self._wishes = RateLimit(clock, WISHES_PER_S, WISH_BURST)
        self._holds = RateLimit(clock, HOLDS_PER_S, HOLD_BURST)
        self._hold_threads = hold_threads
        self._holding: set[asyncio.Task[None]] = set()
        self._lateness = Lateness(clock)
        self._waiting: asyncio.Queue[Wished | Control | EpisodeWish | Judgement] = asyncio.Queue(MOST_WAITING)
        self._changed = asyncio.Event()
        self._sending = asyncio.Lock()

    async def serve(self, arrived: Callable[[Connection], None]) -> None:
        """Talk to the page until it goes. `arrived` is called once it has said who it is."""
        tasks: list[asyncio.Task[None]] = []
        try:
            hello = read_message(await self._socket.receive_text())
            if not isinstance(hello, Hello):
                raise InputError("A page says hello first.")
            self.key = self._desk.arrive(hello.page).key
            arrived(self)
            await self._send(self._greeting())
            tasks = [asyncio.create_task(part) for part in (self._listen(), self._tell(), self._work())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # none ends but by an error: a page that is half served must not look alive
        except WebSocketDisconnect:
            return
        except (InputError, KeyError) as error:  # KeyError: bytes where text was expected
            await self.close(TOO_MUCH, str(error))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, *self._holding, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            await self._hear(await self._socket.receive_text())

    def changed(self) -> None:
        """Something is new: tell the page soon."""
        self._changed.set()

    async def close(self, code: int, reason: str) -> None:
        """Close the WebSocket, with a reason of at most 120 characters."""
        if self._socket.application_state is WebSocketState.CONNECTED:
            await self._socket.close(code, reason[:120])

    def _greeting(self) -> dict[str, Any]:
        device = self._device
        return {
            "type": "hello",
            "page": self.key,
            "labels": [] if device is None else list(device.labels),
            "hold_to_move": device is not None and device.config.shaping.hold_to_move,
            "alive_s": ALIVE_S,
        }

    async def _hear(self, text: str) -> None:
        """Act on an input now, or put a wish in line."""
        if not self._inputs.allows():
            raise InputError("This page says too much, and was disconnected.")
        message = read_message(text)
        if isinstance(message, Input):
            self._move(message)
        elif isinstance(message, Hello):
            raise InputError("A page says hello once.")
        elif isinstance(message, Wished) and message.wish == "hold":
            holding = asyncio.create_task(self._hold(message.n))
            self._holding.add(holding)
            holding.add_done_callback(self._holding.discard)
        elif not self._wishes.allows() or self._waiting.full():
            await self._answer(message.n, False, "Too quick: wait until the last wish is done.")
        else:
            self._waiting.put_nowait(message)

    def _move(self, message: Input) -> None:
        """Inputs of a page that only watches are let go silently: it may not know yet that it lost control."""
        late_s = 0.0 if message.said_s is None else self._lateness.of(message.said_s)
        if self._device is not None and self._desk.controls(self.key):
            self._device.feed(message.axes, message.gripper, message.moving, late_s)

    async def _hold(self, n: int) -> None:
        """Stop the arm at once, whoever asks: past what waits, in threads that no slow job keeps busy."""
        if not self._holds.allows():
            await self._answer(n, False, "Too quick: the arm has been told to hold.")
            return
        try:
            told = await asyncio.get_running_loop().run_in_executor(self._hold_threads, lambda: self._front.ask("hold"))
            await self._answer(n, True, told)
        except UnderstudyError as error:
            await self._answer(n, False, str(error))

    async def _work(self) -> None:
        """Fulfil wishes, one after the other."""
        while True:
            message = await self._waiting.get()
            try:
                text = await self._fulfil(message)
                await self._answer(message.n, True, text)
            except UnderstudyError as error:
                await self._answer(message.n, False, str(error))
            except OSError as error:
                await self._answer(message.n, False, f"The dataset could not be changed: {error.strerror}.")

    async def _fulfil(self, message: Message) -> str:
        if isinstance(message, Control):
            return self._hand_over(message)
        self._desk.require_control(self.key)
        if isinstance(message, Wished):
            return await asyncio.to_thread(self._front.ask, message.wish, message.text)
        if isinstance(message, Judgement):
            return await asyncio.to_thread(self._library.label, message.episode, message.success, message.note)
        assert isinstance(message, EpisodeWish)  # the rest never waits here
        change = self._library.drop if message.do == "drop_episode" else self._library.restore
        return await asyncio.to_thread(change, message.episode)

    def _hand_over(self, message: Control) -> str:
        desk, before = self._desk, self._desk.controls(self.key)
        ways = {"take": desk.take, "ask": desk.ask, "give": desk.give, "refuse": desk.refuse, "release": desk.release}
        said = ways[message.do](self.key)
        if self._device is not None and before != self._desk.controls(self.key):
            self._device.let_go()
        return said

    async def _tell(self) -> None:
        """Send the view when it changed, and now and then anyway, so that silence means that the server is gone."""
        while True:
            await self._send(
                {
                    "type": "view",
                    "view": self._front.view().as_dict(),
                    "desk": self._desk.facts(self.key),
                    "library": self._library.revision(),
                }
            )
            await asyncio.sleep(self._period_s)
            try:
                await asyncio.wait_for(self._changed.wait(), ALIVE_S)
            except TimeoutError:
                continue
            finally:
                self._changed.clear()

    async def _answer(self, n: int, done: bool, text: str) -> None:
        await self._send({"type": "answer", "n": n, "ok": done, "text": text})
        self.changed()

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            if self._socket.application_state is WebSocketState.CONNECTED:
                await self._socket.send_text(json.dumps(plain(message), allow_nan=False))


def plain(value: Any) -> Any:
    """The same for JSON, which has no infinity and no NaN: null stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
