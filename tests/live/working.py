"""Work where a host's programs run: a command and what it says, and what goes on until told to end."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from typing import Any

from objects import eventually

from ebpf_magic.hosts.base import AgentHost


def told(host: AgentHost, command: str) -> str:
    """Run a command; what it says."""
    said: list[str] = []
    host.sh(command, on_output=said.append)
    return "".join(said)


# For `children(count, name)`: processes of a name of their own, which end with the one that made them.
_HELP = """
import ctypes, json, os, signal, sys, time
def children(count, name):
    ready, made = os.pipe(), []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            ctypes.CDLL(None).prctl(15, name.encode())
            os.write(ready[1], b".")
            while True:
                time.sleep(1000)
        made.append(pid)
    said = b""
    while len(said) < count:
        said += os.read(ready[0], count)
    return made
def wait(**what):
    print(json.dumps({"pid": os.getpid(), **what}), flush=True)
    while True:
        time.sleep(1000)
"""


@contextlib.contextmanager
def working(host: AgentHost, program: str) -> Iterator[dict[str, Any]]:
    """Run a Python program that ends with ``wait(...)``; what it gave to that, and its ``pid``."""
    command = host.sh(f"exec python3 -I -S -c {shlex.quote(_HELP + program)}", background=True)
    try:
        assert eventually(lambda: command.output().endswith("}\n"), 30), command.output()
        yield json.loads(command.output().splitlines()[-1])
    finally:
        command.kill()
        command.wait(10)
