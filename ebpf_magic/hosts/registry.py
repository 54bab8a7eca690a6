"""Which host a cell runs on: one agent per host in this process, started on first use, replaced when it has died."""

from __future__ import annotations

import threading
from collections.abc import Callable
from difflib import get_close_matches

from ebpf_magic.errors import EbpfMagicError, NoHostError, UsageError
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.hosts.local import local, sudo

_MAKERS: dict[str, Callable[[], AgentHost]] = {"local": local, "sudo": sudo}
_hosts: dict[str, AgentHost] = {}
_auto: str | None = None
_lock = threading.Lock()


def get(on: str = "auto") -> AgentHost:
    """Give the host of that name with a live agent.

    Parameters
    ----------
    on : str
        ``local``, ``sudo``, or ``auto``: the first of them that can load a program here.

    Raises
    ------
    NoHostError
        None can; the message says what is missing for each.
    UsageError
        No host has that name.
    """
    with _lock:
        if on == "auto":
            return _first_that_works()
        if on not in _MAKERS:
            names = ["auto", *_MAKERS]
            raise UsageError(
                f"host {on!r}", "no such host", f"Hosts: {', '.join(names)}.", near=get_close_matches(on, names)
            )
        return _live(on)


def names() -> list[str]:
    """Name the hosts there are, in the order in which ``auto`` tries them."""
    return list(_MAKERS)


def start(name: str) -> AgentHost:
    """Start an agent of the caller's own on a host; the caller closes it."""
    return _MAKERS[name]()


def close_all() -> None:
    """End every agent of this process."""
    with _lock:
        while _hosts:
            _hosts.popitem()[1].close()


def _live(name: str) -> AgentHost:
    host = _hosts.get(name)
    if host is None or not host.alive:
        if host is not None:
            host.close()
        host = _hosts[name] = _MAKERS[name]()
    return host


def _first_that_works() -> AgentHost:
    global _auto
    if _auto is not None:
        return _live(_auto)
    missing = []
    for name in _MAKERS:
        try:
            host = _live(name)
        except EbpfMagicError as error:
            missing.append(f"  {name}: {error}")
        else:
            _auto = name
            return host
    raise NoHostError("find a host that can load a program", "none can here:\n" + "\n".join(missing))
