"""Programs of traffic control: a tcx link, or a filter of the classic hook, which nothing but the agent removes."""

from __future__ import annotations

import ctypes as C
import errno as errnos
import os
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

from .. import bpf_links, kinds, libbpf
from ..fault import Fault
from ..keeper import Keeper
from ..libbpf import Library
from .handles import Context, Handle
from .interfaces import exists, index_of
from .links import OwnLink
from .refused import refused

if TYPE_CHECKING:
    from ..declared import Program

_WAYS = {"ingress": kinds.TCX_INGRESS, "egress": kinds.TCX_EGRESS}
_POINTS = {"ingress": 1, "egress": 2}  # BPF_TC_INGRESS, BPF_TC_EGRESS
_BLOCKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}  # the two parents of filters of a clsact qdisc
# What a kernel says that has no tcx: before e420bed02507 ("bpf: Add fd-based tcx multi-prog infra with link support"),
# v6.6, or without CONFIG_NET_XGRESS.
_NO_TCX = frozenset({errnos.EINVAL, errnos.EOPNOTSUPP})
_GONE = frozenset({errnos.ENOENT, errnos.ENODEV, errnos.EINVAL})
_RTM_GETTFILTER, _NLMSG_ERROR, _NLMSG_DONE, _DUMP = 46, 2, 3, 0x301


def tc(context: Context, program: Program, target: str) -> list[Handle]:
    """Attach to ``INTERFACE[:ingress|egress][:PRIORITY]``; with a priority to the classic hook; raises `Fault`."""
    what = f"attach tc {target}"
    name, way, priority = _parse(program, target, what)
    index = index_of(program, name, target)
    prog_fd = context.library.bpf_program__fd(program.pointer)
    try:
        if not priority:
            try:
                return [OwnLink(bpf_links.link_create(prog_fd, index, _WAYS[way]))]
            except OSError as error:
                if error.errno not in _NO_TCX:
                    raise
        made = Filter(context.library, index, way, prog_fd, priority)
        try:
            made.keep()
        except OSError:
            made.close()
            raise
        return [made]
    except OSError as error:
        reasons = {
            errnos.ENODEV: "the interface is gone",
            errnos.ENOENT: "this kernel has no tcx and no clsact qdisc (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)",
            errnos.EEXIST: f"another filter, of another kind, has priority {priority}",
            errnos.EINVAL: f"the kernel refused it: another kind of filter may have priority {priority}"
            if priority
            else "the kernel refused it",
        }
        raise refused(program, what, target, error.errno or 0, [], reasons) from None


def _parse(program: Program, target: str, what: str) -> tuple[str, str, int]:
    """Interface, way and priority (0: none named) of a target; the way may stand in the section alone."""
    said = {kinds.TCX_INGRESS: "ingress", kinds.TCX_EGRESS: "egress"}.get(program.attach_type, "")
    about: dict[str, Any] = {"program": program.name, "target": target}
    name, *words = target.split(":")
    way = words.pop(0) if words and not words[0].isdecimal() else said
    if way not in _WAYS or len(words) > 1 or (words and not words[0].isdecimal()):
        why = "it is written INTERFACE:ingress or INTERFACE:egress, and :PRIORITY after it for the classic hook"
        raise Fault("attach", what, why, f"Such as --attach {program.name}=tc:{name}:ingress.", **about)
    if said and way != said:
        raise Fault("attach", what, f'its section says {said}: SEC("{program.section}")', **about)
    priority = int(words[0]) if words else 0
    if words and not 0 < priority < 1 << 16:
        raise Fault("attach", what, f"a priority is 1 to 65,535, not {priority}", **about)
    return name, way, priority


