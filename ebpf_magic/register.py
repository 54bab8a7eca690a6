"""The sessions of this process: listed and found by name, replaced, watched, and ended with it."""

from __future__ import annotations

import atexit
import os
import threading
import time
from difflib import get_close_matches

from ebpf_magic.errors import HostError, NoSuchNameError
from ebpf_magic.group import Group
from ebpf_magic.hosts import registry
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.live import Task, ticker
from ebpf_magic.session import Session

_WATCH_S = 1.0

_sessions: dict[str, Session | Group] = {}
_unlisted: set[Session] = set()
_lock = threading.RLock()


def keep_unlisted(session: Session) -> None:
    """Keep a session that `sessions` does not list; `stop_all` stops it too."""
    with _lock:
        _unlisted.add(session)
    session.on_end(lambda: _unlist(session))


def _unlist(session: Session) -> None:
    with _lock:
        _unlisted.discard(session)


def sessions() -> list[Session | Group]:
    """List the sessions of this process that are running, oldest first.

    Returns
    -------
    list of Session or Group
        `%ebpf ls` shows the same as a table.
    """
    with _lock:
        return list(_sessions.values())


def running(name: str) -> Session | Group | None:
    """Give the running session of that name, if there is one."""
    with _lock:
        return _sessions.get(name)


def stop_all() -> None:
    """Stop every session of this process."""
    with _lock:
        everything = [*sessions(), *_unlisted]
    for session in everything:
        session.stop()


def find(name: str) -> Session | Group:
    """Give the running session of that name; raises NoSuchNameError with the near ones."""
    with _lock:
        if name in _sessions:
            return _sessions[name]
        raise NoSuchNameError(
            f"session {name!r}",
            "no such session is running",
            f"Running: {', '.join(_sessions) or 'none'}.",
            near=get_close_matches(name, _sessions),
        )


def replace(previous: Session | Group | None, session: Session | Group) -> None:
    """Register the new session, then let the one before go: in this order no event is missed between the two.

    But for a place that takes one program only: there the agent has let it go already, see `Session.gap_ns`.
    """
    attached = session.attached_ns
    with _lock:
        meanwhile = _sessions.get(session.name)  # another thread's, which had the same one to replace
        _sessions[session.name] = session
    session.on_end(lambda: _forget(session))
    _watchman.start()
    if previous is not None and any(member.state == "running" for member in previous.members):
        began = time.monotonic_ns()
        previous.stop()
        session.swap_ns = (began - attached, time.monotonic_ns() - attached)
    if meanwhile is not None and meanwhile is not previous:
        meanwhile.stop()


def _forget(session: Session | Group) -> None:
    with _lock:
        if _sessions.get(session.name) is session:
            del _sessions[session.name]


class _Watchman:
    """Asks each agent now and then, while there are sessions, what its guard did, and tells the sessions."""

    def __init__(self) -> None:
        self._task: Task | None = None

    def start(self) -> None:
        with _lock:
            if self._task is None:
                self._task = ticker.add(self._look, _WATCH_S, self._failed)

    def _look(self) -> None:
        with _lock:
            if not _sessions and self._task is not None:
                self._task.cancel()
                self._task = None
        for host, group in _by_host(members()).items():
            try:
                states = host.status()["sessions"]
            except HostError as error:
                for session in group:
                    session.fail(error.brief)
                continue
            for session in group:
                session.watch(states.get(session.token, {}))

    def _failed(self, error: Exception) -> None:
        self._task = None
        for session in members():
            session.warnings.append(f"the watch on the agent ended: {error!r}")


def members() -> list[Session]:
    """List the sessions that are running, those of each host, oldest first."""
    return [member for session in sessions() for member in session.members]


def _by_host(group: list[Session]) -> dict[AgentHost, list[Session]]:
    result: dict[AgentHost, list[Session]] = {}
    for session in group:
        result.setdefault(session.agent_host, []).append(session)
    return result


def _at_exit() -> None:
    if os.getpid() != _PROCESS:  # a forked child's end is not the end of its parent's sessions
        return
    with _lock:
        everything = [*members(), *_unlisted]
    try:
        for session in everything:  # one after the other: no thread can be started any more
            session.stop()
    finally:
        registry.close_all()


_PROCESS = os.getpid()
_watchman = _Watchman()
atexit.register(_at_exit)
