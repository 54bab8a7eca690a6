"""Every program and map in the kernel, and which processes hold them."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from . import bpf, maps
from .fault import from_errno

_PROGRAM_TYPES = dict(
    enumerate(
        "unspec socket_filter kprobe sched_cls sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in "
        "lwt_out lwt_xmit sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local "
        "lirc_mode2 sk_reuseport flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing "
        "struct_ops ext lsm sk_lookup syscall netfilter".split()
    )
)
_IDS = {"prog_id": "program", "map_id": "map"}
# Of JSON text: some hundreds of rows. Far below what a frame holds, and the guard's clock is looked at in between.
PAGE_BYTES = 1 << 16

_Owners = dict[tuple[str, int], set[tuple[int, str]]]


class Page(NamedTuple):
    """Some of the programs and maps, as the protocol has them, and whether there are more."""

    programs: list[dict[str, Any]]
    maps: list[dict[str, Any]]
    more: bool


def pages(page_bytes: int = PAGE_BYTES) -> Iterator[Page]:
    """Give every program and map in pieces; raises `Fault` without the right to list them.

    Between two pieces nothing is held: a list that nobody reads to its end keeps no map alive.
    """
    owners = _owners()
    page, size = Page([], [], True), 0
    for is_map, row in _rows(owners):
        row_bytes = len(json.dumps(row))
        if size + row_bytes > page_bytes and size:
            yield page
            page, size = Page([], [], True), 0
        size += row_bytes
        (page.maps if is_map else page.programs).append(row)
    yield page._replace(more=False)


def _rows(owners: _Owners) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Describe every program, then every map, and say which it is."""
    try:
        for row in _each(bpf.PROG_GET_NEXT_ID, bpf.PROG_GET_FD_BY_ID, _program, owners):
            yield False, row
        for row in _each(bpf.MAP_GET_NEXT_ID, bpf.MAP_GET_FD_BY_ID, _map, owners):
            yield True, row
    except OSError as error:
        raise from_errno("host", "list the kernel's programs and maps", error.errno or 0, ("SYS_ADMIN",)) from error


def _each(
    next_command: int, open_command: int, read: Callable[[int, int, _Owners], dict[str, Any]], owners: _Owners
) -> Iterator[dict[str, Any]]:
    """Describe all objects of a kind by their ids; the descriptor of each is closed before it is given."""
    number: int | None = 0
    while (number := bpf.next_id(next_command, number or 0)) is not None:
        fd = bpf.fd_by_id(open_command, number)
        if fd is not None:
            try:
                row = read(number, fd, owners)
            finally:
                os.close(fd)
            yield row


def _program(number: int, fd: int, owners: _Owners) -> dict[str, Any]:
    info = bpf.prog_info(fd)
    return {
        "id": number,
        "name": info.name.decode(errors="replace"),
        "type": _PROGRAM_TYPES.get(info.type, str(info.type)),
        "uid": info.created_by_uid,
        "loaded_s": info.load_time / 1e9,
        "run_time_ns": info.run_time_ns,
        "run_cnt": info.run_cnt,
        "missed_runs": info.recursion_misses,
        "tag": bytes(info.tag).hex(),
        "xlated_bytes": info.xlated_prog_len,
        "jited_bytes": info.jited_prog_len,
        "map_ids": bpf.prog_map_ids(fd),
        "pids": sorted(owners["program", number]),
    }


def _map(number: int, fd: int, owners: _Owners) -> dict[str, Any]:
    info = maps.info(fd)
    return {
        "id": number,
        "name": info.name,
        "type": info.type_name,
        "key_size": info.key_size,
        "value_size": info.value_size,
        "max_entries": info.max_entries,
        "memory_bytes": bpf.memlock_bytes(fd),
        "pids": sorted(owners["map", number]),
    }


def _owners() -> _Owners:
    """("program" or "map", id) -> processes (pid, comm) that hold it, by itself or by a link to it."""
    result: _Owners = collections.defaultdict(set)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as text:
                owner = (int(pid), text.read().strip())
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("anon_inode:bpf"):
                    for what in _held(pid, fd):
                        result[what].add(owner)
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
    return result


def _held(pid: str, fd: str) -> Iterator[tuple[str, int]]:
    with open(f"/proc/{pid}/fdinfo/{fd}") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key in _IDS:
                yield _IDS[key], int(value)
