"""A foreign object opened by a child process first: libbpf does not survive every damaged one."""

from __future__ import annotations

import os
import signal

from . import libbpf
from .fault import Fault
from .libbpf import Library

_PATIENCE_S = 20


def open_in_child(library: Library, data: memoryview, name: str) -> None:
    """Open and close an object in a child; raises `Fault` if that ends the child.

    What libbpf refuses in order is left to the real opening, which has its words for it.
    """
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_PATIENCE_S)
            os.close(2)  # faulthandler's words would look like the agent's own
            address, hold = libbpf.address_of(data)
            pointer = library.bpf_object__open_mem(address, len(data), None)
            if pointer:
                library.bpf_object__close(pointer)
            del hold
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        ended = signal.Signals(os.WTERMSIG(status)).name
        raise Fault("load", f"open object {name}", f"it is damaged: libbpf does not survive reading it ({ended})")
