"""Programs of sockets: those of a map, those that share a port, and one of the agent's own that sees packets."""

from __future__ import annotations

import errno as errnos
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

from .. import bpf_links, kinds, near, processes
from ..fault import Fault
from .handles import Context, Handle
from .interfaces import exists, index_of
from .links import OwnLink
from .refused import refused

if TYPE_CHECKING:
    from ..declared import Program

_MAPS = ("sockmap", "sockhash")
_ATTACH_BPF, _ATTACH_REUSEPORT, _DETACH_REUSEPORT = 50, 52, 68  # SO_ATTACH_BPF and its kin
_ALL_PACKETS = 3  # ETH_P_ALL
_PORT = re.compile(r"(tcp|udp|tcp6|udp6)/(\d{1,5})")


class OnMap:
    """A program on the sockets of a map, attached without a link."""

    def __init__(self, prog_fd: int, map_fd: int, attach_type: int) -> None:
        bpf_links.prog_attach(prog_fd, map_fd, attach_type)
        self._what: tuple[int, int, int] | None = (prog_fd, map_fd, attach_type)

    def close(self) -> None:
        """Detach it, while program and map are still ours."""
        what, self._what = self._what, None
        if what:
            try:
                bpf_links.prog_detach(*what)
            except OSError as error:
                if error.errno != errnos.ENOENT:  # somebody else has detached it
                    raise


def in_map(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to the sockets of a sockmap or sockhash of the session, present and to come; raises `Fault`."""
    what = f"attach {program.kind} {target}"
    item = context.maps.get(target)
    fitting = [name for name, other in context.maps.items() if other.info.type_name in _MAPS]
    about: dict[str, Any] = {"program": program.name, "target": target}
    hint = f"Maps of sockets: {', '.join(fitting) or 'none'}."
    if item is None:
        raise Fault("attach", what, "the cell has no such map", hint, near=near.close(target, fitting), **about)
    if item.info.type_name not in _MAPS:
        why = f"map {target} is a {item.info.type_name}, and not a sockmap or sockhash"
        raise Fault("attach", what, why, hint, near=fitting, **about)
    prog_fd = context.library.bpf_program__fd(program.pointer)
    attach_type = program.attach_type or kinds.ON_SKB_VERDICT  # SEC("sk_skb") says none
    try:
        try:
            return [OwnLink(bpf_links.link_create(prog_fd, item.fd, attach_type), has_target=False)]
        except OSError as error:
            # Before 699c23f02c65 ("bpf: Add bpf_link support for sk_msg and sk_skb progs"), v6.10, there is no link.
            if error.errno != errnos.EINVAL:
                raise
            return [OnMap(prog_fd, item.fd, attach_type)]
    except OSError as error:
        reasons = {
            errnos.EBUSY: "another program of this kind is attached to the map",
            errnos.EOPNOTSUPP: "this kernel lacks CONFIG_BPF_STREAM_PARSER, or the map takes no such program",
        }
        raise refused(program, what, target, error.errno or 0, [], reasons) from None


class PacketSocket:
    """A socket nobody reads: its filter sees every packet of an interface, and what it keeps fills a short queue."""

    def __init__(self, prog_fd: int, index: int, name: str) -> None:
        self._index = index
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the kernel makes it the least there is
            self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_BPF, prog_fd)
            self._socket.bind((name, _ALL_PACKETS))
        except BaseException:
            self._socket.close()
            raise

    @property
    def lost(self) -> bool:
        """Whether the interface is gone."""
        return not exists(self._index)

    def close(self) -> None:
        """Close the socket, and with it the filter."""
        self._socket.close()


def packets(context: Context, program: Program, target: str) -> list[Handle]:
    """Run on a copy of each packet that an interface receives or sends; raises `Fault`."""
    index = index_of(program, target, target)
    try:
        return [PacketSocket(context.library.bpf_program__fd(program.pointer), index, target)]
    except OSError as error:
        raise refused(program, f"attach socket {target}", target, error.errno or 0, [], {}) from None


class OnPort:
    """A program that chooses among the sockets of a port, set on one of them.

    The kernel lets a second program take the place of the first without a word, and takes out whichever is there.
    """

    _lock = threading.Lock()
    _newest: dict[tuple[int, int, int], OnPort] = {}  # noqa: RUF012  # family, kind and port -> whose program is there

    def __init__(self, prog_fd: int, owner: socket.socket) -> None:
        self._socket = owner
        self._port = (int(owner.family), int(owner.type), owner.getsockname()[1])
        with self._lock:
            owner.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT, prog_fd)
            self._newest[self._port] = self

    def close(self) -> None:
        """Give the choice back to the kernel, unless another program of this process has it by now."""
        with self._lock, self._socket:
            if self._newest.get(self._port) is not self:
                return
            del self._newest[self._port]
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _DETACH_REUSEPORT, 0)
            except OSError as error:
                if error.errno != errnos.ENOENT:  # somebody has taken it out
                    raise


def reuseport(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to the sockets that share ``udp/PORT`` or ``tcp/PORT`` by SO_REUSEPORT; raises `Fault`."""
    what = f"attach sk_reuseport {target}"
    about: dict[str, Any] = {"program": program.name, "target": target}
    match = _PORT.fullmatch(target)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise Fault(
            "attach",
            what,
            "it is written udp/PORT or tcp/PORT",
            f"Such as --attach {program.name}=port:udp/5353.",
            **about,
        )
    inodes = _bound(match[1], int(match[2]))
    if not inodes:
        raise Fault(
            "attach", what, f"no socket is bound to {target}", "Open the sockets before the cell runs.", **about
        )
    try:
        owner = _copy(inodes)
        if owner is None:
            raise Fault("attach", what, f"no process holds a socket of {target} that can be reached", **about)
        try:
            return [OnPort(context.library.bpf_program__fd(program.pointer), owner)]
        except BaseException:
            owner.close()
            raise
    except OSError as error:
        reasons = {errnos.EINVAL: "its sockets do not share the port by SO_REUSEPORT, or do not listen"}
        raise refused(program, what, target, error.errno or 0, [], reasons) from None


def _bound(protocol: str, port: int) -> set[str]:
    """Inode numbers of the sockets of this network namespace that are bound to a port."""
    with open(f"/proc/net/{protocol}") as lines:
        rows = [line.split() for line in lines][1:]
    listening = "0A" if protocol.startswith("tcp") else "07"
    return {row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port and row[3] == listening}


def _copy(inodes: set[str]) -> socket.socket | None:
    """Descriptor of our own for one of those sockets, wherever it is held."""
    names = {f"socket:[{inode}]" for inode in inodes}
    for pid in processes.all_ids():
        for number, name in processes.sockets(pid):
            fd = processes.copy(pid, number) if name in names else None
            if fd is not None:
                return socket.socket(fileno=fd)
    return None
