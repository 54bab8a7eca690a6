"""Network interfaces by name."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from .. import near
from ..fault import Fault

if TYPE_CHECKING:
    from ..declared import Program


def index_of(program: Program, name: str, target: str) -> int:
    """Index of an interface of the agent's network namespace; raises `Fault` with the near names."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        names = [known for _, known in socket.if_nameindex()]
        raise Fault(
            "attach",
            f"attach {program.kind} {target}",
            f"no such interface: {name}",
            f"Interfaces: {', '.join(names)}.",
            near=near.close(name, names),
            errno=error.errno,
            program=program.name,
            target=target,
        ) from None


def exists(index: int) -> bool:
    """Whether the interface of that index is still there."""
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True
