"""The agent's process: serves the socket (or byte stream) on descriptor 0 until its other end is gone."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import socket
import stat
import sys
from types import FrameType

from .server import serve
from .wire import Channel

_MAX_FILES = 1 << 16  # each map, program and link is one; and a plain user's limit is often 1,024


def main(shell: bool = False) -> int:
    """Serve descriptor 0; on SIGTERM and SIGHUP clean up as well.

    Parameters
    ----------
    shell : bool
        Also run commands for the other end: only where its user owns all that this process may touch, as in a VM.
    """
    faulthandler.enable()  # libbpf does not survive every damaged object: then at least stderr says where it was
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MAX_FILES if hard == resource.RLIM_INFINITY else min(_MAX_FILES, hard)
    if most > soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    # Away from 0 to 2, so that no later open() ends up there and nothing printed ends up in the protocol.
    fd = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    os.set_inheritable(fd, False)
    os.set_blocking(fd, False)
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return serve(Channel(read_fd=fd, write_fd=fd), shell)
    return serve(Channel(sock=socket.socket(fileno=fd)), shell)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