class Filter:
    """A filter of the clsact qdisc, which is made for the first one where there is none and goes with the last."""

    _lock = threading.Lock()
    # Network namespace and interface -> our filters in a qdisc that we made. Every namespace has an interface 1.
    _made: dict[tuple[int, int], int] = {}  # noqa: RUF012

    def __init__(self, library: Library, index: int, way: str, prog_fd: int, priority: int) -> None:
        self._library = library
        self._index = index
        self._place = (os.stat("/proc/thread-self/ns/net").st_ino, index)
        self._hook = libbpf.TcHook(C.sizeof(libbpf.TcHook), index, _POINTS[way], 0)
        with self._lock, library.printed():
            error = -library.bpf_tc_hook_create(C.byref(self._hook))
            if error not in (0, errnos.EEXIST):
                raise OSError(error, os.strerror(error))
            if error == 0:
                self._made[self._place] = 0
            opts = libbpf.TcOpts(sz=C.sizeof(libbpf.TcOpts), prog_fd=prog_fd, priority=priority)
            error = -library.bpf_tc_attach(C.byref(self._hook), C.byref(opts))
            if error:
                self._leave_qdisc()
                raise OSError(error, os.strerror(error))
            if self._place in self._made:
                self._made[self._place] += 1
        self._filter: tuple[int, int] | None = (opts.handle, opts.priority)
        self._keeper: Keeper | None = None

    @property
    def lost(self) -> bool:
        """Whether the interface is gone."""
        return not exists(self._index)

    def keep(self) -> None:
        """Have it removed when this process is killed as well; raises OSError."""
        assert self._filter is not None
        numbers = [self._index, self._hook.attach_point, *self._filter, int(self._place in self._made)]
        self._keeper = Keeper("attach.traffic.clear", numbers)

    def close(self) -> None:
        """Remove the filter, and the qdisc if we made it and nobody else has a filter in it."""
        found, self._filter = self._filter, None
        if found is None:
            return
        with self._lock, self._library.printed():
            _remove(self._library, self._hook, *found)
            if self._place in self._made:
                self._made[self._place] -= 1
            self._leave_qdisc()
        if self._keeper is not None:
            self._keeper.dismiss()

    def _leave_qdisc(self) -> None:
        if self._made.get(self._place) == 0:
            del self._made[self._place]
            _destroy_if_empty(self._library, self._index)


def clear(index: int, point: int, handle: int, priority: int, is_our_qdisc: int) -> None:
    """Remove the filter of an agent that was killed, and the qdisc if that made it and no other filter is in it."""
    library = Library()
    _remove(library, libbpf.TcHook(C.sizeof(libbpf.TcHook), index, point, 0), handle, priority)
    if is_our_qdisc:
        _destroy_if_empty(library, index)


def _remove(library: Library, hook: libbpf.TcHook, handle: int, priority: int) -> None:
    opts = libbpf.TcOpts(sz=C.sizeof(libbpf.TcOpts), handle=handle, priority=priority)
    error = -library.bpf_tc_detach(C.byref(hook), C.byref(opts))
    if error and error not in _GONE:
        print(f"tc filter on interface {hook.ifindex} stayed: {os.strerror(error)}", file=sys.stderr)


def _destroy_if_empty(library: Library, index: int) -> None:
    if exists(index) and not any(_has_filters(index, parent) for parent in _BLOCKS.values()):
        whole = libbpf.TcHook(C.sizeof(libbpf.TcHook), index, sum(_POINTS.values()), 0)
        library.bpf_tc_hook_destroy(C.byref(whole))


def _has_filters(index: int, parent: int) -> bool:
    """Ask the kernel by netlink whether an interface has filters, of whatever kind, on one side of its qdisc."""
    header = struct.Struct("=IHHII")
    body = struct.pack("=BxxxiIII", 0, index, 0, parent, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.send(header.pack(header.size + len(body), _RTM_GETTFILTER, _DUMP, 1, 0) + body)
        _, kind, *_ = header.unpack_from(link.recv(1 << 16))
    return kind not in (_NLMSG_ERROR, _NLMSG_DONE)
