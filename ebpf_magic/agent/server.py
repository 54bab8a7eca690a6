"""The agent's loop: one request at a time, and between requests (and while one is awaited) the guard's clock."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any

from .agent import Agent
from .fault import Fault
from .libbpf import Library
from .reply import Reply
from .wire import Channel, Frame, WireError

TICK_S = 0.5


class Server:
    """Answers requests of one channel until it ends; closing the agent is left to the caller."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._channel: Channel | None = None
        self._next_tick = 0.0
        self._reads = select.poll()
        self._writes = select.poll()

    def wait(self, direction: str) -> None:
        """Wait for the channel, keeping the guard's time meanwhile: also while a frame is half way."""
        channel = self._channel
        assert channel is not None
        poll, fd, event = (
            (self._reads, channel.read_fd, select.POLLIN)
            if direction == "r"
            else (self._writes, channel.write_fd, select.POLLOUT)
        )
        poll.register(fd, event)
        while True:
            if poll.poll(self._timeout_ms()):
                if time.monotonic() >= self._next_tick:  # a busy channel must not starve the guard
                    self._tick()
                return
            self._tick()

    def serve(self, channel: Channel) -> None:
        """Answer until the other end is gone."""
        self._channel = channel
        while True:
            try:
                frame = channel.receive()
                if frame is None:
                    return
                for fd in frame.fds:  # no request has any: they must not add up
                    os.close(fd)
                self._answer(channel, frame)
            except (WireError, ConnectionError):
                return

    def _timeout_ms(self) -> int | None:
        if not self._agent.is_watching:
            return None
        wake = self._next_tick
        deadline_ns = self._agent.next_deadline_ns()
        if deadline_ns is not None:
            wake = min(wake, deadline_ns / 1e9)
        return max(int((wake - time.monotonic()) * 1000) + 1, 0)

    def _tick(self) -> None:
        self._next_tick = time.monotonic() + TICK_S
        self._agent.tick()

    def _answer(self, channel: Channel, frame: Frame) -> None:
        number = frame.header.get("id")
        try:
            reply = self._call(frame)
            channel.send({"id": number, **reply.fields}, reply.payload, reply.fds)
        except Fault as fault:
            channel.send({"id": number, "error": fault.fields}, [fault.log.encode()] if fault.log else [])
        except WireError as error:  # of sending, before the first byte: the answer is beyond the bounds
            channel.send({"id": number, "error": {"kind": "host", "what": "answer", "why": str(error)}})

    def _call(self, frame: Frame) -> Reply:
        verb = str(frame.header.get("verb"))
        call: Callable[[Request], Reply] | None = self._agent.verbs.get(verb)
        if call is None:
            raise Fault("host", f"call {verb[:40]!r}", "no such verb")
        request = Request(frame)
        try:
            return call(request)
        except Fault:
            raise
        except OSError as error:
            raise Fault("host", f"call {verb}", str(error), errno=error.errno) from error
        except Exception as error:  # a defect of the agent's: it must not cost the other sessions their programs
            import traceback  # here: it would double the agent's start

            log = traceback.format_exc()
            raise Fault("host", f"call {verb}", f"the agent failed: {error!r}", log=log) from error


def serve(channel: Channel, shell: bool = False) -> int:
    """Run the agent on a channel until the other end is gone; the process's exit code."""
    agent: Agent | None = None
    try:
        agent = Agent(Library(), channel.passes_fds, shell)
        server = Server(agent)
        channel.set_wait(server.wait)
        server.serve(channel)
    finally:
        if agent is not None:
            agent.close()
        channel.close()
    return 0


class Request:
    """A request's fields, each taken by type; a wrong one is a fault of the caller."""

    def __init__(self, frame: Frame) -> None:
        self._header = frame.header
        self.payload = frame.payload

    def text(self, key: str, default: str | None = None) -> str:
        """Text of at most 4,096 characters."""
        value = self._header.get(key, default)
        if not isinstance(value, str) or len(value) > 4096:
            raise self._wrong(key, "text")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """Integer of 64 bits, not negative."""
        value = self._header.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
            raise self._wrong(key, "a number")
        return value

    def number(self, key: str, default: float | None = None) -> float | None:
        """Positive number, or None."""
        value = self._header.get(key, default)
        if value is None:
            return None
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e15:
            raise self._wrong(key, "a positive number")
        return float(value)

    def flag(self, key: str) -> bool:
        """Take true or false; false when it is not there."""
        value = self._header.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def texts(self, key: str) -> dict[str, str]:
        """Take an object of texts; empty when it is not there. They go to libbpf, where a NUL would end them."""
        value: Any = self._header.get(key) or {}
        if not isinstance(value, dict) or not all(
            isinstance(item, str) and "\0" not in item for item in value.values()
        ):
            raise self._wrong(key, "an object of texts without NUL")
        return value

    def names(self, key: str) -> list[str]:
        """List of text; empty when it is not there."""
        value: Any = self._header.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of texts")
        return value

    def _wrong(self, key: str, expected: str) -> Fault:
        return Fault("usage", f"call {self._header.get('verb')}", f"{key} is to be {expected}")
