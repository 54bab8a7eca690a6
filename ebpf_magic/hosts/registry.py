"""Which host a cell runs on: one agent per host in this process, started on first use, replaced when it has died."""

from __future__ import annotations

import threading
from collections.abc import Callable
from difflib import get_close_matches

from ebpf_magic.errors import EbpfMagicError, NoHostError, UsageError
from ebpf_magic.hosts.base import AgentHost
from ebpf_magic.hosts.local import local, sudo
from ebpf_magic.hosts.vm import vm

Progress = Callable[[str], None]

# Those that start at once; a virtual machine has a kernel in its name and takes seconds.
_MAKERS: dict[str, Callable[[], AgentHost]] = {"local": local, "sudo": sudo}
_hosts: dict[str, AgentHost] = {}
_auto: str | None = None
# A host that takes seconds to start, or to end, holds up nobody who wants another one.
_name_locks: dict[str, threading.Lock] = {}
_lock = threading.Lock()


def get(on: str = "auto", progress: Progress | None = None) -> AgentHost:
    """Give the host of that name with a live agent.

    Parameters
    ----------
    on : str
        ``local``, ``sudo``, ``vm`` (the newest kernel that was fetched), ``vm:6.1`` (a kernel of one's own choice: a
        series, a release, or the path of a vmlinuz), or ``auto``: the first of local, sudo and vm that can load a
        program here.
    progress : callable, optional
        Told in a few words what is waited for while a host starts.

    Raises
    ------
    NoHostError
        None can; the message says what is missing for each.
    NoKernelError
        There is no such kernel here.
    UsageError
        No host has that name.
    """
    if on == "auto":
        return _first_that_works(progress)
    _check(on)
    return _live(on, progress)


def names() -> list[str]:
    """Name the hosts that start at once, in the order in which ``auto`` tries them; ``vm`` comes after them."""
    return list(_MAKERS)


def start(name: str, progress: Progress | None = None) -> AgentHost:
    """Start an agent of the caller's own on a host; the caller closes it."""
    _check(name)
    if name in _MAKERS:
        return _MAKERS[name]()
    return vm(name.partition(":")[2] or None, progress=progress)


def close_all() -> None:
    """End every agent of this process."""
    for name in list(_hosts):
        with _lock_of(name):
            host = _hosts.pop(name, None)
        if host is not None:
            host.close()


def _check(name: str) -> None:
    kind, colon, kernel = name.partition(":")
    if name in _MAKERS or (kind == "vm" and bool(colon) == bool(kernel)):
        return
    known = ["auto", *_MAKERS, "vm", "vm:6.1"]
    raise UsageError(
        f"host {name!r}", "no such host", f"Hosts: {', '.join(known)}.", near=get_close_matches(name, known)
    )


def _live(name: str, progress: Progress | None) -> AgentHost:
    with _lock_of(name):
        host = _hosts.get(name)
        if host is None or not host.alive:
            if host is not None:
                del _hosts[name]
                host.close()
            host = _hosts[name] = start(name, progress)
        return host


def _lock_of(name: str) -> threading.Lock:
    with _lock:
        return _name_locks.setdefault(name, threading.Lock())


def _first_that_works(progress: Progress | None) -> AgentHost:
    global _auto
    if _auto is not None:
        return _live(_auto, progress)
    missing = []
    for name in [*_MAKERS, "vm"]:
        try:
            host = _live(name, progress)
        except EbpfMagicError as error:
            missing.append(f"  {name}: {error}")
        else:
            _auto = name
            return host
    raise NoHostError("find a host that can load a program", "none can here:\n" + "\n".join(missing))
